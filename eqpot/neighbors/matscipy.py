"""Cell list of matscipy (C++), fed with clean input."""

import numpy as np
from matscipy.neighbours import neighbour_list


def matscipy(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return (edge_index [2, n_edges], shifts [n_edges, 3]); cost linear in the number of atoms.

    Atoms are wrapped into the cell along periodic directions first, and along open directions the caller's cell has
    been replaced by a box that holds every atom, so that the cell list never meets an atom outside its cell.
    """
    if len(positions) == 0:
        return np.zeros((2, 0), dtype=np.int64), np.zeros((0, 3), dtype=np.int64)
    scaled = np.linalg.solve(cell.T, positions.T).T
    wrap = np.where(pbc, np.floor(scaled), 0.0)
    inside = positions - wrap @ cell
    # Open directions start at the lowest atom; the box reaches past the highest by construction.
    lowest = np.where(pbc, 0.0, scaled.min(axis=0))
    targets, sources, shifts = neighbour_list(
        "ijS", cutoff=cutoff, positions=inside - lowest @ cell, cell=cell, pbc=pbc, cell_origin=np.zeros(3)
    )
    wrap = wrap.astype(np.int64)
    return np.stack([sources, targets]).astype(np.int64), shifts + wrap[targets] - wrap[sources]
