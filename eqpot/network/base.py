"""What every network has in common, and all that a `Potential`, training and model files know of one."""

import torch
from torch import nn

from eqpot.network.config import NetworkConfig
from eqpot.network.reference_config import ReferenceConfig


class Network(nn.Module):
    """A map from edge vectors and species to atomic energies, dimensionless.

    forward(vectors [n_edges, 3] in Å, species [n_atoms] indices of elements, edge_index [2, n_edges] sorted by target) returns
    [n_atoms]; it must be invariant under translations and permutations, extensive, and smooth where an edge reaches the cutoff. (The
    official point cloud is not smooth there: see `eqpot.network.reference`.)
    """

    __jit_unused_properties__ = ["architecture"]  # noqa: RUF012 (torch.jit.script reads it)

    def __init__(self, config: NetworkConfig | ReferenceConfig, n_elements: int, average_neighbors: float, n_channels: int) -> None:
        """n_channels: numbers that stand for an element."""
        super().__init__()
        self.config = config
        self.n_elements = n_elements
        self.average_neighbors = average_neighbors
        self.embedding = nn.Embedding(n_elements, n_channels)

    @property
    def architecture(self) -> str:
        """The name of the network's class in model files."""
        return self.config.geometry if isinstance(self.config, NetworkConfig) else "ponita"

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, and of the vectors that the network takes."""
        return self.embedding.weight.dtype

    def stored_orientations(self) -> torch.Tensor | None:
        """Return the grid [n_orientations, 3] (float64, CPU) that belongs to the weights, or None for a network without one."""
        return None
