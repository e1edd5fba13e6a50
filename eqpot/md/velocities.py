"""Initial velocities."""

import numpy as np
from ase import Atoms

from eqpot.units import BOLTZMANN

_ZERO = 1e-6
"""Momenta below this share of the thermal ones count as zero: files hold eight digits."""


def draw_velocities(atoms: Atoms, temperature: float, seed: int, at_rest: bool, held: np.ndarray | None = None) -> np.ndarray:
    """Return Maxwell-Boltzmann velocities [n_atoms, 3] in Å per internal unit of time.

    at_rest: remove the total momentum and, where no direction is periodic, the angular momentum. held: [n_atoms] bool, atoms without
    velocity. What remains is scaled so that the kinetic energy is exactly k_B T / 2 for each degree of freedom that is left.
    """
    masses = atoms.get_masses()[:, None]
    velocities = np.random.default_rng(seed).normal(size=(len(atoms), 3)) * np.sqrt(BOLTZMANN * temperature / masses)
    n_free = 3 * len(atoms)
    if held is not None and held.any():
        velocities[held] = 0
        n_free = 3 * int((~held).sum())
    if at_rest:
        velocities -= (masses * velocities).sum(axis=0) / masses.sum()
        if not atoms.pbc.any():
            velocities -= _rigid_rotation(atoms.positions, velocities, masses)
        n_free = conserved_degrees_of_freedom(atoms)
    kinetic = 0.5 * (masses * velocities**2).sum()
    target = 0.5 * n_free * BOLTZMANN * temperature
    return velocities * np.sqrt(target / kinetic) if target > 0 else np.zeros_like(velocities)


def conserved_degrees_of_freedom(atoms: Atoms) -> int:
    """Return the degrees of freedom of NVE at zero total momentum and, for an open system, zero angular momentum."""
    n_atoms = len(atoms)
    if n_atoms <= 1:
        return 0
    if atoms.pbc.any():
        return 3 * n_atoms - 3
    spread = np.linalg.svd(atoms.positions - atoms.positions.mean(axis=0), compute_uv=False)
    is_linear = n_atoms == 2 or spread[1] < 1e-6 * spread[0]
    return 3 * n_atoms - (5 if is_linear else 6)


def degrees_of_freedom(atoms: Atoms) -> int:
    """Return the degrees of freedom of NVE from the structure's velocities: 3 n_atoms less the momenta that are conserved at zero."""
    masses, velocities = atoms.get_masses()[:, None], atoms.get_velocities()
    size = np.sqrt(masses.sum() * (masses * velocities**2).sum())
    if np.abs((masses * velocities).sum(axis=0)).max() > _ZERO * size:
        return 3 * len(atoms)
    rotation = _rigid_rotation(atoms.positions, velocities, masses)
    if not atoms.pbc.any() and (masses * rotation**2).sum() > _ZERO**2 * (masses * velocities**2).sum():
        return 3 * len(atoms) - 3
    return conserved_degrees_of_freedom(atoms)


def _rigid_rotation(positions: np.ndarray, velocities: np.ndarray, masses: np.ndarray) -> np.ndarray:
    """Return omega x r, the rotation with the angular momentum of the velocities about the centre of mass."""
    arms = positions - (masses * positions).sum(axis=0) / masses.sum()
    angular_momentum = np.cross(arms, masses * velocities).sum(axis=0)
    inertia = (masses * (arms**2).sum(axis=1, keepdims=True)).sum() * np.eye(3) - (masses * arms).T @ arms
    # A linear molecule has no inertia about its axis; the pseudo-inverse leaves that direction out.
    omega = np.linalg.pinv(inertia, rcond=1e-10) @ angular_momentum
    return np.cross(omega, arms)
