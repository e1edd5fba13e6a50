"""Cell list of matscipy (C++)."""

import numpy as np
from matscipy.neighbours import neighbour_list


def matscipy(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sources, targets [n_edges] and shifts [n_edges, 3]; cost linear in the number of atoms. `Single` says of what."""
    targets, sources, shifts = neighbour_list("ijS", cutoff=cutoff, positions=positions, cell=cell, pbc=pbc, cell_origin=np.zeros(3))
    return sources, targets, shifts
