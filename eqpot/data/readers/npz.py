"""MD17 and rMD17: one molecule, many frames, arrays of known names in kcal/mol and Å."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from ase import Atoms

from eqpot.data.labels import Contents, LabelKeys, Record, Units
from eqpot.errors import DataError, short

_NAMES = (
    {"numbers": "nuclear_charges", "positions": "coords", "energy": "energies", "forces": "forces"},
    {"numbers": "z", "positions": "R", "energy": "E", "forces": "F"},
)
"""Array names of rMD17 (Christensen and von Lilienfeld 2020) and of MD17 (Chmiela et al. 2017)."""


def read_npz(path: Path, keys: LabelKeys) -> Contents:
    """Return the frames of an npz file of MD17 or rMD17; units are kcal/mol and Å where the keys say no others."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays = dict(stored)
    except Exception as error:
        raise DataError(f"{path} cannot be read as npz ({short(error)}); fetch the file again.") from error
    names = next((names for names in _NAMES if set(names.values()) <= set(arrays)), None)
    if names is None:
        raise DataError(f"{path} holds the arrays {', '.join(arrays)}; expected those of rMD17: {', '.join(_NAMES[0].values())}.")
    given = keys.units or Units()
    if (given.energy is None) != (given.forces is None):
        raise DataError(f"{path}: data.units says the unit of energy or of forces alone; npz files have both in kcal/mol, so give both.")
    for name, expected, unit in (("e_unit", "kcal/mol", given.energy), ("r_unit", "ang", given.length)):
        if unit is None and name in arrays and expected not in str(arrays[name]).lower():
            raise DataError(f"{path} states {name} {arrays[name]}; npz files are read in kcal/mol and Å unless data.units says others.")
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
    if not np.isfinite(numbers).all():
        raise DataError(f"{path} has atomic numbers that are not finite; fetch the file again.")
    numbers = numbers.reshape(-1).astype(int)
    records = [
        Record(Atoms(numbers, frame), {names["energy"]: energy, names["forces"]: force})
        for frame, energy, force in zip(positions, energies, forces, strict=True)
    ]
    units = given.over(energy="kcal/mol", forces="kcal/mol/Å")
    return Contents(records, replace(keys, energy=names["energy"], forces=names["forces"], stress=None, virial=None, units=units))
