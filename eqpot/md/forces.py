"""Energies, forces and stresses of systems in motion, from a potential and a neighbour list that is kept."""

import os
from collections.abc import Sequence
from typing import Any

import torch
from ase import Atoms

from eqpot.data import batches_by_size
from eqpot.graph import AtomGraph
from eqpot.neighbors import VerletList
from eqpot.network.reference_config import ReferenceConfig
from eqpot.potential import Potential

_KEPT = 8
"""Numbers that the eager path keeps of an edge for the reverse pass, for every orientation and channel: 7.1 for the default network."""


class PotentialForces:
    """A `ForceFunction` of fixed systems.

    Systems are evaluated together as long as memory allows, and otherwise some at a time: their results do not depend on that. `graph`
    is that of the last call.
    """

    def __init__(self, systems: Sequence[Atoms], potential: Potential) -> None:
        device = potential.device
        self.potential = potential
        self.neighbors = VerletList(potential.cutoff)
        self.numbers = torch.cat([torch.tensor(atoms.numbers, dtype=torch.int64) for atoms in systems]).to(device)
        self.pbc = torch.stack([torch.tensor(atoms.pbc) for atoms in systems]).to(device)
        counts = torch.tensor([len(atoms) for atoms in systems])
        self.batch = torch.repeat_interleave(torch.arange(len(systems)), counts).to(device)
        self.graph: AtomGraph | None = None
        self._limit: int | None = 0
        self.mobile = torch.ones(len(self.numbers), 1, dtype=torch.float64, device=device)

    def __call__(self, positions: torch.Tensor, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if self.graph is not None and self.neighbors.is_whole:
            # The same pairs at every step; where positions are not finite, neither are the forces, and the watchdog says so.
            edge_index, shifts = self.graph.edge_index, self.graph.shifts
        else:
            edge_index, shifts = self.neighbors.candidates(positions, cells, self.pbc, self.batch)
        self.graph = AtomGraph(positions, self.numbers, cells, edge_index, shifts, self.batch)
        if self._limit == 0:
            self._limit = self._edges_at_a_time()
        parts = split(self.graph, self._limit)
        if len(parts) == 1:
            result = self.potential.evaluate(self.graph)
            return result["energy"], result["forces"] * self.mobile, result["stress"]
        results = [self.potential.evaluate(part) for part in parts]
        energy, forces, stress = (torch.cat([result[name] for result in results]) for name in ("energy", "forces", "stress"))
        return energy, forces * self.mobile, stress

    def _edges_at_a_time(self) -> int | None:
        """Return how many edges fit into half of the memory; None, all, where the fused kernel keeps next to nothing of an edge."""
        if self.potential.fused_kernel() is not None:
            return None
        free = free_memory(self.potential.device)
        return None if free is None else max(1, free // 2 // bytes_per_edge(self.potential))


def bytes_per_edge(potential: Potential) -> int:
    """Return about what the eager path keeps of an edge."""
    config: Any = potential.network.config
    is_reference = isinstance(config, ReferenceConfig)
    points, channels = (config.num_ori, config.kernel_basis_size) if is_reference else (config.n_orientations, config.n_channels)
    return _KEPT * max(points, 1) * channels * potential.dtype.itemsize


def free_memory(device: torch.device) -> int | None:
    """Return the bytes that are free on a device; None where the system does not tell."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None


def split(graph: AtomGraph, n_edges: int | None) -> list[AtomGraph]:
    """Cut a batch between structures into parts of at most so many edges; a larger structure is a part of its own."""
    if n_edges is None or graph.edge_index.shape[1] <= n_edges or graph.n_structures == 1:
        return [graph]
    counts = torch.bincount(graph.batch.index_select(0, graph.edge_index[1]), minlength=graph.n_structures).tolist()
    return [_part(graph, members[0], members[-1] + 1) for members in batches_by_size(counts, n_edges)]


def _part(graph: AtomGraph, first: int, end: int) -> AtomGraph:
    """Return the structures first ... end - 1 of a batch; atoms and edges are contiguous, as edges are sorted by target."""
    bounds = torch.tensor([first, end], device=graph.batch.device)
    start, stop = torch.searchsorted(graph.batch, bounds).tolist()
    edges = slice(*torch.searchsorted(graph.edge_index[1].contiguous(), torch.tensor([start, stop], device=bounds.device)).tolist())
    atoms = slice(start, stop)
    return AtomGraph(
        graph.positions[atoms],
        graph.numbers[atoms],
        graph.cells[first:end],
        graph.edge_index[:, edges] - start,
        graph.shifts[edges],
        graph.batch[atoms] - first,
    )
