"""Labelled frames, and where their labels came from."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase import Atoms

from eqpot.units import GRAM_PER_CM3


@dataclass(frozen=True)
class Frame:
    """One structure with its DFT labels; each label may be missing, which is None.

    energy in eV; forces [n_atoms, 3] in eV/Å; stress [3, 3] in eV/Å^3, tension positive.
    origin names file and index, for messages; weight is that of the frame's source in the loss.
    """

    atoms: Atoms
    energy: float | None
    forces: np.ndarray | None
    stress: np.ndarray | None
    origin: str
    weight: float = 1.0


def structure_of(frame: Frame) -> bytes:
    """Return what two frames of the same atoms, in the same order at the same places, have in common."""
    atoms = frame.atoms
    places = np.round(atoms.positions, 6).tobytes(), np.round(atoms.cell.array, 6).tobytes()
    return b"".join([atoms.numbers.tobytes(), *places, atoms.pbc.tobytes()])


def densities(frames: Sequence[Frame]) -> list[float]:
    """Return the densities, g/cm^3, of the frames that are periodic in all directions."""
    return [frame.atoms.get_masses().sum() / frame.atoms.get_volume() / GRAM_PER_CM3 for frame in frames if frame.atoms.pbc.all()]


def elements_of(frames: Sequence[Frame]) -> list[int]:
    """Return the sorted atomic numbers that occur."""
    return sorted({int(number) for frame in frames for number in frame.atoms.numbers})
