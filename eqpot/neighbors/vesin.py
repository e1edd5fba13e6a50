"""Cell list of vesin (C++); `pip install eqpot[vesin]`."""

import numpy as np


def vesin(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sources, targets [n_edges] and shifts [n_edges, 3]; cost linear in the number of atoms. `Single` says of what."""
    from vesin import NeighborList

    targets, sources, shifts = NeighborList(cutoff=cutoff, full_list=True).compute(positions, cell, pbc, "ijS")
    return sources, targets, shifts
