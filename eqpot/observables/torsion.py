"""Torsions: dihedral angles of a trajectory and the free energy along them, without a bias."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.geometry import find_mic

from eqpot.errors import ConfigError, DataError
from eqpot.observables.series import block_error
from eqpot.observables.trajectory import Trajectory
from eqpot.units import BOLTZMANN


@dataclass(frozen=True)
class FreeEnergy:
    """A free energy profile: angles [n_bins], the middles of bins, degrees; energies and their standard errors [n_bins], meV.

    The lowest bin is zero; NaN where no sample fell.
    """

    angles: np.ndarray
    energies: np.ndarray
    errors: np.ndarray


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


def _bonds(trajectory: Trajectory, start: int, end: int) -> np.ndarray:
    """Return the vectors [n_frames, 3] from one atom to the nearest image of another."""
    vectors = trajectory.positions[:, end] - trajectory.positions[:, start]
    if not trajectory.pbc.any():
        return vectors
    return np.array([find_mic(vector, cell, trajectory.pbc)[0] for vector, cell in zip(vectors, trajectory.cells, strict=True)])
