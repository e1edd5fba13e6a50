"""The one place that knows which class a configuration means."""

import torch

from eqpot.network.base import Network
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre_bundle import FibreBundleNetwork


def build_network(config: NetworkConfig, n_elements: int, average_neighbors: float, orientations: torch.Tensor | None = None) -> Network:
    """Return the network of a configuration, with random weights.

    average_neighbors: mean number of neighbours in the training data, which divides the messages. orientations [n_orientations, 3],
    float64: the grid stored with trained weights; by default the known design. Networks without a grid ignore it.
    """
    return FibreBundleNetwork(config, n_elements, average_neighbors, orientations)
