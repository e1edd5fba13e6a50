"""What every network has in common, and all that a `Potential`, training and model files know of one."""

import torch
from torch import nn

from eqpot.network.config import NetworkConfig


class Network(nn.Module):
    """A map from edge vectors and species to atomic energies, dimensionless.

    forward(vectors [n_edges, 3] in Å, species [n_atoms] indices of elements, edge_index [2, n_edges] sorted by target) returns
    [n_atoms]; it must be invariant under translations and permutations, extensive, and smooth where an edge reaches the cutoff.
    """

    def __init__(self, config: NetworkConfig, n_elements: int, average_neighbors: float) -> None:
        super().__init__()
        self.config = config
        self.n_elements = n_elements
        self.average_neighbors = average_neighbors
        self.embedding = nn.Embedding(n_elements, config.n_channels)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, and of the vectors that the network takes."""
        return self.embedding.weight.dtype

    def stored_orientations(self) -> torch.Tensor | None:
        """Return the grid [n_orientations, 3] (float64, CPU) that belongs to the weights, or None for a network without one."""
        return None
