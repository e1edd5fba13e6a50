"""The paper's network on the fibre bundle R^3 x S^2 (Bekkers et al., ICLR 2024) as a smooth, extensive potential."""

import torch
from torch import nn

from eqpot.network.base import Network
from eqpot.network.config import NetworkConfig
from eqpot.network.convolution import GridConvolution, LiftConvolution
from eqpot.network.fibre import OrientationGrid
from eqpot.network.invariants import legendre_polynomials, spherical_harmonics
from eqpot.network.orientations import spherical_design
from eqpot.network.perceptron import ResidualPerceptron, make_readout
from eqpot.network.radial import RadialNetwork
from eqpot.network.rotations import RotationGroup


class PointwiseUpdate(nn.Module):
    """The separable fibre convolution and the perceptron at every orientation.

    The fibre kernel Q(n_o . n_p) = sum_l w_l (2l + 1) P_l(n_o . n_p), one for each channel, multiplies the coefficients of
    degree l by w_l. The perceptron has no bound on its angular degree: this is where exact equivariance ends.
    """

    degree_of: torch.Tensor

    def __init__(self, grid: OrientationGrid, degree: int, n_channels: int, widening: int) -> None:
        super().__init__()
        self.grid = grid
        # An atom is its own neighbour at r = 0, where no direction exists: a constant takes the place of its kernel.
        self.own_kernel = nn.Parameter(torch.ones(n_channels))
        self.fibre_kernel = nn.Parameter(torch.ones(degree + 1, n_channels))
        self.perceptron = ResidualPerceptron(n_channels, widening)
        self.readout = make_readout(n_channels)
        degree_of = [n for n in range(degree + 1) for _ in range(2 * n + 1)]
        self.register_buffer("degree_of", torch.tensor(degree_of), persistent=False)

    def forward(self, features: torch.Tensor, convolved: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Map values [n_atoms, O, C] and the sums over neighbours [n_atoms, (L + 1)^2, C] to values and atomic energies [n_atoms]."""
        messages = convolved + self.own_kernel * self.grid.to_coefficients(features)
        messages = self.grid.to_grid(messages * self.fibre_kernel.index_select(0, self.degree_of))
        features = self.perceptron(features, messages)
        return features, self.readout(features.mean(dim=1)).squeeze(-1)


class PointwiseBlock(nn.Module):
    """A convolution over space on the grid, then a `PointwiseUpdate`."""

    def __init__(
        self,
        grid: OrientationGrid,
        degree: int,
        kernel_degree: int,
        n_channels: int,
        radial_width: int,
        widening: int,
        average_neighbors: float,
    ) -> None:
        super().__init__()
        self.convolution = GridConvolution(grid, kernel_degree, n_channels, radial_width, average_neighbors)
        self.update = PointwiseUpdate(grid, degree, n_channels, widening)

    def forward(
        self,
        features: torch.Tensor,
        radial_features: torch.Tensor,
        legendre: list[torch.Tensor],
        source: torch.Tensor,
        target: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map values [n_atoms, O, C] to new ones and to atomic energies [n_atoms]."""
        n_atoms = features.shape[0]
        return self.update(features, self.convolution.convolve_values(features, radial_features, legendre, source, target, n_atoms))


class PointwiseNetwork(Network):
    """Atomic energies from edge vectors and species, dimensionless; invariant under rotations approximately.

    Features are functions on R^3 x S^2, given by their values on a grid of orientations. Differences from the paper: kernels
    are Legendre series in n . u times a smooth window, so forces have no cones and neighbours come and go smoothly; sums are divided
    by the root of the average number of neighbours, and no LayerNorm follows (see `ResidualPerceptron`); the grid is a spherical
    design stored with the weights.

    `rotation_average` takes the mean of the energy over a fixed rotation group. The result is the energy of a network on the union
    of the rotated grids, so forces remain its gradient; the rotation error shrinks and the cost grows with the group.
    """

    def __init__(self, config: NetworkConfig, n_elements: int, average_neighbors: float, orientations: torch.Tensor | None = None) -> None:
        """`orientations` [n_orientations, 3], float64, are those stored with trained weights; by default the known design."""
        super().__init__(config, n_elements, average_neighbors, config.n_channels)
        degree, channels, width = config.feature_degree, config.n_channels, config.radial_width
        self.feature_degree = degree
        self.kernel_degree = config.kernel_degree
        self.n_rotations: int = config.rotation_average
        self.group = RotationGroup(self.n_rotations)
        self.grid = OrientationGrid(spherical_design(config.n_orientations) if orientations is None else orientations, degree)
        self.radial = RadialNetwork(n_elements, config.n_bessel, width, config.cutoff)
        self.lift = LiftConvolution(degree, channels, width, average_neighbors)
        self.lift_update = PointwiseUpdate(self.grid, degree, channels, config.widening)
        self.blocks = nn.ModuleList(
            PointwiseBlock(self.grid, degree, config.kernel_degree, channels, width, config.widening, average_neighbors)
            for _ in range(1, config.n_blocks)
        )
        self.to(self.embedding.weight.dtype)

    def stored_orientations(self) -> torch.Tensor:
        return self.grid.exact_orientations

    def forward(self, vectors: torch.Tensor, species: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Map edge vectors [n_edges, 3] (Å), species indices [n_atoms] and edges [2, n_edges] to atomic energies [n_atoms]."""
        source, target = edge_index[0], edge_index[1]
        lengths = torch.sqrt((vectors * vectors).sum(dim=-1))
        directions = vectors / lengths.unsqueeze(-1)
        radial_features = self.radial(lengths, species.index_select(0, source), species.index_select(0, target))
        scalars = self.embedding(species)
        energies = torch.zeros_like(scalars[:, 0])
        for index in range(self.n_rotations):
            turned = torch.matmul(directions, self.group.rotations[index])
            energies = energies + self.energies_on_grid(turned, radial_features, scalars, source, target)
        return energies / self.n_rotations

    def energies_on_grid(
        self, directions: torch.Tensor, radial_features: torch.Tensor, scalars: torch.Tensor, source: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Return atomic energies [n_atoms] for edge directions [n_edges, 3] as they stand to the grid."""
        harmonics = spherical_harmonics(directions, self.feature_degree)
        legendre = legendre_polynomials(torch.matmul(directions, self.grid.orientations.t()), self.kernel_degree)
        features = scalars.unsqueeze(1).expand(-1, self.grid.orientations.shape[0], -1)
        features, energies = self.lift_update(features, self.lift(scalars, radial_features, harmonics, source, target, scalars.shape[0]))
        for block in self.blocks:
            features, share = block(features, radial_features, legendre, source, target)
            energies = energies + share
        return energies
