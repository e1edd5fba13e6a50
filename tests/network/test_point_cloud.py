import math

import torch

from eqpot.neighbors import build_graph
from eqpot.network.invariants import legendre_polynomials, spherical_harmonics
from eqpot.network.point_cloud import PointCloudBlock
from helpers import crystal


def test_messages_are_the_sums_over_triplets():
    """The sums that the class's docstring writes, term by term, over an explicit list of pairs of edges."""
    torch.manual_seed(0)
    degree, channels, width = 3, 4, 6
    block = PointCloudBlock(degree, channels, width, widening=2, average_neighbors=5.0).double().requires_grad_(False)
    torch.nn.init.normal_(block.fibre_kernel)
    graph = build_graph(crystal(), 3.5)
    source, target = graph.edge_index
    n_edges = len(source)
    directions = torch.nn.functional.normalize(torch.randn(n_edges, 3, dtype=torch.float64), dim=1)
    radial, nodes = torch.randn(n_edges, width, dtype=torch.float64), torch.randn(n_edges, channels, dtype=torch.float64)
    obtained = block.messages(nodes, graph.n_atoms, radial, spherical_harmonics(directions, degree), source, target)

    sender = block.sender_kernel(radial).view(n_edges, degree + 1, channels)
    receiver = block.receiver_kernel(radial).view(n_edges, degree + 1, channels)
    legendre = legendre_polynomials(directions @ directions.T, degree)
    expected = torch.zeros_like(nodes)
    for e in range(n_edges):
        for sent in range(n_edges):
            for n in range(degree + 1):
                term = (2 * n + 1) * legendre[n][e, sent] * sender[sent, n] * nodes[sent]
                expected[e] += receiver[e, n] * term * bool(target[sent] == source[e])
                expected[e] += block.fibre_kernel[n] * term * bool(target[sent] == target[e])
    assert n_edges > 15
    torch.testing.assert_close(obtained, expected / (math.sqrt(5.0) * (degree + 1)), rtol=1e-10, atol=1e-10)
