"""Reading labelled frames from files; a label is never guessed in silence."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import ase.io
import numpy as np
from ase import Atoms
from ase.stress import voigt_6_to_full_3x3_stress

from eqpot.data.frames import Frame
from eqpot.elements import MAX_ATOMIC_NUMBER
from eqpot.errors import DataError
from eqpot.units import KCAL_PER_MOL

logger = logging.getLogger(__name__)

_NPZ_KEYS = (
    {"numbers": "nuclear_charges", "positions": "coords", "energy": "energies", "forces": "forces"},
    {"numbers": "z", "positions": "R", "energy": "E", "forces": "F"},
)
"""Array names of rMD17 and of MD17; both are in kcal/mol and Å."""


@dataclass(frozen=True)
class LabelKeys:
    """Names under which energy, forces and stress are stored in a file that ASE reads."""

    energy: str = "energy"
    forces: str = "forces"
    stress: str = "stress"


def read_frames(paths: Sequence[str | Path] | str | Path, keys: LabelKeys | None = None) -> list[Frame]:
    """Read labelled frames from rMD17 or MD17 npz (kcal/mol, converted to eV) or any file that ASE reads, such as extxyz.

    `keys` name the labels in files that ASE reads; those of npz files are known. Every frame needs an energy and forces; the
    stress may be missing. The log says which key served for each label.

    Raises DataError, naming file and frame, for an unreadable or empty file, a missing label (with the keys that are there),
    labels that are not finite or have the wrong shape.
    """
    if isinstance(paths, str | Path):
        paths = [paths]
    frames: list[Frame] = []
    for path in map(Path, paths):
        if not path.is_file():
            raise DataError(f"There is no data file {path}; check the path.")
        frames += _read_npz(path) if path.suffix == ".npz" else _read_ase(path, keys or LabelKeys())
    return frames


def read_structure(path: str | Path) -> Atoms:
    """Read one structure, the last if the file holds several; DataError if that is impossible.

    Anything ASE reads, and the JSON of a pymatgen Structure or Molecule, the form in which the Materials Project gives them.
    """
    if not Path(path).is_file():
        raise DataError(f"There is no structure file {path}; check the path.")
    try:
        atoms = (
            _read_pymatgen(Path(path))
            if _is_pymatgen(Path(path))
            else cast(Atoms, ase.io.read(path, index=-1, do_not_split_by_at_sign=True))
        )
    except Exception as error:
        raise DataError(
            f"{path} cannot be read as a structure ({type(error).__name__}: {error}); check the file and its format."
        ) from error
    if len(atoms) == 0:
        raise DataError(f"{path} holds a structure without atoms.")
    return atoms


def _is_pymatgen(path: Path) -> bool:
    return path.suffix == ".json" and "@class" in path.read_text(encoding="utf-8", errors="replace")


def _read_pymatgen(path: Path) -> Atoms:
    # pymatgen takes a second to import, and few files need it.
    from pymatgen.core.structure import Molecule, Structure
    from pymatgen.io.ase import AseAtomsAdaptor

    values = json.loads(path.read_text(encoding="utf-8"))
    # The classes are named here: the file must not choose what is imported.
    kinds: dict[str, type[Structure] | type[Molecule]] = {"Structure": Structure, "Molecule": Molecule}
    if values.get("@class") not in kinds:
        raise DataError(f"it holds a {values.get('@class')}, not a Structure or Molecule")
    atoms = AseAtomsAdaptor.get_atoms(kinds[values["@class"]].from_dict(values))
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)


def file_hash(paths: Sequence[str | Path]) -> str:
    """Return the SHA-256 of the files' contents, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()


def _read_npz(path: Path) -> list[Frame]:
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
    except Exception as error:
        raise DataError(f"{path} cannot be read as npz ({error}); fetch the file again.") from error
    names = next((names for names in _NPZ_KEYS if set(names.values()) <= set(arrays)), None)
    if names is None:
        raise DataError(f"{path} holds the arrays {', '.join(arrays)}; expected those of rMD17: {', '.join(_NPZ_KEYS[0].values())}.")
    for name, expected in (("e_unit", "kcal/mol"), ("r_unit", "ang")):
        if name in arrays and expected not in str(arrays[name]).lower():
            raise DataError(f"{path} states {name} {arrays[name]}; npz files are read in kcal/mol and Å. Convert it to extxyz in eV and Å.")
    numbers, positions, energies, forces = (arrays[names[key]] for key in ("numbers", "positions", "energy", "forces"))
    if any(array.dtype.kind not in "iuf" for array in (numbers, positions, energies, forces)):
        raise DataError(f"{path} holds an array that is not of real numbers; expected numbers, positions, energies and forces.")
    if positions.ndim != 3 or forces.shape != positions.shape or positions.shape[1:] != (numbers.size, 3) or len(positions) == 0:
        raise DataError(
            f"{path} has positions {positions.shape} and forces {forces.shape} for {numbers.size} atoms; expected [n_frames, n_atoms, 3]."
        )
    energies = np.asarray(energies, dtype=float).reshape(-1)
    if len(energies) != len(positions):
        raise DataError(f"{path} has {len(energies)} energies for {len(positions)} frames.")
    frames = []
    for index in range(len(positions)):
        atoms = Atoms(numbers.reshape(-1).astype(int), positions[index])
        energy, force = float(energies[index]) * KCAL_PER_MOL, forces[index] * KCAL_PER_MOL
        frames.append(_checked(Frame(atoms, energy, force, None, f"{path}, frame {index}")))
    logger.info("%s: %d frames, %s and %s in kcal/mol converted to eV, no stress", path, len(frames), names["energy"], names["forces"])
    return frames


def _read_ase(path: Path, keys: LabelKeys) -> list[Frame]:
    try:
        structures = ase.io.read(path, index=":", do_not_split_by_at_sign=True)
    except Exception as error:
        raise DataError(f"{path} cannot be read by ASE ({type(error).__name__}: {error}); check the file and its format.") from error
    if not structures:
        raise DataError(f"{path} holds no frames.")
    frames, served = [], Counter[str]()
    for index, atoms in enumerate(structures):
        origin = f"{path}, frame {index}"
        energy, forces = _label(atoms, keys.energy), _label(atoms, keys.forces)
        for name, key, value in (("energy", keys.energy, energy), ("forces", keys.forces, forces)):
            if value is None:
                there = ", ".join(sorted(_available(atoms))) or "none"
                raise DataError(f"{origin}: no {name} under the key {key!r}; the keys there are: {there}. Name the right one ({name}_key).")
        stress = _label(atoms, keys.stress)
        served.update(["frames", *(["stress"] if stress is not None else [])])
        frames.append(_checked(_frame(atoms, energy, forces, stress, origin)))
    if keys.stress != LabelKeys.stress and not served["stress"]:
        raise DataError(f"{path}: no frame has a stress under the key {keys.stress!r}; name the right one (stress_key).")
    logger.info(
        "%s: %d frames, energy from %r, forces from %r, stress from %r in %d of them",
        path, served["frames"], keys.energy, keys.forces, keys.stress, served["stress"],
    )  # fmt: skip
    return frames


def _available(atoms: Atoms) -> set[str]:
    results = atoms.calc.results if atoms.calc is not None else {}
    return {*results, *atoms.info, *(key for key in atoms.arrays if key not in ("numbers", "positions"))}


def _label(atoms: Atoms, key: str) -> Any:
    """Return the label under `key`: ASE moves the names it knows from info and arrays into the calculator."""
    # The calculator's own dictionary has no constraints applied: constrained atoms keep their DFT forces.
    for mapping in (atoms.calc.results if atoms.calc is not None else {}, atoms.info, atoms.arrays):
        if key in mapping:
            return mapping[key]
    return None


def _frame(atoms: Atoms, energy: Any, forces: Any, stress: Any, origin: str) -> Frame:
    try:
        bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
        return Frame(bare, float(energy), np.asarray(forces, dtype=float), None if stress is None else _full_stress(stress), origin)
    except (TypeError, ValueError) as error:
        raise DataError(f"{origin}: a label is not a number or has the wrong shape ({error}).") from error


def _full_stress(stress: Any) -> np.ndarray:
    values = np.asarray(stress, dtype=float)
    if values.shape == (6,):
        return np.asarray(voigt_6_to_full_3x3_stress(values))
    return values.reshape(3, 3)


def _checked(frame: Frame) -> Frame:
    numbers = frame.atoms.numbers
    if len(numbers) == 0:
        raise DataError(f"{frame.origin}: the frame has no atoms; remove it.")
    unknown = numbers[(numbers < 1) | (numbers > MAX_ATOMIC_NUMBER)]
    if len(unknown):
        raise DataError(f"{frame.origin}: there is no element with atomic number {unknown[0]}.")
    if frame.forces.shape != (len(numbers), 3):
        raise DataError(f"{frame.origin}: the forces have shape {frame.forces.shape} for {len(numbers)} atoms; expected [n_atoms, 3].")
    for name in ("energy", "forces", "stress"):
        value = getattr(frame, name)
        if value is not None and not np.isfinite(value).all():
            raise DataError(f"{frame.origin}: the label {name} is not finite; remove the frame or correct it.")
    if frame.stress is not None:
        if frame.atoms.cell.rank < 3:
            raise DataError(f"{frame.origin}: there is a stress, and the cell has no volume; remove the stress or add the cell.")
        if abs(frame.stress - frame.stress.T).max() > 1e-3 * abs(frame.stress).max():
            raise DataError(f"{frame.origin}: the stress is not symmetric; correct it (Voigt order is xx yy zz yz xz xy).")
    return frame
