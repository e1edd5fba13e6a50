"""Torsions: dihedral angles of a trajectory and the free energy along them, without a bias."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms
from ase.geometry import find_mic
from ase.neighborlist import natural_cutoffs, neighbor_list
from scipy.signal import find_peaks
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from eqpot.errors import ConfigError, DataError
from eqpot.observables.series import block_error
from eqpot.observables.trajectory import Trajectory
from eqpot.units import BOLTZMANN

_IN_LINE = 170.0
"""Degrees between bonds above which they count as one line."""


@dataclass(frozen=True)
class FreeEnergy:
    """A free energy profile: angles [n_bins], the middles of bins, degrees; energies and their standard errors [n_bins], meV.

    The lowest bin is zero; NaN where no sample fell.
    """

    angles: np.ndarray
    energies: np.ndarray
    errors: np.ndarray


@dataclass(frozen=True)
class Torsion:
    """A bond about which two parts turn. atoms: the four of its dihedral angle; symmetry: equivalent positions per turn."""

    atoms: tuple[int, int, int, int]
    symmetry: int


def find_torsions(atoms: Atoms) -> list[Torsion]:
    """Return the torsions of molecules: one for each bond that is in no ring and has further atoms at both ends.

    Bonds are distances below 1.2 times the sum of covalent radii, those across a cell's walls included. The dihedral angle ends at the
    heaviest neighbours. Three equal atoms with no other bond, as in a methyl group, make equivalent positions. Bonds beside three atoms in
    line, whose angle has no meaning, are left out.
    """
    source, target = neighbor_list("ij", atoms, natural_cutoffs(atoms, mult=1.2))
    partners = [sorted(set(target[source == atom]) - {atom}) for atom in range(len(atoms))]
    torsions = []
    for start, end in sorted({(int(i), int(j)) for i, j in zip(source, target, strict=True) if i < j}):
        apart = (np.minimum(source, target) != start) | (np.maximum(source, target) != end)
        bonds = coo_matrix((np.ones(apart.sum()), (source[apart], target[apart])), shape=(len(atoms), len(atoms)))
        parts = connected_components(bonds, directed=False)[1]
        before, after = ([k for k in partners[a] if k != b] for a, b in ((start, end), (end, start)))
        if parts[start] == parts[end] or not before or not after:
            continue
        first, last = (int(min(group, key=lambda k: (-atoms.numbers[k], k))) for group in (before, after))
        if max(atoms.get_angle(first, start, end, mic=True), atoms.get_angle(start, end, last, mic=True)) > _IN_LINE:
            continue
        alike = [len(group) == 3 and len({atoms.numbers[k] for k in group}) == 1 and all(len(partners[k]) == 1 for k in group)
                 for group in (before, after)]  # fmt: skip
        torsions.append(Torsion((first, start, end, last), 3 if any(alike) else 1))
    return torsions


def dihedral_angles(trajectory: Trajectory, atoms: Sequence[int]) -> np.ndarray:
    """Return the dihedral angle of four atoms in every frame [n_frames], degrees in -180 ... 180, of the IUPAC sign.

    The angle about the bond from the second atom to the third; 0 where the first and the last eclipse each other, positive clockwise.
    Raises ConfigError for other than four different atoms, DataError where three of them are in line.
    """
    n_atoms = trajectory.positions.shape[1]
    if len(set(atoms)) != 4 or not all(0 <= atom < n_atoms for atom in atoms):
        raise ConfigError(f"A dihedral angle needs four different atoms of 0 ... {n_atoms - 1}, not {list(atoms)}.")
    first, axis, last = (_bonds(trajectory, atoms[k], atoms[k + 1]) for k in range(3))
    before, after = np.cross(first, axis), np.cross(axis, last)
    length = np.linalg.norm(axis, axis=1)
    if min(np.linalg.norm(before, axis=1).min(), np.linalg.norm(after, axis=1).min()) < 1e-6:
        raise DataError(f"Three of the atoms {list(atoms)} are in line in some frame, where their dihedral angle is not defined.")
    return np.degrees(np.arctan2(length * (first * after).sum(axis=1), (before * after).sum(axis=1)))


def torsional_free_energy(angles: np.ndarray, temperature: float, n_bins: int = 36, symmetry: int = 1) -> FreeEnergy:
    """Return -k_B T ln p of angles [n_samples] in degrees, or [n_replicas, n_samples] of independent runs.

    symmetry: number of equivalent minima per turn, such as 3 for a methyl group, whose angles are taken together: the profile spans
    360 / symmetry degrees about 0. Errors are those of the bins' populations, from replicas or, of a single run, from ten blocks.
    Raises ConfigError for a temperature, bins or a symmetry that are not positive.
    """
    if not (temperature > 0 and n_bins > 0 and symmetry > 0):
        raise ConfigError(f"Temperature {temperature} K, {n_bins} bins and symmetry {symmetry} must all be positive.")
    runs = np.atleast_2d(np.asarray(angles, dtype=float))
    start, width = -180.0 / symmetry, 360.0 / symmetry / n_bins
    place = np.floor(np.mod(runs - start, 360.0 / symmetry) / width).astype(int) % n_bins
    inside = place[:, :, None] == np.arange(n_bins)
    shares = inside.mean(axis=(0, 1))
    if len(runs) > 1:
        errors = inside.mean(axis=1).std(axis=0, ddof=1) / np.sqrt(len(runs))
    else:
        errors = np.array([block_error(inside[0, :, k].astype(float)) if 0 < shares[k] < 1 else 0.0 for k in range(n_bins)])
    thermal = 1000 * BOLTZMANN * temperature
    with np.errstate(divide="ignore", invalid="ignore"):
        energies = np.where(shares > 0, -thermal * np.log(shares), np.nan)
        spread = np.where(shares > 0, thermal * errors / shares, np.nan)
    return FreeEnergy(start + width * (np.arange(n_bins) + 0.5), energies - np.nanmin(energies), spread)


@dataclass(frozen=True)
class Well:
    """A well of a free energy profile, from one barrier to the next.

    minimum: angle of its lowest bin, degrees; energy, error: of that bin, meV; population, population_error: share of the samples;
    barriers, barrier_errors: heights of the barriers at its lower and upper end above its lowest bin, meV; NaN where no sample fell.
    """

    minimum: float
    energy: float
    error: float
    population: float
    population_error: float
    barriers: tuple[float, float]
    barrier_errors: tuple[float, float]


def find_wells(angles: np.ndarray, profile: FreeEnergy, temperature: float) -> list[Well]:
    """Return the wells of a profile of `angles`, by the angles of their minima from 0 to 360 degrees; none for a profile without a barrier.

    angles: as `torsional_free_energy` took them. A barrier is a maximum that stands out by k_B T / 2 and by four standard errors, or
    bins without a sample.
    """
    n_bins = len(profile.angles)
    thermal = 1000 * BOLTZMANN * temperature
    energies = np.where(np.isnan(profile.energies), np.nanmax(profile.energies) + 2 * thermal, profile.energies)
    # Three turns, so that every maximum of the middle one has its surroundings.
    tops, found = find_peaks(np.tile(energies, 3), prominence=thermal / 2, plateau_size=1)
    errors = np.tile(np.nan_to_num(profile.errors), 3)[tops]
    barriers = np.unique(tops[(tops >= n_bins) & (tops < 2 * n_bins) & (found["prominences"] > 4 * errors)] % n_bins)
    width = profile.angles[1] - profile.angles[0]
    turn = n_bins * width
    place = np.floor(np.mod(np.atleast_2d(angles) - profile.angles[0] + width / 2, turn) / width).astype(int) % n_bins
    wells = []
    for number, lower in enumerate(barriers):
        upper = barriers[(number + 1) % len(barriers)]
        bins = np.arange(lower, upper if upper > lower else upper + n_bins) % n_bins
        inside = np.isin(place, bins).astype(float)
        lowest = bins[np.argmin(energies[bins])]
        error = inside.mean(axis=1).std(ddof=1) / np.sqrt(len(inside)) if len(inside) > 1 else block_error(inside[0])
        heights = profile.energies[[lower, upper]] - profile.energies[lowest]
        spreads = np.hypot(profile.errors[[lower, upper]], profile.errors[lowest])
        wells.append(
            Well(
                float(profile.angles[lowest]), float(profile.energies[lowest]), float(profile.errors[lowest]),
                float(inside.mean()), float(error), (float(heights[0]), float(heights[1])), (float(spreads[0]), float(spreads[1])),
            )
        )  # fmt: skip
    return sorted(wells, key=lambda well: well.minimum % 360)


def _bonds(trajectory: Trajectory, start: int, end: int) -> np.ndarray:
    """Return the vectors [n_frames, 3] from one atom to the nearest image of another."""
    vectors = trajectory.positions[:, end] - trajectory.positions[:, start]
    if not trajectory.pbc.any():
        return vectors
    return np.array([find_mic(vector, cell, trajectory.pbc)[0] for vector, cell in zip(vectors, trajectory.cells, strict=True)])
