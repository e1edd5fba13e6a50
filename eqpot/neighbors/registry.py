"""One entrance to all neighbour-list builders."""

from collections.abc import Callable

import numpy as np
import torch
from ase import Atoms

from eqpot.errors import ConfigError, NeighborError
from eqpot.graph import AtomGraph
from eqpot.neighbors.brute_force import brute_force
from eqpot.neighbors.matscipy import matscipy

Builder = Callable[[np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray]]
"""(positions [n, 3], complete cell [3, 3], pbc [3], cutoff) -> (edge_index [2, n_edges], shifts [n_edges, 3])."""

BUILDERS: dict[str, Builder] = {"matscipy": matscipy, "brute_force": brute_force}
DEFAULT_BUILDER = "matscipy"

SMALL = 64
"""Atoms up to which all distances of an open structure are cheaper than a cell list."""

LARGE = 10_000
"""Atoms up to which all pairs fit the memory of a common machine."""

CLOSEST_DISTANCE = 0.1
"""Å. Atoms closer than this lie on top of each other: no chemistry has them, and a potential's forces diverge."""


def neighbor_list(atoms: Atoms, cutoff: float, builder: str = "auto") -> tuple[np.ndarray, np.ndarray]:
    """Return all pairs of atoms, images included, that are closer than the cutoff.

    Returns `edge_index` [2, n_edges] (row 0 the source j, row 1 the target i) and integer `shifts` [n_edges, 3], with
    r = x_j + shifts @ cell - x_i; no self pair at zero shift, every pair in both directions, sorted by target.
    Any cell, any pbc mask, atoms anywhere; `atoms` is not changed. An infinite cutoff gives all pairs of an open structure.

    Raises NeighborError for positions that are not finite, a periodic direction without length or a periodic cell without
    volume, atoms that lie on top of each other, and a periodic structure with an infinite cutoff; ConfigError for an unknown
    builder or a cutoff that is not positive.
    """
    name = DEFAULT_BUILDER if builder == "auto" else builder
    if name not in BUILDERS:
        raise ConfigError(f"Neighbour-list builder {builder!r} is unknown; use one of auto, {', '.join(BUILDERS)}.")
    if not cutoff > 0:
        raise ConfigError(f"The cutoff is {cutoff} Å; it must be positive.")
    positions = np.array(atoms.positions, dtype=float)
    pbc = np.array(atoms.pbc, dtype=bool)
    _check_finite(positions, "positions")
    _check_finite(atoms.cell.array, "lattice vectors")
    if cutoff == np.inf or (builder == "auto" and len(positions) <= SMALL and not pbc.any()):
        return _open_pairs(positions, pbc, cutoff)
    cell, packed = _close_open_directions(np.array(atoms.cell.array, dtype=float), pbc, positions, cutoff)
    try:
        edge_index, shifts = BUILDERS[name](packed, cell, pbc, cutoff)
    except (RuntimeError, MemoryError) as error:
        raise NeighborError(
            f"The neighbour list of {len(positions)} atoms cannot be built ({error}); check the cell and the cutoff."
        ) from error
    order = np.argsort(edge_index[1], kind="stable")
    edge_index, shifts = np.ascontiguousarray(edge_index[:, order]), np.ascontiguousarray(shifts[order])
    _check_distances(positions, cell, edge_index, shifts)
    return edge_index, shifts


def build_graph(atoms: Atoms, cutoff: float, builder: str = "auto") -> AtomGraph:
    """Return the `AtomGraph` of one structure; see `neighbor_list` for the errors."""
    edge_index, shifts = neighbor_list(atoms, cutoff, builder)
    return AtomGraph(
        positions=torch.tensor(atoms.positions, dtype=torch.float64),
        numbers=torch.tensor(atoms.numbers, dtype=torch.int64),
        cells=torch.tensor(atoms.cell.array, dtype=torch.float64).unsqueeze(0),
        edge_index=torch.from_numpy(edge_index),
        shifts=torch.from_numpy(shifts),
        batch=torch.zeros(len(atoms), dtype=torch.int64),
    )


def _open_pairs(positions: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """All pairs within the cutoff of an open structure, from the matrix of distances."""
    if pbc.any():
        raise NeighborError(
            "The potential has no cutoff, so an atom of a periodic structure would have endless neighbours; use a potential with a "
            "cutoff, or set pbc to False for a molecule."
        )
    if len(positions) > LARGE:
        raise NeighborError(
            f"The potential has no cutoff, and {len(positions)} atoms have {len(positions) * (len(positions) - 1)} pairs; "
            f"use a potential with a cutoff, or at most {LARGE} atoms."
        )
    squares = ((positions[:, None] - positions) ** 2).sum(axis=2)
    np.fill_diagonal(squares, np.inf)
    target, source = np.nonzero(squares < cutoff**2 if cutoff < np.inf else np.isfinite(squares))
    edge_index, shifts = np.stack([source, target]), np.zeros((len(source), 3), dtype=np.int64)
    if len(source) and squares.min() < CLOSEST_DISTANCE**2:
        _check_distances(positions, np.zeros((3, 3)), edge_index, shifts)
    return edge_index, shifts


def _check_finite(values: np.ndarray, what: str) -> None:
    bad = np.flatnonzero(~np.isfinite(values).all(axis=1))
    if len(bad):
        raise NeighborError(f"The {what} hold NaN or infinity, first in row {bad[0]}; check the structure.")


def _close_open_directions(cell: np.ndarray, pbc: np.ndarray, positions: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return a cell whose open directions are orthogonal to the periodic ones and hold all atoms, and positions to go with it.

    Along open directions empty gaps wider than the cutoff are closed to just above it: that changes no pair within the cutoff, and
    a fragment that flies off does not make a cell list grow.
    """
    for axis in np.flatnonzero(pbc):
        if np.linalg.norm(cell[axis]) == 0:
            raise NeighborError(
                f"The structure is periodic along lattice vector {'abc'[axis]}, which is zero; give it a length or set pbc to False there."
            )
    periodic = cell[pbc]
    # Compare the directions alone: a needle cell has little volume and is still right.
    directions = periodic / np.linalg.norm(periodic, axis=1, keepdims=True)
    if len(periodic) > 1 and np.linalg.svd(directions, compute_uv=False).min() < 1e-8:
        raise NeighborError("The periodic lattice vectors are linearly dependent, so the cell has no volume; correct the cell.")
    if pbc.all():
        return cell, positions
    complete, packed = cell.copy(), positions.copy()
    width = cutoff + 1.0
    # The right singular vectors past the rank span the space orthogonal to the periodic vectors.
    basis = np.linalg.svd(directions)[2] if len(periodic) else np.eye(3)
    for axis, direction in zip(np.flatnonzero(~pbc), basis[len(periodic) :], strict=True):
        along = positions @ direction
        order = np.argsort(along, kind="stable")
        gaps = np.diff(along[order], prepend=along[order[:1]])
        excess = np.empty_like(along)
        excess[order] = np.cumsum(np.maximum(gaps - width, 0.0))
        packed -= excess[:, None] * direction
        extent = np.ptp(along - excess) if len(along) else 0.0
        complete[axis] = direction * (extent + width)
    return complete, packed


def _check_distances(positions: np.ndarray, cell: np.ndarray, edge_index: np.ndarray, shifts: np.ndarray) -> None:
    # Pairs are taken in pieces that fit the cache: fresh memory for all of them costs more than the arithmetic.
    for start in range(0, edge_index.shape[1], 1 << 14):
        source, target = edge_index[:, start : start + (1 << 14)]
        vectors = positions[source] - positions[target] + shifts[start : start + (1 << 14)] @ cell
        squares = np.einsum("ed,ed->e", vectors, vectors)
        if squares.min() < CLOSEST_DISTANCE**2:
            worst = int(squares.argmin())
            raise NeighborError(
                f"Atoms {target[worst]} and {source[worst]} lie on top of each other ({squares[worst] ** 0.5:.3g} Å apart); "
                f"correct the structure."
            )
