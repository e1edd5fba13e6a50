"""All pairs over all images: the oracle that other builders are tested against."""

import itertools

import numpy as np


def brute_force(positions: np.ndarray, cell: np.ndarray, pbc: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sources, targets [n_edges] and shifts [n_edges, 3]; cost n_atoms^2 times the number of images. `Single` says of what."""
    ranges = []
    for axis in range(3):
        if not pbc[axis]:
            ranges.append(range(1))
            continue
        normal = np.cross(cell[(axis + 1) % 3], cell[(axis + 2) % 3])
        normal /= np.linalg.norm(normal)
        height = abs(cell[axis] @ normal)
        # A pair i, j can meet in the images whose distance along the normal may be below the cutoff.
        reach = int(np.ceil((cutoff + np.ptp(positions @ normal)) / height))
        ranges.append(range(-reach, reach + 1))
    sources, targets, shifts = [], [], []
    for shift in itertools.product(*ranges):
        vectors = positions[None, :, :] + np.array(shift, dtype=float) @ cell - positions[:, None, :]
        within = (vectors**2).sum(axis=-1) < cutoff**2
        if not any(shift):
            np.fill_diagonal(within, False)
        target, source = np.nonzero(within)
        sources.append(source)
        targets.append(target)
        shifts.append(np.tile(np.array(shift, dtype=np.int64), (len(source), 1)))
    return np.concatenate(sources), np.concatenate(targets), np.concatenate(shifts)
