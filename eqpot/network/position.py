"""The network on positions alone, R^3 (Bekkers et al., ICLR 2024): kernels of the distance."""

import math

import torch
from torch import nn

from eqpot.network.base import Network
from eqpot.network.config import NetworkConfig
from eqpot.network.perceptron import ResidualPerceptron, make_readout
from eqpot.network.radial import RadialNetwork


class PositionBlock(nn.Module):
    """A convolution over space with one kernel of r for each channel, then the perceptron of an atom."""

    def __init__(self, n_channels: int, radial_width: int, widening: int, average_neighbors: float) -> None:
        super().__init__()
        self.norm = 1 / math.sqrt(average_neighbors)
        self.kernel = nn.Linear(radial_width, n_channels, bias=False)
        self.own_kernel = nn.Parameter(torch.ones(n_channels))
        self.perceptron = ResidualPerceptron(n_channels, widening)
        self.readout = make_readout(n_channels)

    def forward(
        self, features: torch.Tensor, radial_features: torch.Tensor, source: torch.Tensor, target: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map features [n_atoms, C] to new ones and to atomic energies [n_atoms]."""
        messages = self.kernel(radial_features) * features.index_select(0, source)
        total = torch.zeros_like(features).index_add(0, target, messages) * self.norm
        features = self.perceptron(features, total + self.own_kernel * features)
        return features, self.readout(features).squeeze(-1)


class PositionNetwork(Network):
    """Atomic energies from edge lengths and species, dimensionless: features are scalars at the atoms.

    Exactly equivariant, since it sees distances only. Angles enter through paths of two edges and more, so it is the
    weakest of the geometries and the cheapest.
    """

    def __init__(self, config: NetworkConfig, n_elements: int, average_neighbors: float) -> None:
        super().__init__(config, n_elements, average_neighbors, config.n_channels)
        self.radial = RadialNetwork(n_elements, config.n_bessel, config.radial_width, config.cutoff)
        self.blocks = nn.ModuleList(
            PositionBlock(config.n_channels, config.radial_width, config.widening, average_neighbors) for _ in range(config.n_blocks)
        )

    def forward(self, vectors: torch.Tensor, species: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Map edge vectors [n_edges, 3] (Å), species indices [n_atoms] and edges [2, n_edges] to atomic energies [n_atoms]."""
        source, target = edge_index[0], edge_index[1]
        lengths = torch.sqrt((vectors * vectors).sum(dim=-1))
        radial_features = self.radial(lengths, species.index_select(0, source), species.index_select(0, target))
        features = self.embedding(species)
        energies = torch.zeros_like(features[:, 0])
        for block in self.blocks:
            features, share = block(features, radial_features, source, target)
            energies = energies + share
        return energies
