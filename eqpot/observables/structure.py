"""How atoms lie around each other: radial distribution functions and coordination numbers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from ase import Atoms
from ase.data import chemical_symbols
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from eqpot.errors import ConfigError, DataError
from eqpot.neighbors import neighbor_list
from eqpot.observables.trajectory import Trajectory

_SMOOTH = 5
"""Bins of g(r) that are averaged before peaks are looked for, so that noise is none."""


@dataclass(frozen=True)
class RadialDistribution:
    """g_ab(r) and running coordination numbers of every ordered pair of elements (a, b), averaged over frames.

    edges [n_bins + 1], Å; values (a, b) -> g [n_bins], symmetric in a and b; coordination (a, b) -> atoms b around one a that are
    closer than the upper edge of the bin [n_bins].
    """

    edges: np.ndarray
    values: Mapping[tuple[str, str], np.ndarray]
    coordination: Mapping[tuple[str, str], np.ndarray]
    n_frames: int

    @property
    def radii(self) -> np.ndarray:
        """The middles of the bins [n_bins], Å."""
        return (self.edges[1:] + self.edges[:-1]) / 2

    def coordination_number(self, center: str, around: str, radius: float) -> float:
        """Return how many atoms `around` are closer than `radius`, in Å, to an atom `center`, on average; ConfigError beyond the range."""
        if (center, around) not in self.coordination or not 0 < radius <= self.edges[-1] * (1 + 1e-12):
            raise ConfigError(f"There is no {center}-{around} up to {radius} Å in this distribution, which ends at {self.edges[-1]:g} Å.")
        return float(np.interp(radius, self.edges, np.concatenate([[0.0], self.coordination[center, around]])))


@dataclass(frozen=True)
class Shell:
    """The first shell of neighbours: where g(r) has its first peak and how high it is, and the minimum after it; Å."""

    peak: float
    height: float
    end: float


def first_shell(found: RadialDistribution, center: str, around: str) -> Shell | None:
    """Return the first shell of atoms `around` about atoms `center`, or None where g(r) shows no peak or no minimum after it.

    Peak and minimum are looked for in the mean of some bins; place and height of the peak are those of the highest bin there.
    """
    values = found.values[center, around]
    smooth = uniform_filter1d(values, _SMOOTH)
    peaks = find_peaks(smooth, height=1.0, prominence=0.3)[0]
    valleys = find_peaks(-smooth, prominence=0.1)[0]
    valleys = valleys[valleys > peaks[0]] if len(peaks) else valleys
    if len(peaks) == 0 or len(valleys) == 0:
        return None
    first = max(peaks[0] - _SMOOTH // 2, 0)
    peak = first + int(values[first : peaks[0] + _SMOOTH // 2 + 1].argmax())
    return Shell(float(found.radii[peak]), float(values[peak]), float(found.radii[valleys[0]]))


def mean_distribution(found: Sequence[RadialDistribution]) -> RadialDistribution:
    """Return the mean of distributions of the same bins and elements, each as heavy as it has frames."""
    weights = [each.n_frames for each in found]
    values = {pair: np.average([each.values[pair] for each in found], axis=0, weights=weights) for pair in found[0].values}
    coordination = {pair: np.average([each.coordination[pair] for each in found], axis=0, weights=weights) for pair in found[0].values}
    return RadialDistribution(found[0].edges, values, coordination, sum(weights))


def radial_distribution(trajectory: Trajectory, r_max: float, bin_width: float = 0.05) -> RadialDistribution:
    """Return the radial distribution functions of a periodic structure, in a cell of any shape.

    g_ab(r) = < V sum_{i in a} sum_{j in b} [r_ij in bin] > / (N_a N_b v), v the volume of the bin's shell (Allen, Tildesley, Computer
    Simulation of Liquids, 2nd ed., sec. 2.6). Images count, those of the atom itself included, so r_max, in Å, may exceed half the cell's
    width; beyond it the structure repeats itself. In a liquid of N_a atoms g_aa tends to 1 - 1 / N_a within that half.
    Raises DataError for structures that are not periodic in all directions and for no atoms or frames, ConfigError for a range without
    bins, NeighborError.
    """
    if not 0 < bin_width <= r_max:
        raise ConfigError(f"Bins of {bin_width} Å up to {r_max} Å make no distribution; use 0 < bin width <= r_max.")
    if not trajectory.pbc.all():
        raise DataError("A structure with an open direction has no density, so no g(r); count its neighbours instead.")
    if 0 in trajectory.positions.shape:
        n_frames, n_atoms = trajectory.positions.shape[:2]
        raise DataError(f"{n_frames} frames of {n_atoms} atoms have no distribution; give at least one of each.")
    n_bins = round(r_max / bin_width)
    edges = np.linspace(0.0, r_max, n_bins + 1)
    kinds, kind = np.unique(trajectory.numbers, return_inverse=True)
    n_kinds, counts = len(kinds), np.bincount(kind)
    pairs, weighted = np.zeros((2, n_kinds * n_kinds, n_bins))
    atoms = Atoms(trajectory.numbers, pbc=True)
    for positions, cell in zip(trajectory.positions, trajectory.cells, strict=True):
        atoms.positions, atoms.cell = positions, cell
        (source, target), shifts = neighbor_list(atoms, r_max)
        distances = np.linalg.norm(positions[source] + shifts @ cell - positions[target], axis=1)
        place = np.minimum((distances * (n_bins / r_max)).astype(int), n_bins - 1)
        which = (kind[target] * n_kinds + kind[source]) * n_bins + place
        found = np.bincount(which, minlength=pairs.size).reshape(pairs.shape)
        pairs += found
        weighted += found * abs(np.linalg.det(cell))
    n_frames = len(trajectory.positions)
    shells = 4 / 3 * np.pi * np.diff(edges**3)
    values, coordination = {}, {}
    for row, (a, b) in enumerate(product(range(n_kinds), repeat=2)):
        names = chemical_symbols[kinds[a]], chemical_symbols[kinds[b]]
        values[names] = weighted[row] / (n_frames * counts[a] * counts[b] * shells)
        coordination[names] = np.cumsum(pairs[row]) / (n_frames * counts[a])
    return RadialDistribution(edges, values, coordination, n_frames)
