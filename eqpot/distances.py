"""How close atoms of two elements come to each other: in the data of a fit, and so what its potential knows."""

from collections.abc import Iterable, Mapping

import torch

from eqpot.elements import MAX_ATOMIC_NUMBER, numbers_of, symbols_of
from eqpot.graph import AtomGraph, edge_vectors

_N = MAX_ATOMIC_NUMBER + 1


def edge_lengths(graph: AtomGraph) -> torch.Tensor:
    """Return the lengths of the edges [n_edges], Å."""
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
    return torch.linalg.vector_norm(vectors, dim=1)


def shortest_distances(graphs: Iterable[AtomGraph]) -> dict[str, float]:
    """Return the shortest distance, Å, of every two elements that are neighbours anywhere, by names such as H-C: the lighter first."""
    shortest = torch.full([_N * _N], torch.inf, dtype=torch.float64)
    for graph in graphs:
        source, target = (graph.numbers.index_select(0, ends) for ends in graph.edge_index)
        pairs = torch.minimum(source, target) * _N + torch.maximum(source, target)
        shortest.scatter_reduce_(0, pairs, edge_lengths(graph), "amin")
    found = torch.nonzero(torch.isfinite(shortest)).flatten().tolist()
    return {"-".join(symbols_of(divmod(pair, _N))): float(shortest[pair]) for pair in found}


def distance_table(distances: Mapping[str, float]) -> torch.Tensor:
    """Return distances by the atomic numbers of both elements, [119, 119]; infinity where there is none. KeyError for other names."""
    table = torch.full([_N, _N], torch.inf, dtype=torch.float64)
    for name, distance in distances.items():
        first, second = numbers_of(name.split("-"))
        table[first, second] = table[second, first] = distance
    return table


def unknown_distance(graph: AtomGraph, table: torch.Tensor, share: float = 0.9) -> str | None:
    """Return a sentence on two atoms that are nearer than `share` of what the training data hold (`distance_table`), if there are such."""
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
    source, target = graph.numbers[graph.edge_index[0]], graph.numbers[graph.edge_index[1]]
    shortest, squares = table[source, target], vectors.square().sum(dim=1)
    close = squares < (share * shortest).square()
    if not bool(close.any()):
        return None
    edge = int(torch.where(close, squares / shortest.square(), torch.inf).argmin())
    atoms = " and ".join(f"{symbols_of([int(graph.numbers[i])])[0]} {int(i)}" for i in sorted(graph.edge_index[:, edge].tolist()))
    limit = float(shortest[edge])
    known = f"nearer than {limit:.2f} Å" if limit < torch.inf else "next to each other"
    return (
        f"Atoms {atoms} are {float(squares[edge]) ** 0.5:.2f} Å apart, and the training data have no two such atoms {known}: the potential "
        "extrapolates, and its forces may be wrong."
    )
