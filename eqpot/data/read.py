"""Reading labelled frames from files; a label is never guessed in silence."""

import hashlib
import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import ase.io
import numpy as np
from ase import Atoms

from eqpot.data.cache import VERSION, load_frames, save_frames
from eqpot.data.frames import Frame
from eqpot.data.labels import Contents, LabelKeys, make_frame
from eqpot.data.readers import read_contents
from eqpot.data.readers.ase_formats import text_format
from eqpot.data.readers.pymatgen_json import is_pymatgen, structure_from_json
from eqpot.data.reference_energies import is_isolated_atom
from eqpot.errors import DataError, short

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Source:
    """A data file, the weight of its frames in the loss, and the names and units of its labels."""

    path: Path
    weight: float = 1.0
    keys: LabelKeys = field(default_factory=LabelKeys)


@dataclass(frozen=True)
class Loaded:
    """The frames of a source, which keys served how many of them, and keys that look like labels and were not asked for."""

    frames: list[Frame]
    served: str
    unused: list[str]


def read_frames(
    sources: Sequence[str | Path | Source] | str | Path | Source, keys: LabelKeys | None = None, cache: Path | None = None
) -> list[Frame]:
    """Read labelled frames from files, in eV and Å.

    rMD17 and MD17 npz; vasprun.xml and OUTCAR; ASE databases; JSON of pymatgen structures (mlearn and maml too); extxyz and all else that
    ASE reads; .gz of these. `keys` name the labels of the files given by path alone. The log says which key served how many frames.
    cache: a folder where the frames are kept, so that a file is parsed once for its content and keys.

    A label that is missing in some frames of a file is None there. Raises DataError, naming file and frame, for an unreadable or empty
    file, a key that serves no frame of a file (with the keys that are there; `stress` alone may be absent), a frame without energy and
    forces, and labels that are not finite or have the wrong shape.
    """
    return [frame for source in as_sources(sources, keys) for frame in read_source(source, cache).frames]


def as_sources(sources: Sequence[str | Path | Source] | str | Path | Source, keys: LabelKeys | None = None) -> list[Source]:
    """Return paths as sources with these keys."""
    if isinstance(sources, str | Path | Source):
        sources = [sources]
    return [source if isinstance(source, Source) else Source(Path(source), keys=keys or LabelKeys()) for source in sources]


def read_source(source: Source, cache: Path | None = None, problems: list[str] | None = None) -> Loaded:
    """Read one source as `read_frames` does; errors of single frames go into `problems` where a list is given."""
    path = source.path
    if not path.is_file():
        raise DataError(f"There is no data file {path}; check the path.")
    kept = None if cache is None else cache / f"frames-{_digest(source)}.safetensors"
    stored = load_frames(kept, str(path), source.weight) if kept is not None else None
    if stored is None:
        contents = read_contents(path, source.keys)
        _check_keys(path, contents, ("energy", "forces"))
        loaded = Loaded(_make_frames(contents, source, problems), _served(contents), _unused(contents))
        _check_keys(path, contents, ("stress", "virial"))
        if kept is not None and not problems:
            save_frames(kept, loaded.frames, {"served": loaded.served, "unused": loaded.unused})
    else:
        frames, notes = stored
        loaded = Loaded(frames, notes["served"], notes["unused"])
    logger.info("%s: %d frames, %s", path, len(loaded.frames), loaded.served)
    if problems is None:
        _warn_of_stress(source, loaded)
    if _lacks("energy", loaded.frames) or _lacks("forces", [frame for frame in loaded.frames if not is_isolated_atom(frame.atoms)]):
        logger.warning("%s: some frames lack an energy or forces; what they lack is left out of the loss", path)
    return loaded


def _lacks(name: str, frames: Sequence[Frame]) -> bool:
    """Whether some frames, and not all, have no such label. The force on a lone atom is zero, and nobody writes it down."""
    return 0 < sum(getattr(frame, name) is None for frame in frames) < len(frames)


def _warn_of_stress(source: Source, loaded: Loaded) -> None:
    """Warn of a stress under another name than the one asked for: files may lack a stress, so that is no error."""
    asked = source.keys.stress is not None or source.keys.virial is not None
    others = [name for name in loaded.unused if "stress" in name.lower() or "virial" in name.lower()]
    if asked and others and all(frame.stress is None for frame in loaded.frames):
        there = ", ".join(others)
        logger.warning(
            "%s also holds %s, which is not used; name it with stress_key or virial_key, or set stress_key: null", source.path, there
        )


def _check_keys(path: Path, contents: Contents, labels: Sequence[str]) -> None:
    """Raise DataError for a key that serves no frame: misspelt, missing, or moved elsewhere by the reader."""
    records = contents.records
    keys = contents.keys.named()
    if not keys:
        raise DataError(f"{path}: no label is asked for; name at least one of energy_key and forces_key.")
    for label, key in keys.items():
        optional = label == "stress" and key == LabelKeys.stress
        # The force on a lone atom is zero, and nobody writes it down.
        optional |= label == "forces" and all(is_isolated_atom(record.atoms) for record in records)
        if label not in labels or optional or any(record.values.get(key) is not None for record in records):
            continue
        there = ", ".join(sorted({name for record in records for name in record.values})) or "none"
        where = f"{path}, frame 0: no {label}" if label in ("energy", "forces") else f"{path}: no frame has a {label}"
        raise DataError(f"{where} under the key {key!r}; the keys there are: {there}. Name the right one ({label}_key).")


def _make_frames(contents: Contents, source: Source, problems: list[str] | None) -> list[Frame]:
    frames = []
    for index, record in enumerate(contents.records):
        origin = f"{source.path}, frame {index}"
        try:
            frame = make_frame(record, contents.keys, origin, source.weight)
        except DataError as error:
            if problems is None:
                raise
            problems.append(str(error))
        else:
            frames.append(frame)
    return frames


def _served(contents: Contents) -> str:
    """Return which key served for which label, and how many frames."""
    n_frames, parts = len(contents.records), []
    keys = contents.keys.named()
    for label, key in keys.items():
        count = sum(record.values.get(key) is not None for record in contents.records)
        parts.append(f"{label} from {key!r}" + ("" if count == n_frames else f" in {count} of them") if count else f"no {label}")
    parts += [
        f"no {label}" for label in ("energy", "forces", "stress") if label not in keys and not (label == "stress" and "virial" in keys)
    ]
    units = contents.keys.units
    named = units.model_dump(exclude_none=True) if units else {}
    converted = [f", {quantity} in {unit} converted" for quantity, unit in named.items() if units and units.factor(quantity) != 1]
    return ", ".join(parts) + "".join(converted)


def _unused(contents: Contents) -> list[str]:
    """Return keys that look like labels and were not asked for."""
    words = ("energy", "forces", "stress", "virial")
    there = {name for record in contents.records for name in record.values if any(word in name.lower() for word in words)}
    # ASE writes the energy a second time, as the free energy, where the method tells of one alone.
    if all(np.array_equal(record.values.get("energy", ()), record.values.get("free_energy", ())) for record in contents.records):
        there.discard("free_energy")
    return sorted(there - set(contents.keys.named().values()))


def _digest(source: Source) -> str:
    keys = source.keys
    named = json.dumps([VERSION, keys.named(), keys.units.model_dump() if keys.units else None, source.path.name.lower()])
    return hashlib.sha256(named.encode() + source.path.read_bytes()).hexdigest()[:32]


def read_structure(path: str | Path) -> Atoms:
    """Read one structure, the last if the file holds several, or the one that name@index asks for; DataError if that is impossible.

    Anything ASE reads, and the JSON of a pymatgen Structure or Molecule, the form in which the Materials Project gives them.
    """
    path, index = Path(path), None
    name, _, after = str(path).rpartition("@")
    if name and after.removeprefix("-").isdecimal() and not path.is_file():
        path, index = Path(name), int(after)
    if not path.is_file():
        raise DataError(f"There is no structure file {path}; check the path.")
    try:
        if path.suffix == ".json" and is_pymatgen(path):
            atoms = structure_from_json(path)
        else:
            atoms = _read_image(path, -1 if index is None else index)
    except Exception as error:
        if index is not None and isinstance(error, IndexError | StopIteration):
            raise DataError(f"{path} holds no structure {index}; the first is 0, the last -1.") from error
        raise DataError(
            f"{path} cannot be read as a structure ({type(error).__name__}: {short(error)}); check the file and its format."
        ) from error
    if index is None and _holds_several(path):
        logger.warning("%s holds several structures; the last is taken, and %s@0 is the first", path, path)
    if len(atoms) == 0:
        raise DataError(f"{path} holds a structure without atoms.")
    return atoms


def _read_image(path: Path, index: int) -> Atoms:
    return cast(Atoms, ase.io.read(path, index=index, format=text_format(path), do_not_split_by_at_sign=True))


def _holds_several(path: Path) -> bool:
    """Whether there is a second structure; the formats of single ones refuse to look for it, each in its way."""
    try:
        return path.suffix != ".json" and len(_read_image(path, 1)) > 0
    except Exception:
        return False


def file_hash(paths: Sequence[str | Path]) -> str:
    """Return the SHA-256 of the files' contents, in their order."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()
