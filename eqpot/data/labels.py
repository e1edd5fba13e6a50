"""Names and units of the labels in a file, and how a record of a file becomes a checked frame."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from ase import Atoms, units
from ase.stress import voigt_6_to_full_3x3_stress
from pydantic import BaseModel, ConfigDict, Field, field_validator

from eqpot.data.frames import Frame
from eqpot.elements import MAX_ATOMIC_NUMBER
from eqpot.errors import DataError, short
from eqpot.units import GIGAPASCAL, KCAL_PER_MOL

_ENERGIES = {
    "eV": 1.0,
    "meV": 1e-3,
    "kcal/mol": KCAL_PER_MOL,
    "kJ/mol": units.kJ / units.mol,
    "Hartree": units.Hartree,
    "Ry": units.Rydberg,
}
_LENGTHS = {"Å": 1.0, "Ang": 1.0, "Bohr": units.Bohr, "nm": 10.0}
_FORCES = {f"{energy}/{length}": e / d for energy, e in _ENERGIES.items() for length, d in _LENGTHS.items()}
_STRESSES = {f"{energy}/{length}^3": e / d**3 for energy, e in _ENERGIES.items() for length, d in _LENGTHS.items()} | {
    "GPa": GIGAPASCAL,
    "kbar": 0.1 * GIGAPASCAL,
    "bar": 1e-4 * GIGAPASCAL,
}
_TABLES = {"energy": _ENERGIES, "forces": _FORCES, "length": _LENGTHS, "stress": _STRESSES}


class Units(BaseModel):
    """Units of what a file holds, None for those of its format: eV and Å, but in npz files and JSON of mlearn.

    A virial is in the unit of the energy.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    energy: str | None = Field(None, description=f"One of {', '.join(_ENERGIES)}.")
    forces: str | None = Field(None, description="Energy over length, such as Hartree/Bohr.")
    length: str | None = Field(None, description=f"Of positions and cell: one of {', '.join(_LENGTHS)}.")
    stress: str | None = Field(
        None, description="Energy over length^3, GPa, kbar or bar; with a minus in front (-kbar) if compression is positive."
    )

    @field_validator("energy", "forces", "length", "stress")
    @classmethod
    def _known(cls, value: str | None, info: Any) -> str | None:
        if value is not None and (value.removeprefix("-") if info.field_name == "stress" else value) not in _TABLES[info.field_name]:
            known = {"forces": "an energy over a length, such as eV/Å or Hartree/Bohr", "stress": "eV/Å^3, GPa, kbar, -kbar and the like"}
            raise ValueError(f"the unit {value!r} is unknown; use {known.get(info.field_name, ', '.join(_TABLES[info.field_name]))}")
        return value

    def factor(self, quantity: str) -> float:
        """Return the size of the unit of energy, forces, length or stress in eV and Å, tension positive."""
        name = getattr(self, quantity)
        if name is None:
            return 1.0
        return -_STRESSES[name[1:]] if name.startswith("-") else _TABLES[quantity][name]

    def over(self, **of_format: str) -> "Units":
        """Return these units, and those of the format where there are none."""
        return Units(**{**of_format, **self.model_dump(exclude_none=True)})


@dataclass(frozen=True)
class LabelKeys:
    """Names under which a file holds energy, forces and stress, or None for a label that is not to be read.

    virial: name of W = -V stress, to be read instead of a stress. units: None for those of the format (eV and Å but for npz and the
    stress of mlearn's JSON).
    """

    energy: str | None = "energy"
    forces: str | None = "forces"
    stress: str | None = "stress"
    virial: str | None = None
    units: Units | None = None

    def named(self) -> dict[str, str]:
        """Return the key of every label that is to be read."""
        stress = {"stress": self.stress} if self.virial is None else {"virial": self.virial}
        return {label: key for label, key in {"energy": self.energy, "forces": self.forces, **stress}.items() if key is not None}


@dataclass(frozen=True)
class Record:
    """A structure as a file holds it, in the file's units, and everything that the file holds beside it, by name."""

    atoms: Atoms
    values: Mapping[str, Any]


@dataclass(frozen=True)
class Contents:
    """What a reader found in a file, and the keys under which it holds the labels."""

    records: list[Record]
    keys: LabelKeys


def make_frame(record: Record, keys: LabelKeys, origin: str, weight: float) -> Frame:
    """Return the frame of a record, in eV and Å; DataError, naming it, for labels or atoms that cannot be."""
    sizes = keys.units or Units()
    labels = {label: record.values.get(key) for label, key in keys.named().items()}
    if labels.get("energy") is None and labels.get("forces") is None:
        there = ", ".join(sorted(record.values)) or "none"
        raise DataError(f"{origin}: neither an energy nor forces; the keys there are: {there}. Label the frame or remove it.")
    length = sizes.factor("length")
    atoms = record.atoms
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions * length, cell=atoms.cell.array * length, pbc=atoms.pbc)
    energy, forces, stress = labels.get("energy"), labels.get("forces"), labels.get("stress")
    try:
        energy = None if energy is None else float(energy) * sizes.factor("energy")
        forces = None if forces is None else np.asarray(forces, dtype=float) * sizes.factor("forces")
        stress = None if stress is None else _full(stress) * sizes.factor("stress")
        if labels.get("virial") is not None:
            _check_volume(bare, origin)
            stress = _full(labels["virial"]) * (-sizes.factor("energy") / bare.get_volume())
    except (TypeError, ValueError) as error:
        raise DataError(f"{origin}: a label is not a number or has the wrong shape ({short(error)}).") from error
    return _checked(Frame(bare, energy, forces, stress, origin, weight))


def _full(values: Any) -> np.ndarray:
    array = np.asarray(values, dtype=float)
    return np.asarray(voigt_6_to_full_3x3_stress(array)) if array.shape == (6,) else array.reshape(3, 3)


def _check_volume(atoms: Atoms, origin: str) -> None:
    if atoms.cell.rank < 3:
        raise DataError(f"{origin}: there is a stress, and the cell has no volume; remove the stress or add the cell.")


def _checked(frame: Frame) -> Frame:
    numbers, origin = frame.atoms.numbers, frame.origin
    if len(numbers) == 0:
        raise DataError(f"{origin}: the frame has no atoms; remove it.")
    unknown = numbers[(numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)]
    if len(unknown):
        raise DataError(f"{origin}: there is no element with atomic number {unknown[0]}.")
    if not (np.isfinite(frame.atoms.positions).all() and np.isfinite(frame.atoms.cell.array).all()):
        raise DataError(f"{origin}: positions or cell are not finite; remove the frame or correct it.")
    if frame.forces is not None and frame.forces.shape != (len(numbers), 3):
        raise DataError(f"{origin}: the forces have shape {frame.forces.shape} for {len(numbers)} atoms; expected [n_atoms, 3].")
    for name in ("energy", "forces", "stress"):
        value = getattr(frame, name)
        if value is not None and not np.isfinite(value).all():
            raise DataError(f"{origin}: the label {name} is not finite; remove the frame or correct it.")
    if frame.stress is not None:
        _check_volume(frame.atoms, origin)
        if abs(frame.stress - frame.stress.T).max() > 1e-3 * abs(frame.stress).max():
            raise DataError(f"{origin}: the stress is not symmetric; correct it (Voigt order is xx yy zz yz xz xy).")
    return frame
