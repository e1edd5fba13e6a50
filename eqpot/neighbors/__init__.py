"""Neighbour lists: pairs of atoms closer than a cutoff, in any cell."""

import numpy as np
from ase import Atoms

from eqpot.graph import AtomGraph
from eqpot.neighbors.registry import BUILDERS
from eqpot.neighbors.verlet import VerletList

__all__ = ["BUILDERS", "VerletList", "build_graph", "neighbor_list"]


def neighbor_list(atoms: Atoms, cutoff: float, builder: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of atoms, images included, that are closer than the cutoff.

    Returns `edge_index` [2, n_edges] (row 0 the source j, row 1 the target i) and integer `shifts` [n_edges, 3], with
    r = x_j + shifts @ cell - x_i; no self pair at zero shift, every pair in both directions, sorted by target, source and shift.
    Any cell, any pbc mask, atoms anywhere; `atoms` is not changed. An infinite cutoff gives all pairs of an open structure.
    builder: one of `BUILDERS`, or "auto" for the fastest that is installed; all give the same list to the last bit.

    Raises NeighborError for positions that are not finite, a periodic direction without length or a periodic cell without
    volume, atoms that lie on top of each other, a density or a cell that no machine holds the neighbours of, and a periodic structure
    with an infinite cutoff; ConfigError for an unknown or missing builder, or a cutoff that is not positive.
    """
    graph = build_graph(atoms, cutoff, builder)
    return graph.edge_index.numpy(), graph.shifts.numpy()


def build_graph(atoms: Atoms, cutoff: float, builder: str = "auto") -> AtomGraph:
    """Return the `AtomGraph` of one structure; see `neighbor_list` for the errors."""
    return VerletList(cutoff, skin=0.0, builder=builder).graph(atoms)
