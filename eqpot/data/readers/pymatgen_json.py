"""JSON of pymatgen structures: one, a list, or a list of entries with labels, as mlearn and maml publish theirs."""

import gzip
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from eqpot.data.labels import Contents, LabelKeys, Record, Units
from eqpot.errors import DataError, short


def is_pymatgen(path: Path) -> bool:
    """Tell whether a JSON file holds pymatgen structures."""
    return b'"@class"' in _bytes(path, 1 << 16)


def read_pymatgen(path: Path, keys: LabelKeys) -> Contents:
    """Return the structures of a JSON file, with their labels.

    Labels are looked for in the entry, in its `outputs`, and in the properties of the structure and its sites. The stress in `outputs`
    (mlearn, maml) is that of VASP: kbar, positive under compression, in the order xx yy zz xy yz zx.
    """
    try:
        values = json.loads(_bytes(path))
        entries = values if isinstance(values, list) else [values]
        records = [_record(entry) for entry in entries]
    except Exception as error:
        raise DataError(f"{path} cannot be read as pymatgen structures ({type(error).__name__}: {short(error)}); check it.") from error
    if any("outputs" in entry for entry in entries):
        keys = replace(keys, units=(keys.units or Units()).over(stress="-kbar"))
    return Contents(records, keys)


def structure_from_json(path: Path) -> Atoms:
    """Return the one structure of a JSON file; ValueError for anything else."""
    return _atoms(json.loads(_bytes(path)))[0]


def _bytes(path: Path, count: int = -1) -> bytes:
    with gzip.open(path) if path.name.endswith(".gz") else path.open("rb") as file:
        return file.read(count)


def _record(entry: dict[str, Any]) -> Record:
    if "@class" in entry:
        return Record(*_atoms(entry))
    atoms, properties = _atoms(entry["structure"])
    labels = {name: _plain(value) for name, value in entry.items() if name not in ("structure", "outputs")}
    outputs = {name: _plain(value) for name, value in entry.get("outputs", {}).items()}
    for name, value in outputs.items():
        if "stress" in name and np.shape(value) == (6,):
            xx, yy, zz, xy, yz, zx = value
            outputs[name] = [[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]]
    return Record(atoms, {**properties, **labels, **outputs})


def _plain(value: Any) -> Any:
    # monty writes arrays as dictionaries.
    return value["data"] if isinstance(value, dict) and value.get("@class") == "array" else value


def _atoms(values: dict[str, Any]) -> tuple[Atoms, dict[str, Any]]:
    # pymatgen takes a second to import, and few files need it.
    from pymatgen.core.structure import Molecule, Structure
    from pymatgen.io.ase import AseAtomsAdaptor

    # The classes are named here: the file must not choose what is imported.
    kinds: dict[str, type[Structure] | type[Molecule]] = {"Structure": Structure, "Molecule": Molecule}
    if not isinstance(values, dict) or values.get("@class") not in kinds:
        found = values.get("@class") if isinstance(values, dict) else type(values).__name__
        raise ValueError(f"it holds a {found}, not a Structure or Molecule")
    structure = kinds[values["@class"]].from_dict(values)
    atoms = AseAtomsAdaptor.get_atoms(structure)
    bare = Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    sites = {name: value for name, value in structure.site_properties.items() if None not in value}
    return bare, {**sites, **structure.properties}
