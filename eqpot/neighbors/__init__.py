"""Neighbour lists: pairs of atoms closer than a cutoff, in any cell."""

from eqpot.neighbors.registry import BUILDERS, build_graph, neighbor_list

__all__ = ["BUILDERS", "build_graph", "neighbor_list"]
