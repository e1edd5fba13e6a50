"""Space groups, point groups and primitive cells, by spglib."""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import spglib
from ase import Atoms

TOLERANCE = 0.01
"""Å: atoms relaxed to 0.01 eV/Å lie closer than this to where their symmetry puts them."""
_FIRST_CUBIC = 195
"""Space groups from this number on are cubic."""


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


def point_group(atoms: Atoms) -> np.ndarray:
    """Return the rotations, proper and improper, that the space group of a crystal is made of, [n, 3, 3] in Cartesian axes."""
    with _quiet():
        found = spglib.get_symmetry(_crystal(atoms, _kinds(atoms)[1]), symprec=TOLERANCE)
    columns = atoms.cell.array.T
    fractional = np.eye(3)[None] if found is None else found["rotations"]
    return _orthogonal(columns @ fractional @ np.linalg.inv(columns))


def cubic_axes(atoms: Atoms) -> np.ndarray | None:
    """Return the rotation [3, 3] that turns the edges of a cubic crystal's cube into the Cartesian axes; None for other structures."""
    name = space_group(atoms)
    if name is None or int(name.split("(")[1].rstrip(")")) < _FIRST_CUBIC:
        return None
    with _quiet():
        found = spglib.standardize_cell(_crystal(atoms, _kinds(atoms)[1]), no_idealize=True, symprec=TOLERANCE)
    return None if found is None else _orthogonal(found[0] / np.linalg.norm(found[0], axis=1, keepdims=True))


def _orthogonal(matrices: np.ndarray) -> np.ndarray:
    """Return the orthogonal matrices that are nearest to these [..., 3, 3]: cells are as symmetric as TOLERANCE asks, and no more."""
    left, _, right = np.linalg.svd(matrices)
    return left @ right


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
