"""Frames and graphs in memory-mapped files, so that a large set is parsed, and its neighbours are found, once."""

import json
import logging
import os
import tempfile
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from eqpot.data.frames import Frame

_logger = logging.getLogger(__name__)

VERSION = 1
"""Part of every key: files of another version are not looked at."""


def save_frames(path: Path, frames: Sequence[Frame], notes: dict[str, Any]) -> None:
    """Write frames, but for their sources' path and weight, and notes that can be JSON."""
    atoms = [frame.atoms for frame in frames]
    missing = np.full((3, 3), np.nan)
    write_tensors(
        path,
        {
            "count": np.array([len(each) for each in atoms]),
            "index": np.array([int(frame.origin.rsplit(" ", 1)[1]) for frame in frames]),
            "numbers": np.concatenate([each.numbers for each in atoms]),
            "positions": np.concatenate([each.positions for each in atoms]),
            "cell": np.stack([each.cell.array for each in atoms]),
            "pbc": np.stack([each.pbc for each in atoms]),
            "energy": np.array([np.nan if frame.energy is None else frame.energy for frame in frames]),
            "has_forces": np.array([frame.forces is not None for frame in frames]),
            "forces": np.concatenate([np.zeros((len(frame.atoms), 3)) if frame.forces is None else frame.forces for frame in frames]),
            "stress": np.stack([missing if frame.stress is None else frame.stress for frame in frames]),
        },
        notes,
    )


def load_frames(path: Path, origin: str, weight: float) -> tuple[list[Frame], dict[str, Any]] | None:
    """Return what `save_frames` wrote, or None where there is no whole file. Forces and positions stay in the mapped file."""
    content = read_tensors(path)
    if content is None:
        return None
    try:
        return _frames({name: tensor.numpy() for name, tensor in content[0].items()}, origin, weight), content[1]
    except (LookupError, TypeError, ValueError):
        _logger.warning("The cached file %s is damaged and is made again", path)
        return None


def _frames(arrays: dict[str, np.ndarray], origin: str, weight: float) -> list[Frame]:
    frames = []
    for i, (start, end) in enumerate(pairwise([0, *np.cumsum(arrays["count"]).tolist()])):
        atoms = Atoms(arrays["numbers"][start:end], arrays["positions"][start:end], cell=arrays["cell"][i], pbc=arrays["pbc"][i])
        energy, stress = float(arrays["energy"][i]), arrays["stress"][i]
        frames.append(
            Frame(
                atoms,
                None if np.isnan(energy) else energy,
                arrays["forces"][start:end] if arrays["has_forces"][i] else None,
                None if np.isnan(stress[0, 0]) else stress,
                f"{origin}, frame {arrays['index'][i]}",
                weight,
            )
        )
    return frames


def write_tensors(path: Path, arrays: dict[str, np.ndarray], notes: dict[str, Any]) -> None:
    """Write arrays to a file of the cache; a folder that cannot be written costs time, not the run, and is logged."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        os.close(handle)
        try:
            tensors = {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}
            save_file(tensors, temporary, metadata={"notes": json.dumps(notes)})
            Path(temporary).replace(path)
        finally:
            Path(temporary).unlink(missing_ok=True)
    except OSError as error:
        _logger.warning("The cache %s cannot be written (%s); the data will be read again next time", path.parent, error.strerror)


def read_tensors(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]] | None:
    """Return the tensors, mapped from the file, and the notes; None where there is no whole file."""
    if not path.is_file():
        return None
    try:
        with safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, json.loads(file.metadata()["notes"])  # noqa: SIM118 (no mapping)
    except (SafetensorError, OSError, KeyError, TypeError, ValueError, RecursionError):
        _logger.warning("The cached file %s is damaged and is made again", path)
        return None
