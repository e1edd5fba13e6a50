"""Geometry of cells: fractional coordinates along periodic directions, cells complete and reduced for builders that need them."""

import numpy as np
import torch
from ase.geometry import minkowski_reduce


def dual_vectors(cells: torch.Tensor, pbc: torch.Tensor) -> torch.Tensor:
    """Return matrices [n_structures, 3, 3] in 1/Å whose columns are reciprocal to the periodic lattice vectors, zero for open directions.

    x @ dual are the fractional coordinates along the periodic directions, 1 / |column| the distance of lattice planes.
    """
    periodic = torch.where(pbc.unsqueeze(2), cells, torch.zeros_like(cells))
    lengths = torch.linalg.vector_norm(periodic, dim=2, keepdim=True)
    lengths = torch.where(lengths > 0, lengths, torch.ones_like(lengths))
    # Directions of unit length: a needle cell is not ill-conditioned because it is thin.
    dual = torch.linalg.pinv(periodic / lengths) / lengths.transpose(1, 2)
    # Exactly zero, not by rounding: fractional coordinates are rounded to integers.
    return torch.where(pbc.unsqueeze(1), dual, torch.zeros_like(dual))


def wrap(positions: torch.Tensor, dual: torch.Tensor, cells: torch.Tensor, batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return positions [n_atoms, 3] moved into the cell along periodic directions, and the lattice vectors [n_atoms, 3] taken off each."""
    counts = torch.floor(times_matrix(positions, dual, batch))
    return positions - times_matrix(counts, cells, batch), counts.to(torch.int64)


def times_matrix(values: torch.Tensor, matrices: torch.Tensor, batch: torch.Tensor) -> torch.Tensor:
    """Return row vectors [n, 3] times the matrix of their structure, [n_structures, 3, 3]."""
    if matrices.shape[0] == 1:
        # The same without a matrix for every row.
        return torch.matmul(values, matrices[0])
    return torch.bmm(values.unsqueeze(1), matrices.index_select(0, batch)).squeeze(1)


def close_open_directions(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return positions and a cell whose open directions are orthogonal to the periodic ones and hold all atoms, as cell lists want it.

    Along open directions empty gaps wider than the cutoff are closed to just above it: that changes no pair within the cutoff, and
    a fragment that flies off does not make a cell list grow.
    """
    if pbc.all():
        return positions, cell
    complete, packed = cell.copy(), positions.copy()
    width = cutoff + 1.0
    periodic = cell[pbc] / np.linalg.norm(cell[pbc], axis=1, keepdims=True)
    # The right singular vectors past the rank span the space orthogonal to the periodic vectors.
    basis = np.linalg.svd(periodic)[2] if len(periodic) else np.eye(3)
    for axis, direction in zip(np.flatnonzero(~pbc), basis[len(periodic) :], strict=True):
        along = positions @ direction
        order = np.argsort(along, kind="stable")
        gaps = np.diff(along[order], prepend=along[order[:1]])
        place = np.empty_like(along)
        place[order] = np.cumsum(np.minimum(gaps, width))
        packed += (place - along)[:, None] * direction
        complete[axis] = direction * (place.max(initial=0.0) + width)
    return packed, complete


def are_flat(cells: torch.Tensor, pbc: torch.Tensor) -> torch.Tensor:
    """Return where the periodic lattice vectors are linearly dependent, [n_structures] bool; cells as in `AtomGraph`, pbc [m, 3]."""
    # Directions alone: a needle cell has little volume and is still right.
    lengths = torch.linalg.vector_norm(cells, dim=2)
    directions = cells / torch.where(lengths > 0, lengths, torch.ones_like(lengths)).unsqueeze(2) * pbc.unsqueeze(2)
    spread = torch.linalg.svdvals(directions)
    smallest = spread.gather(1, (pbc.sum(1) - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
    return pbc.any(1) & (smallest < 1e-8)


def reduce_cells(cells: torch.Tensor, pbc: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None]:
    """Return cells [n_structures, 3, 3] of the same lattices with short vectors, their `dual_vectors`, and the integers that make them.

    reduced = integers @ cell, [n_structures, 3, 3]; None where all cells stay as they are. A strongly sheared cell has close lattice
    planes, so that a cell list would visit many images for nothing.
    """
    dual = dual_vectors(cells, pbc)
    heights = 1 / torch.linalg.vector_norm(dual, dim=1)
    # Also the cells of hexagonal and face-centred lattices stay as they are.
    slanted = (pbc & (heights <= 0.5 * torch.linalg.vector_norm(cells, dim=2))).any(1)
    if not slanted.any():
        return cells, dual, None
    reduced, integers = cells.clone(), torch.eye(3, dtype=torch.int64, device=cells.device).repeat(len(cells), 1, 1)
    for number in torch.nonzero(slanted).squeeze(1).tolist():
        cell, made = minkowski_reduce(cells[number].numpy(force=True), pbc[number].numpy(force=True))
        reduced[number], integers[number] = torch.from_numpy(cell), torch.from_numpy(made)
    return reduced, dual_vectors(reduced, pbc), integers
