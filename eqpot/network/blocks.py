"""Interaction blocks: messages from the neighbours, then what an atom does with their sum; exactly equivariant."""

import torch
from torch import nn

from eqpot.ghosts import NoGhosts
from eqpot.network.convolution import GridConvolution
from eqpot.network.fibre import FibreLinear, OrientationGrid, limit_norm


class ProductBlock(nn.Module):
    """Products on the grid, gates from invariants, and the block's share of the energy.

    From the messages a, bounded by `limit_norm`, it forms the fibre products q = P(v1 v2) and p = P(q v3), where v1, v2, v3
    are linear maps of a and P is the projection to the band L: correlations of two and three neighbours at a time. Their
    means over the orientations are invariant; linear maps of them give the update of the scalars and the gates of the update of
    the features, f + U(g1 a + g2 q + g3 p). A perceptron in place of the linear maps fits the training frames better and
    others worse.
    """

    def __init__(self, grid: OrientationGrid, degree: int, n_channels: int, is_last: bool) -> None:
        super().__init__()
        self.grid = grid
        self.n_channels = n_channels
        self.is_last = is_last
        self.factors = FibreLinear(degree, n_channels, 3 * n_channels)
        n_outputs = n_channels if is_last else 4 * n_channels
        self.gates = nn.Linear(4 * n_channels, n_outputs)
        self.update = nn.Identity() if is_last else FibreLinear(degree, n_channels, n_channels)
        self.readout = nn.Sequential(nn.Linear(n_channels, n_channels), nn.SiLU(), nn.Linear(n_channels, 1))

    def forward(
        self, features: torch.Tensor, scalars: torch.Tensor, messages: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return updated features [n_atoms, (L + 1)^2, C], updated scalars [n_atoms, C], and atomic energies [n_atoms].

        The last block leaves the features as they are: nothing reads them any more.
        """
        messages = limit_norm(messages)
        v1, v2, v3 = self.factors(messages).split(self.n_channels, dim=-1)
        double = self.grid.to_coefficients(self.grid.to_grid(v1) * self.grid.to_grid(v2))
        if self.is_last:
            # The mean over the orientations of a product of two features is the dot product of their coefficients.
            triple = double
            triple_mean = (double * v3).sum(dim=1)
        else:
            triple = self.grid.to_coefficients(self.grid.to_grid(double) * self.grid.to_grid(v3))
            triple_mean = triple[:, 0]
        outputs = self.gates(torch.cat([scalars, messages[:, 0], double[:, 0], triple_mean], dim=-1))
        scalars = scalars + outputs[:, : self.n_channels]
        if not self.is_last:
            g1, g2, g3 = outputs[:, self.n_channels :].unsqueeze(1).split(self.n_channels, dim=-1)
            features = features + self.update(g1 * messages + g2 * double + g3 * triple)
        return features, scalars, self.readout(scalars).squeeze(-1)


class InteractionBlock(nn.Module):
    """A convolution on the grid, mixed with the atom's own features, followed by a `ProductBlock`."""

    def __init__(
        self,
        grid: OrientationGrid,
        degree: int,
        kernel_degree: int,
        n_channels: int,
        radial_width: int,
        average_neighbors: float,
        is_last: bool,
    ) -> None:
        super().__init__()
        self.convolution = GridConvolution(grid, kernel_degree, n_channels, radial_width, average_neighbors)
        self.message_mixing = FibreLinear(degree, n_channels, n_channels)
        self.self_mixing = FibreLinear(degree, n_channels, n_channels)
        self.product = ProductBlock(grid, degree, n_channels, is_last)
        self.exchange: nn.Module = NoGhosts()

    def forward(
        self,
        features: torch.Tensor,
        scalars: torch.Tensor,
        radial_features: torch.Tensor,
        legendre: list[torch.Tensor],
        source: torch.Tensor,
        target: torch.Tensor,
        n_atoms: int,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return updated features, updated scalars and atomic energies of the local atoms, as `ProductBlock` does.

        n_atoms: how many there are with ghosts, of which `exchange` brings the features.
        """
        # The scalars are the part of the features that is constant over the orientations.
        joined = torch.cat([features[:, :1] + scalars.unsqueeze(1), features[:, 1:]], dim=1)
        convolved = self.convolution(self.exchange(joined, n_atoms), radial_features, legendre, source, target, joined.shape[0])
        messages = self.message_mixing(convolved) + self.self_mixing(joined)
        return self.product(features, scalars, messages)
