"""The network on the fibre bundle R^3 x S^2 (Bekkers et al., ICLR 2024) in a smooth and exactly equivariant form."""

import torch
from torch import nn

from eqpot.network.base import Network
from eqpot.network.blocks import InteractionBlock, ProductBlock
from eqpot.network.config import NetworkConfig
from eqpot.network.convolution import LiftConvolution
from eqpot.network.fibre import FibreLinear, OrientationGrid
from eqpot.network.invariants import legendre_polynomials, spherical_harmonics
from eqpot.network.orientations import spherical_design
from eqpot.network.radial import RadialNetwork


class FibreBundleNetwork(Network):
    """Atomic energies from edge vectors and species, dimensionless.

    A feature is a function on R^3 x S^2: at every atom a function of the orientation n, of angular band L, in C channels.
    Convolution kernels depend on the invariants of an edge and an orientation, r and n . u, as Legendre series, so they are
    smooth for every r > 0. All angular algebra is polynomial and takes place on a spherical design of sufficient
    degree; non-linear functions act on invariants only. The energy is therefore invariant under rotations and
    reflections to rounding error.
    """

    def __init__(self, config: NetworkConfig, n_elements: int, average_neighbors: float, orientations: torch.Tensor | None = None) -> None:
        """`orientations` [n_orientations, 3], float64, are those stored with trained weights; by default the known design."""
        super().__init__(config, n_elements, average_neighbors, config.n_channels)
        self.config: NetworkConfig = config
        degree, channels, width = config.feature_degree, config.n_channels, config.radial_width
        self.feature_degree = degree
        self.kernel_degree = config.kernel_degree
        self.grid = OrientationGrid(spherical_design(config.n_orientations) if orientations is None else orientations, degree)
        self.radial: nn.Module = RadialNetwork(n_elements, config.n_bessel, width, config.cutoff)
        self.lift = LiftConvolution(degree, channels, width, average_neighbors)
        self.lift_mixing = FibreLinear(degree, channels, channels)
        self.lift_product = ProductBlock(self.grid, degree, channels, is_last=config.n_blocks == 1)
        self.blocks = nn.ModuleList(
            InteractionBlock(
                self.grid, degree, config.kernel_degree, channels, width, average_neighbors, is_last=block == config.n_blocks - 1
            )
            for block in range(1, config.n_blocks)
        )
        self.to(self.embedding.weight.dtype)

    def stored_orientations(self) -> torch.Tensor:
        return self.grid.exact_orientations

    def forward(self, vectors: torch.Tensor, species: torch.Tensor, edge_index: torch.Tensor, n_local: int | None = None) -> torch.Tensor:
        """Map edge vectors [n_edges, 3] (Å), species indices [n_atoms] and edges [2, n_edges] to atomic energies [n_local].

        n_local: atoms from there on are ghosts (`eqpot.ghosts`) that begin edges and end none; by default there are none.
        """
        n_atoms = species.shape[0]
        own = n_atoms if n_local is None else n_local
        source, target = edge_index[0], edge_index[1]
        lengths = torch.sqrt((vectors * vectors).sum(dim=-1))
        directions = vectors / lengths.unsqueeze(-1)
        radial_features = self.radial(lengths, species.index_select(0, source), species.index_select(0, target))
        harmonics = spherical_harmonics(directions, self.feature_degree)
        legendre = legendre_polynomials(torch.matmul(directions, self.grid.orientations.t()), self.kernel_degree)

        scalars = self.embedding(species)
        messages = self.lift_mixing(self.lift(scalars, radial_features, harmonics, source, target, own))
        scalars = scalars[:own]
        features, scalars, energies = self.lift_product(torch.zeros_like(messages), scalars, messages)
        for block in self.blocks:
            features, scalars, share = block(features, scalars, radial_features, legendre, source, target, n_atoms)
            energies = energies + share
        return energies
