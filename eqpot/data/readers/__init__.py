"""One module a family of file formats; each gives the records of a file and the keys under which it holds labels."""

from pathlib import Path

from eqpot.data.labels import Contents, LabelKeys
from eqpot.data.readers.ase_formats import read_ase, read_database, read_vasp, text_format
from eqpot.data.readers.npz import read_npz
from eqpot.data.readers.pymatgen_json import is_pymatgen, read_pymatgen
from eqpot.errors import DataError


def read_contents(path: Path, keys: LabelKeys) -> Contents:
    """Return what a file holds; DataError, naming the file, where that is impossible or nothing.

    keys: what the user named; a format whose names are fixed returns its own.
    """
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".npz"):
        contents = read_npz(path, keys)
    elif name.endswith(".json") and is_pymatgen(path):
        contents = read_pymatgen(path, keys)
    elif path.name.endswith((".db", ".json")):
        contents = read_database(path, keys)
    elif text_format(path) is None and ("outcar" in name or ("vasp" in name and name.endswith(".xml"))):
        contents = read_vasp(path, keys)
    else:
        contents = read_ase(path, keys)
    if not contents.records:
        raise DataError(f"{path} holds no frames.")
    return contents
