"""From any structures to their pairs: checks, a builder, one order of the edges, and the line drawn at the cutoff."""

import math
import os
from dataclasses import replace
from typing import NoReturn

import numpy as np
import torch

from eqpot.errors import NeighborError
from eqpot.graph import AtomGraph, edge_vectors
from eqpot.neighbors.cells import are_flat, close_open_directions, reduce_cells, wrap
from eqpot.neighbors.registry import Builder, choose_builder
from eqpot.neighbors.torch_cell_list import torch_cell_list

CLOSEST_DISTANCE = 0.1
"""Å. Atoms closer than this lie on top of each other: no chemistry has them, and a potential's forces diverge."""

_MOST_NEIGHBORS = 10_000
"""Neighbours of an atom beyond which a structure or a cutoff cannot be meant; a dense solid has some hundreds."""

_MOST_ATOMS = 10_000
"""Atoms up to which all pairs are listed for a potential without a cutoff."""

_EDGE_BYTES = 150
"""Memory that an edge takes while its list is built."""

_HASH = (0x9E3779B97F4A7C1, 0x2545F4914F6CDD1D, 0x5851F42D4C957F2D, 0x14057B7EF767814F)

_PIECE = 1 << 14
"""Edges that are worked on at a time: fresh memory for all of them costs more than the arithmetic. A GPU takes more."""


def find_pairs(
    positions: torch.Tensor, cells: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor, cutoff: float, builder: str = "auto"
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return edge_index [2, n_edges] and shifts [n_edges, 3] of all pairs within the cutoff, and perhaps some just beyond it.

    Arguments as in `AtomGraph`, with pbc [n_structures, 3] bool. Edges are sorted by target, source and shift, so that every builder
    gives the same. Raises what `neighbor_list` raises.
    """
    chosen = choose_builder(builder, positions.device, bool(pbc.any()))
    _check_cells(cells, pbc)
    # Rounding must not lose a pair; `within` draws the line.
    reach = cutoff * (1 + 1e-7)
    try:
        cells, dual, integers = reduce_cells(cells, pbc)
        inside, counts = wrap(positions, dual, cells, batch)
        _check_density(inside, dual, batch, cutoff)
        if chosen.single:
            sources, targets, shifts = _one_by_one(chosen, inside, cells, pbc, batch, reach)
        else:
            (sources, targets), shifts = chosen.build(inside, cells, pbc, batch, reach)  # type: ignore[arg-type, misc, call-arg]
    except torch.OutOfMemoryError:
        # Of a GPU: programs that choose the size of a batch wait for it.
        raise
    except (RuntimeError, MemoryError) as error:
        raise NeighborError(
            f"The neighbour list of {len(positions)} atoms cannot be built ({error}); check the cell and the cutoff."
        ) from error
    if integers is not None:
        # Integers have no matrix product on a GPU.
        shifts = (shifts.unsqueeze(2) * integers.index_select(0, batch.index_select(0, targets))).sum(1)
        counts = (counts.unsqueeze(2) * integers.index_select(0, batch)).sum(1)
    return _sorted(sources, targets, shifts, counts)


def near_pairs(positions: np.ndarray, cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return what `find_pairs` and `within` would, for one small open structure, from the matrix of distances [n_atoms, n_atoms]."""
    x, y, z = (positions[:, None] - positions).transpose(2, 0, 1)
    squares = x * x + y * y + z * z
    np.fill_diagonal(squares, np.inf)
    if squares.min(initial=np.inf) < CLOSEST_DISTANCE**2:
        _refuse(*divmod(int(squares.argmin()), len(positions)), float(squares.min()))
    # The matrix is symmetric: rows are targets, columns sources.
    edge_index = torch.from_numpy(np.stack(np.nonzero(squares < cutoff**2)[::-1]))
    return edge_index, torch.zeros((edge_index.shape[1], 3), dtype=torch.int64)


def all_pairs(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return edge_index [2, n_edges] and zero shifts [n_edges, 3] of all pairs of atoms of the same structure, in the same order."""
    sizes = torch.bincount(batch)
    if len(sizes) and int(sizes.max()) > _MOST_ATOMS:
        raise NeighborError(
            f"The potential has no cutoff, and {int(sizes.max())} atoms have {int(sizes.max()) ** 2 - int(sizes.max())} pairs; "
            f"use a potential with a cutoff, or at most {_MOST_ATOMS} atoms."
        )
    partners = sizes.index_select(0, batch)
    target = torch.repeat_interleave(torch.arange(len(batch), device=batch.device), partners)
    number = torch.arange(len(target), device=batch.device) - (torch.cumsum(partners, 0) - partners).index_select(0, target)
    source = (torch.cumsum(sizes, 0) - sizes).index_select(0, batch.index_select(0, target)) + number
    edge_index = torch.stack([source, target])[:, source != target]
    return edge_index, torch.zeros((edge_index.shape[1], 3), dtype=torch.int64, device=batch.device)


def within(
    positions: torch.Tensor, cells: torch.Tensor, batch: torch.Tensor, edge_index: torch.Tensor, shifts: torch.Tensor, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the edges whose vectors are shorter than the cutoff, in their order; NeighborError for atoms on top of each other."""
    kept = []
    for piece in _pieces(shifts):
        edges = edge_index[:, piece]
        vectors = edge_vectors(positions, cells, edges, shifts[piece], batch)
        x, y, z = vectors.unbind(1)
        squares = x * x + y * y + z * z
        if squares.min() < CLOSEST_DISTANCE**2:
            worst = int(squares.argmin())
            _refuse(int(edges[1, worst]), int(edges[0, worst]), float(squares[worst]))
        # Not "shorter": a position that is not finite has to reach the energy.
        kept.append(torch.nonzero(~((squares >= cutoff**2) & (squares < math.inf))).squeeze(1) + piece.start)
    if not kept:
        return edge_index, shifts
    chosen = torch.cat(kept)
    return edge_index.index_select(1, chosen), shifts.index_select(0, chosen)


def near_graph(graph: AtomGraph, cutoff: float) -> AtomGraph:
    """Return a graph without its edges that are longer than the cutoff; errors as in `within`."""
    edge_index, shifts = within(graph.positions, graph.cells, graph.batch, graph.edge_index, graph.shifts, cutoff)
    return replace(graph, edge_index=edge_index, shifts=shifts)


def _refuse(target: int, source: int, square: float) -> NoReturn:
    raise NeighborError(f"Atoms {target} and {source} lie on top of each other ({square**0.5:.3g} Å apart); correct the structure.")


def check_finite(values: torch.Tensor, what: str) -> None:
    """Raise NeighborError if rows [n, 3] hold NaN or infinity."""
    # A sum costs a fraction of a look at each; one that overflows asks for that look.
    if math.isfinite(float(values.sum())):
        return
    for row in torch.nonzero(~torch.isfinite(values).all(dim=1)).flatten().tolist()[:1]:
        raise NeighborError(f"The {what} hold NaN or infinity, first in row {row}; check the structure.")


def _check_cells(cells: torch.Tensor, pbc: torch.Tensor) -> None:
    lengths = torch.linalg.vector_norm(cells, dim=2)
    for system, axis in torch.nonzero(pbc & (lengths == 0)).tolist()[:1]:
        where = f" {system}" if len(cells) > 1 else ""
        raise NeighborError(
            f"The structure{where} is periodic along lattice vector {'abc'[axis]}, which is zero; give it a length or set pbc to "
            "False there."
        )
    if are_flat(cells, pbc).any():
        raise NeighborError("The periodic lattice vectors are linearly dependent, so the cell has no volume; correct the cell.")


def _check_density(inside: torch.Tensor, dual: torch.Tensor, batch: torch.Tensor, cutoff: float) -> None:
    """Refuse what no machine holds before it takes its memory."""
    if len(inside) == 0:
        return
    # In a cell that is smaller than the cutoff an atom meets the images of others many times.
    images = (cutoff * torch.linalg.vector_norm(dual, dim=1)).clamp(min=1).prod(1)
    if 4 / 3 * math.pi * float(images.max()) * len(inside) < _MOST_NEIGHBORS:
        return
    # Cubes by a hash of their coordinates: two of the same hash would only make the estimate larger.
    cubes = torch.cat([torch.floor(inside / cutoff), batch.unsqueeze(1)], dim=1).to(torch.int64)
    _, cube, occupation = torch.unique((cubes * torch.tensor(_HASH, device=inside.device)).sum(1), return_inverse=True, return_counts=True)
    neighbors = 4 / 3 * math.pi * occupation.index_select(0, cube) * images.index_select(0, batch)
    edges, densest = float(neighbors.sum()), float(neighbors.max())
    if densest > _MOST_NEIGHBORS or edges * _EDGE_BYTES > _memory():
        raise NeighborError(
            f"{len(inside)} atoms would have about {edges:.2g} edges within the cutoff of {cutoff:g} Å, up to {densest:.2g} an atom, which "
            f"takes {edges * _EDGE_BYTES / 2**30:.2g} GiB; check the units of positions and cell, or use a smaller structure."
        )


def _memory() -> float:
    """Return the machine's memory in bytes; infinity where it does not say."""
    if "SC_PHYS_PAGES" not in getattr(os, "sysconf_names", {}):
        return math.inf
    return float(os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))


def _one_by_one(
    builder: Builder, positions: torch.Tensor, cells: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ends = np.cumsum(np.bincount(batch.numpy(), minlength=len(cells)))
    parts = []
    for number, end in enumerate(ends):
        start = 0 if number == 0 else ends[number - 1]
        if end > start:
            found = _one(builder, positions[start:end].numpy(), cells[number].numpy(), pbc[number].numpy(), cutoff)
            sources, targets, shifts = (torch.from_numpy(values.astype(np.int64, copy=False)) for values in found)
            parts.append((sources, targets, shifts) if start == 0 else (sources + start, targets + start, shifts))
    if len(parts) == 1:
        return parts[0]
    nothing = torch.zeros(0, dtype=torch.int64, device="cpu")
    parts.append((nothing, nothing, nothing.view(0, 3)))
    sources, targets, shifts = (torch.cat(column) for column in zip(*parts, strict=True))
    return sources, targets, shifts


def _one(
    builder: Builder, positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    packed, complete = close_open_directions(positions, cell, pbc, cutoff)
    heights = 1 / np.linalg.norm(np.linalg.inv(complete), axis=0)
    if np.maximum(heights / cutoff, 1.0).prod() <= builder.most_bins:
        return builder.build(packed, complete, pbc, cutoff)  # type: ignore[call-arg, arg-type, return-value]
    places, cells, periodic = torch.from_numpy(positions), torch.from_numpy(cell).unsqueeze(0), torch.from_numpy(pbc).unsqueeze(0)
    (sources, targets), shifts = torch_cell_list(places, cells, periodic, torch.zeros(len(positions), dtype=torch.int64), cutoff)
    return sources.numpy(), targets.numpy(), shifts.numpy()


def _sorted(sources: torch.Tensor, targets: torch.Tensor, shifts: torch.Tensor, counts: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return edge_index and shifts sorted by target, source and shift, shifts as if atoms had not been moved by `counts` [n_atoms, 3]."""
    edge_index, result = torch.stack([sources, targets]), shifts.clone()
    if len(shifts) == 0:
        return edge_index, result
    lowest, n_atoms = shifts.amin(0), len(counts)
    bits = [size.bit_length() for size in (n_atoms, *(shifts.amax(0) - lowest).tolist())]
    if bits[0] + sum(bits) > 63:
        order = torch.from_numpy(np.lexsort((*shifts.T.flip(0).numpy(force=True), *edge_index.numpy(force=True)))).to(shifts.device)
        edge_index, result = edge_index.index_select(1, order), shifts.index_select(0, order)
        return edge_index, result + counts.index_select(0, edge_index[1]) - counts.index_select(0, edge_index[0])
    # An edge is one number: sorting numbers is many times faster than sorting rows, and they say what was sorted.
    key = torch.empty_like(sources)
    for piece in _pieces(shifts):
        value = targets[piece] << bits[0] | sources[piece]
        for axis in range(3):
            value = value << bits[axis + 1] | (shifts[piece, axis] - lowest[axis])
        key[piece] = value
    key = torch.from_numpy(np.sort(key.numpy())) if key.device.type == "cpu" else torch.sort(key)[0]
    moved = bool(counts.any())
    for piece in _pieces(shifts):
        value = key[piece]
        for axis in (2, 1, 0):
            result[piece, axis] = (value & ((1 << bits[axis + 1]) - 1)) + lowest[axis]
            value = value >> bits[axis + 1]
        edge_index[0, piece], edge_index[1, piece] = value & ((1 << bits[0]) - 1), value >> bits[0]
        if moved:
            result[piece] += counts.index_select(0, edge_index[1, piece]) - counts.index_select(0, edge_index[0, piece])
    return edge_index, result


def _pieces(edges: torch.Tensor) -> list[slice]:
    size = _PIECE if edges.device.type == "cpu" else len(edges) + 1
    return [slice(start, start + size) for start in range(0, len(edges), size)]
