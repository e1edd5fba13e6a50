"""Space groups and primitive cells, by spglib."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import spglib
from ase import Atoms

TOLERANCE = 0.01
"""Å: atoms relaxed to 0.01 eV/Å lie closer than this to where their symmetry puts them."""


def space_group(atoms: Atoms) -> str | None:
    """Return the space group, such as `Fd-3m (227)`; None where the structure is not a crystal or spglib finds none."""
    if not atoms.pbc.all():
        return None
    with _quiet():
        return spglib.get_spacegroup(_crystal(atoms, _kinds(atoms)[1]), symprec=TOLERANCE)


def primitive_cell(atoms: Atoms) -> Atoms:
    """Return a primitive cell of a crystal, as it lies in space: nothing is turned or idealized. Other structures return as they are.

    Atoms of one element and different masses are different. What the atoms carry beside element and mass stays behind.
    """
    representatives, kinds = _kinds(atoms)
    masses = atoms.get_masses() if atoms.has("masses") else None
    bare = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc, masses=masses)
    if not atoms.pbc.all():
        return bare
    with _quiet():
        found = spglib.standardize_cell(_crystal(atoms, kinds), to_primitive=True, no_idealize=True, symprec=TOLERANCE)
    if found is None or len(found[2]) == len(atoms):
        return bare
    primitive = bare[representatives[np.asarray(found[2]) - 1]]
    primitive.set_cell(found[0])
    primitive.set_scaled_positions(found[1])
    return primitive


def _crystal(atoms: Atoms, kinds: np.ndarray) -> Any:
    """Return a crystal as spglib takes it; its annotations ask for lists."""
    return atoms.cell.array, atoms.get_scaled_positions(), kinds


def _kinds(atoms: Atoms) -> tuple[np.ndarray, np.ndarray]:
    """Return one atom of every kind, and the kind of every atom, counted from 1; a kind is an element and a mass."""
    pairs = np.stack([atoms.numbers, atoms.get_masses()], axis=1)
    _, representatives, kinds = np.unique(pairs, axis=0, return_index=True, return_inverse=True)
    return representatives, kinds.reshape(-1) + 1


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence spglib's warnings about its own future."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        yield
