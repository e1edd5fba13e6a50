"""Everything that ASE reads: extxyz, databases, VASP's output, trajectories and many more."""

import gzip
import io
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import ase.db
import ase.io
from ase import Atoms

from eqpot.data.labels import Contents, LabelKeys, Record
from eqpot.errors import DataError, short

_logger = logging.getLogger(__name__)

_TEXT = {".xyz": "extxyz", ".extxyz": "extxyz"}


class _Named(io.StringIO):
    name: str


def text_format(path: Path) -> str | None:
    """Return ASE's name of the format that the ending names, whatever the name begins with; None for all but (ext)xyz."""
    return _TEXT.get(Path(path.name.lower().removesuffix(".gz")).suffix)


def read_ase(path: Path, keys: LabelKeys) -> Contents:
    """Return the frames of a file in any format that ASE knows by its name or its beginning."""
    format_name = text_format(path)
    try:
        if format_name and path.suffix == ".gz":
            # ASE seeks in the compressed file, frame by frame, which takes a hundred times as long.
            structures = ase.io.read(io.StringIO(gzip.decompress(path.read_bytes()).decode()), index=":", format=format_name)
        else:
            structures = ase.io.read(path, index=":", format=format_name, do_not_split_by_at_sign=True)
    except Exception as error:
        raise _unreadable(path, error) from error
    return Contents([_record(atoms) for atoms in structures], keys)


def read_database(path: Path, keys: LabelKeys) -> Contents:
    """Return the rows of an ASE database (SQLite or JSON); key-value pairs and data count beside the calculator's results."""
    try:
        with ase.db.connect(path, serial=True) as database:
            rows = list(database.select())
            records = [_record(row.toatoms(), {**row.key_value_pairs, **row.data}) for row in rows]
    except Exception as error:
        raise _unreadable(path, error) from error
    return Contents(records, keys)


def read_vasp(path: Path, keys: LabelKeys) -> Contents:
    """Return every ionic step of a vasprun.xml or an OUTCAR, which may be compressed.

    ASE converts units and sign. Its `energy` is extrapolated to zero smearing; `free_energy` is what the forces are derivatives of.
    """
    name = path.name.lower()
    is_xml = ".xml" in name
    try:
        text = (gzip.decompress(path.read_bytes()) if name.endswith(".gz") else path.read_bytes()).decode("utf-8", errors="replace")
        # ASE looks for constraints in the folder of the file; there are none where this one is.
        handle = _Named(text)
        handle.name = str(path / "OUTCAR")
        structures = ase.io.read(handle, index=":", format="vasp-xml" if is_xml else "vasp-out")
    except Exception as error:
        raise _unreadable(path, error) from error
    if not text.rstrip().endswith("</modeling>") if is_xml else "Total CPU time used" not in text:
        _logger.warning("%s ends early: the run was cut or goes on; the %d complete steps are used", path, len(structures))
    # A step without forces is what a cut file leaves.
    records = [record for record in map(_record, structures) if "forces" in record.values]
    return Contents(records, keys if keys.units is None else replace(keys, units=None))


def _record(atoms: Atoms, extra: dict[str, Any] | None = None) -> Record:
    # ASE moves the names it knows from info and arrays into the calculator. The calculator's own dictionary has no constraints
    # applied: constrained atoms keep their DFT forces.
    results = atoms.calc.results if atoms.calc is not None else {}
    arrays = {key: value for key, value in atoms.arrays.items() if key not in ("numbers", "positions")}
    return Record(atoms, {**arrays, **atoms.info, **(extra or {}), **results})


def _unreadable(path: Path, error: Exception) -> DataError:
    return DataError(f"{path} cannot be read by ASE ({type(error).__name__}: {short(error)}); check the file and its format.")
