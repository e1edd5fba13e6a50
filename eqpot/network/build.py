"""The one place that knows which class a configuration means."""

import torch

from eqpot.network.base import Network
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.network.point_cloud import PointCloudNetwork
from eqpot.network.pointwise import PointwiseNetwork
from eqpot.network.position import PositionNetwork


def build_network(config: NetworkConfig, n_elements: int, average_neighbors: float, orientations: torch.Tensor | None = None) -> Network:
    """Return the network of a configuration, with random weights.

    average_neighbors: mean number of neighbours in the training data, which divides the messages. orientations [n_orientations, 3],
    float64: the grid stored with trained weights; by default the known design. Networks without a grid ignore it.
    """
    if config.geometry == "position":
        return PositionNetwork(config, n_elements, average_neighbors)
    if config.geometry == "point_cloud":
        return PointCloudNetwork(config, n_elements, average_neighbors)
    if config.block == "pointwise":
        return PointwiseNetwork(config, n_elements, average_neighbors, orientations)
    return FibreBundleNetwork(config, n_elements, average_neighbors, orientations)
