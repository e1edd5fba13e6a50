"""The network on a point cloud in R^3 x S^2 (Bekkers et al., ICLR 2024): every edge is a node with its direction as orientation."""

import math

import torch
from torch import nn

from eqpot.network.base import Network
from eqpot.network.config import NetworkConfig
from eqpot.network.invariants import spherical_harmonics
from eqpot.network.perceptron import ResidualPerceptron, make_readout
from eqpot.network.radial import RadialNetwork


class PointCloudBlock(nn.Module):
    """Messages between the nodes of neighbouring atoms and of one atom, the perceptron of a node, and the mean over an atom's nodes.

    Write (j i) for the node at atom i that points to its neighbour j, with length r and direction u. It receives

        sum_k sum_l R_l(r_ji) S_l(r_kj) (2l + 1) P_l(u_kj . u_ji) f_kj   from the nodes of its neighbour: the convolution over space,
        sum_k sum_l q_l S_l(r_ki) (2l + 1) P_l(u_ki . u_ji) f_ki         from the nodes of its own atom: the fibre convolution.

    By the addition theorem, (2l + 1) P_l(u . u') = sum_m Y_lm(u) Y_lm(u'), both need one sum over the edges,
    A_j,lm = sum_k S_l(r_kj) Y_lm(u_kj) f_kj, and no list of triplets: the cost grows with the edges and not with their square.
    S_l and R_l vanish smoothly at the cutoff, so a node that comes or goes is not felt.
    """

    degree_of: torch.Tensor

    def __init__(self, degree: int, n_channels: int, radial_width: int, widening: int, average_neighbors: float) -> None:
        super().__init__()
        self.n_degrees = degree + 1
        self.n_channels = n_channels
        self.sum_norm = 1 / math.sqrt(average_neighbors)
        self.kernel_norm = 1 / (degree + 1)
        self.sender_kernel = nn.Linear(radial_width, self.n_degrees * n_channels, bias=False)
        self.receiver_kernel = nn.Linear(radial_width, self.n_degrees * n_channels, bias=False)
        self.fibre_kernel = nn.Parameter(torch.ones(self.n_degrees, n_channels))
        self.own_kernel = nn.Parameter(torch.ones(n_channels))
        self.perceptron = ResidualPerceptron(n_channels, widening)
        self.mean_kernel = nn.Linear(radial_width, n_channels, bias=False)
        self.readout = make_readout(n_channels)
        degree_of = [n for n in range(degree + 1) for _ in range(2 * n + 1)]
        self.register_buffer("degree_of", torch.tensor(degree_of), persistent=False)

    def messages(
        self,
        nodes: torch.Tensor,
        n_atoms: int,
        radial_features: torch.Tensor,
        harmonics: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
    ) -> torch.Tensor:
        """Return the two sums of the class, [n_edges, C], from the nodes [n_edges, C]."""
        sender = self.sender_kernel(radial_features).view(-1, self.n_degrees, self.n_channels) * nodes.unsqueeze(1)
        receiver = self.receiver_kernel(radial_features).view(-1, self.n_degrees, self.n_channels)
        sent = sender.index_select(1, self.degree_of) * harmonics.unsqueeze(-1)
        empty = torch.zeros([n_atoms, sent.shape[1], self.n_channels], dtype=sent.dtype, device=sent.device)
        atoms = empty.index_add(0, target, sent) * (self.sum_norm * self.kernel_norm)
        over_space = receiver.index_select(1, self.degree_of) * atoms.index_select(0, source)
        over_fibre = (self.fibre_kernel.index_select(0, self.degree_of) * atoms).index_select(0, target)
        return ((over_space + over_fibre) * harmonics.unsqueeze(-1)).sum(dim=1)

    def forward(
        self,
        nodes: torch.Tensor,
        scalars: torch.Tensor,
        radial_features: torch.Tensor,
        harmonics: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map nodes [n_edges, C] to new ones and, with the elements' embeddings [n_atoms, C], to atomic energies [n_atoms]."""
        messages = self.messages(nodes, scalars.shape[0], radial_features, harmonics, source, target)
        nodes = self.perceptron(nodes, messages + self.own_kernel * nodes)
        weighted = self.mean_kernel(radial_features) * nodes
        mean = torch.zeros_like(scalars).index_add(0, target, weighted) * self.sum_norm
        return nodes, self.readout(scalars + mean).squeeze(-1)


class PointCloudNetwork(Network):
    """Atomic energies from edge vectors and species, dimensionless: features are scalars at the edges.

    Nodes see lengths and the angles between edges as Legendre polynomials of their cosines. All of these are
    invariant, so it is exactly equivariant and smooth for all r > 0, collinear edges included.
    """

    def __init__(self, config: NetworkConfig, n_elements: int, average_neighbors: float) -> None:
        super().__init__(config, n_elements, average_neighbors, config.n_channels)
        degree, channels, width = config.kernel_degree, config.n_channels, config.radial_width
        self.kernel_degree = degree
        self.radial = RadialNetwork(n_elements, config.n_bessel, width, config.cutoff)
        self.lift = nn.Linear(width, channels)
        self.blocks = nn.ModuleList(
            PointCloudBlock(degree, channels, width, config.widening, average_neighbors) for _ in range(config.n_blocks)
        )

    def forward(self, vectors: torch.Tensor, species: torch.Tensor, edge_index: torch.Tensor) -> torch.Tensor:
        """Map edge vectors [n_edges, 3] (Å), species indices [n_atoms] and edges [2, n_edges] to atomic energies [n_atoms]."""
        source, target = edge_index[0], edge_index[1]
        lengths = torch.sqrt((vectors * vectors).sum(dim=-1))
        radial_features = self.radial(lengths, species.index_select(0, source), species.index_select(0, target))
        harmonics = spherical_harmonics(vectors / lengths.unsqueeze(-1), self.kernel_degree)
        scalars = self.embedding(species)
        nodes = self.lift(radial_features)
        energies = torch.zeros_like(scalars[:, 0])
        for block in self.blocks:
            nodes, share = block(nodes, scalars, radial_features, harmonics, source, target)
            energies = energies + share
        return energies
