"""H5MD trajectories (de Buyl, Colberg, Höfling 2014; H5MD 1.1) in a file that no killed process can break.

HDF5 moves and rewrites its own tables while a file grows, and a process that dies meanwhile leaves a file nobody can open. Here the
library lays the file out once, in memory, with room for all frames in one piece an array. A frame goes to its place as plain bytes. Then
the numbers of frames that stand in the headers of the arrays are raised, all in one write, so any reader sees the frames that are whole
and no others. Places and headers are those of the HDF5 File Format Specification, IV.A.1.a (version 1 object headers), IV.A.2.b (dataspace)
and IV.A.2.i (layout); the library reads the file back before the first frame is written.

Room that is not used yet takes no space on a disk whose file system knows sparse files.
"""

import os
import struct
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from ase import Atoms, units
from ase.stress import voigt_6_to_full_3x3_stress

from eqpot.errors import ConfigError, SimulationError
from eqpot.files import check_writable, sync_folder, write_at
from eqpot.md.trajectory import Mark, Trajectory, reported
from eqpot.units import FEMTOSECOND

UNITS = {
    "position": "Angstrom",
    "velocity": "Angstrom fs-1",
    "force": "kJ mol-1 Angstrom-1",
    "edges": "Angstrom",
    "potential_energy": "eV",
    "stress": "eV Angstrom-3",
    "time": "fs",
    "mass": "u",
}
"""As MDAnalysis spells them; it reads forces in no unit with eV."""

GROUP = "trajectory"
"""Name of the group of particles; MDAnalysis can do without a topology if it is this."""

_Kind = tuple[np.dtype[Any], tuple[int, ...]]
_SINGLE: np.dtype[Any] = np.dtype("<f4")
_DOUBLE: np.dtype[Any] = np.dtype("<f8")
_INTEGER: np.dtype[Any] = np.dtype("<i8")

_FORCE: float = units.mol / units.kJ
_DATASPACE, _LAYOUT = 1, 8
_NOWHERE = 2**64 - 1
"""The address of an array without bytes."""


@dataclass(frozen=True)
class _Array:
    """An array with a row for every frame: where it begins, and where the file's header has its numbers of rows, and begin and bytes."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    rows_at: tuple[int, ...]
    extent_at: int

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape, dtype=int)) * self.dtype.itemsize


class _Pieces:
    """A file in memory for the library to write to, of which only what is written takes space.

    On the disk itself the library crashes the process where there is no room.
    """

    def __init__(self) -> None:
        self.size = self._place = 0
        self.written: list[tuple[int, bytes]] = []

    def seek(self, place: int, whence: int = os.SEEK_SET) -> int:
        self._place = place + {os.SEEK_SET: 0, os.SEEK_CUR: self._place, os.SEEK_END: self.size}[whence]
        return self._place

    def tell(self) -> int:
        return self._place

    def write(self, content: bytes | memoryview) -> int:
        self.written.append((self._place, bytes(content)))
        self.size = max(self.size, self._place + len(content))
        self._place += len(content)
        return len(content)

    def read(self, length: int) -> bytes:
        found = bytearray(length)
        for place, content in self.written:
            first, last = max(place, self._place), min(place + len(content), self._place + length)
            if first < last:
                found[first - self._place : last - self._place] = content[first - place : last - place]
        self._place += length
        return bytes(found)

    def readinto(self, buffer: memoryview) -> int:
        buffer[:] = self.read(len(buffer))
        return len(buffer)

    def truncate(self, size: int) -> int:
        self.size = size
        return size

    def flush(self) -> None: ...


@dataclass(frozen=True)
class _Layout:
    """The arrays of a file by name, its first bytes, and all its pieces."""

    arrays: dict[str, _Array]
    header: bytes
    pieces: _Pieces

    @cached_property
    def span(self) -> tuple[int, int]:
        """Where the numbers that change begin and end."""
        places = [place for array in self.arrays.values() for place in (*array.rows_at, array.extent_at)]
        return min(places), max(places) + 16

    def counts(self, header: bytes, n_frames: int) -> bytes:
        """Return the part of `header` within `span`, for a file of n_frames."""
        content = bytearray(header)
        for array in self.arrays.values():
            for place in array.rows_at:
                struct.pack_into("<Q", content, place, n_frames)
            struct.pack_into("<QQ", content, array.extent_at, array.offset if n_frames else _NOWHERE, n_frames * array.row_bytes)
        return bytes(content[slice(*self.span)])


class H5MDTrajectory(Trajectory):
    """Positions, velocities and forces in float32, all else in float64; see the module.

    There is a stress where the cell of the first structure has a volume, and there are edges of the box where it has a cell.
    """

    def __init__(self, path: Path, atoms: Atoms, n_frames: int, mark: Mark | None) -> None:
        self.path = path
        self._room = n_frames
        self._layout = _lay_out(atoms, n_frames)
        if mark is None:
            check_writable(path)
            self._create()
        elif not path.is_file():
            raise ConfigError(f"The file {path} is missing; bring it back.")
        self._file = path.open("r+b", buffering=0)
        self._n_frames = 0
        if mark is not None:
            self._check(mark)
            self._count(mark["frames"])

    def _create(self) -> None:
        """Make the new file, which holds no frame, or none at all."""
        try:
            with self.path.open("xb") as file:
                for place, content in self._layout.pieces.written:
                    write_at(file.fileno(), content, place)
                write_at(file.fileno(), self._layout.counts(self._layout.header, 0), self._layout.span[0])
                file.truncate(self._layout.pieces.size)
            self._read_back()
        except BaseException:
            self.path.unlink(missing_ok=True)
            raise
        sync_folder(self.path.parent)

    def _read_back(self) -> None:
        with h5py.File(self.path) as file:
            shapes = {name: file[name].shape for name in self._layout.arrays}
        if shapes != {name: (0, *array.shape) for name, array in self._layout.arrays.items()}:
            raise SimulationError("The installed HDF5 library does not read its arrays as expected; write .extxyz or .traj instead.")

    def _check(self, mark: Mark) -> None:
        """Raise ConfigError if the file is not the one that was marked."""
        size = os.fstat(self._file.fileno()).st_size
        found = os.pread(self._file.fileno(), len(self._layout.header), 0)
        expected = self._layout.counts(self._layout.header, 0)
        if mark["room"] != self._room or size != mark["bytes"] or self._layout.counts(found, 0) != expected:
            self._file.close()
            raise ConfigError(
                f"The file {self.path} is not the one that the run wrote, or has room for {mark['room']} frames where {self._room} are "
                "wanted; bring it back, or start a new run in another folder."
            )

    def _append(self, frame: Atoms) -> None:
        if self._n_frames == self._room:
            raise SimulationError(f"The trajectory {self.path} is full: room was kept for {self._room} frames.")
        # What a frame lacks is NaN: the file has its place.
        results: dict[str, Any] = {"energy": np.nan, "forces": np.full((len(frame), 3), np.nan), "stress": np.full(6, np.nan)}
        results |= frame.calc.results if frame.calc else {}
        values = {
            f"particles/{GROUP}/position/value": frame.positions,
            f"particles/{GROUP}/velocity/value": frame.get_velocities() * FEMTOSECOND,
            f"particles/{GROUP}/force/value": results["forces"] * _FORCE,
            f"particles/{GROUP}/position/step": frame.info["step"],
            f"particles/{GROUP}/position/time": frame.info["time_fs"],
            f"particles/{GROUP}/box/edges/value": frame.cell.array,
            "observables/potential_energy/value": results["energy"],
        }
        if "observables/stress/value" in self._layout.arrays:
            values["observables/stress/value"] = voigt_6_to_full_3x3_stress(results["stress"])
        for name, array in self._layout.arrays.items():
            row = np.ascontiguousarray(values[name], dtype=array.dtype).reshape(array.shape)
            write_at(self._file.fileno(), row.tobytes(), array.offset + self._n_frames * array.row_bytes)
        self._count(self._n_frames + 1)

    def _count(self, n_frames: int) -> None:
        """Say how many frames there are; on the way to the disk the numbers of some arrays may be ahead of those of others."""
        write_at(self._file.fileno(), self._layout.counts(self._layout.header, n_frames), self._layout.span[0])
        self._n_frames = n_frames

    def mark(self) -> Mark:
        with reported(self.path):
            os.fsync(self._file.fileno())
            return {"frames": self._n_frames, "room": self._room, "bytes": os.fstat(self._file.fileno()).st_size}

    def close(self) -> None:
        self._file.close()


def _lay_out(atoms: Atoms, n_frames: int) -> _Layout:
    """Let the library make a file with room for all frames, and return where things are."""
    pieces = _Pieces()
    with h5py.File(pieces, "w", libver=("earliest", "v108")) as file:
        datasets = _fill(file, atoms, n_frames)
        for dataset in datasets.values():
            # Arrays get their places with their first numbers, so after all headers.
            dataset[(0,) * dataset.ndim] = 0
        places = {name: (dataset.id.get_offset(), h5py.h5o.get_info(dataset.id).addr) for name, dataset in datasets.items()}
        kinds = {name: (dataset.dtype, dataset.shape[1:]) for name, dataset in datasets.items()}
    pieces.seek(0)
    header = pieces.read(min(offset for offset, _ in places.values()))
    arrays = {name: _Array(offset, *kinds[name], *_counters(header, address)) for name, (offset, address) in places.items()}
    return _Layout(arrays, header, pieces)


def _fill(file: h5py.File, atoms: Atoms, n_frames: int) -> dict[str, h5py.Dataset]:
    """Write what does not change and make the arrays of the frames, which are returned by name."""
    h5md = file.create_group("h5md")
    h5md.attrs["version"] = np.array([1, 1], dtype=np.int32)
    h5md.create_group("author").attrs["name"] = "N/A"
    h5md.create_group("creator").attrs.update({"name": "eqpot", "version": version("eqpot")})
    h5md.create_group("modules/units").attrs.update({"version": np.array([1, 0], dtype=np.int32), "system": "SI"})
    particles = file.create_group(f"particles/{GROUP}")
    box = particles.create_group("box")
    box.attrs["dimension"] = 3
    box.attrs["boundary"] = ["periodic" if periodic else "none" for periodic in atoms.pbc]
    elements: dict[str, _Kind] = {f"particles/{GROUP}/{name}": (_SINGLE, (len(atoms), 3)) for name in ("position", "velocity", "force")}
    if atoms.cell.any():
        elements[f"particles/{GROUP}/box/edges"] = (_DOUBLE, (3, 3))
    elements["observables/potential_energy"] = (_DOUBLE, ())
    if atoms.cell.rank == 3:
        elements["observables/stress"] = (_DOUBLE, (3, 3))
    kinds = {f"{name}/value": kind for name, kind in elements.items()}
    first = f"particles/{GROUP}/position"
    kinds |= {f"{first}/step": (_INTEGER, ()), f"{first}/time": (_DOUBLE, ())}
    arrays = {name: _room(file, name, dtype, (n_frames, *shape)) for name, (dtype, shape) in kinds.items()}
    for name in elements:
        arrays[f"{name}/value"].attrs["unit"] = UNITS[name.rsplit("/", 1)[1]]
        if name != first:
            file[f"{name}/step"], file[f"{name}/time"] = arrays[f"{first}/step"], arrays[f"{first}/time"]
    arrays[f"{first}/time"].attrs["unit"] = UNITS["time"]
    particles["species"] = atoms.numbers.astype(np.int32)
    particles["mass"] = atoms.get_masses()
    particles["mass"].attrs["unit"] = UNITS["mass"]
    return arrays


def _room(file: h5py.File, name: str, dtype: np.dtype[Any], shape: tuple[int, ...]) -> h5py.Dataset:
    """Make an array in one piece, which gets its place with the first number that is written to it."""
    properties = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    properties.set_layout(h5py.h5d.CONTIGUOUS)
    properties.set_alloc_time(h5py.h5d.ALLOC_TIME_LATE)
    properties.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    properties.set_obj_track_times(False)
    group, last = file.require_group(name.rsplit("/", 1)[0]), name.rsplit("/", 1)[1]
    space = h5py.h5s.create_simple(shape)
    return h5py.Dataset(h5py.h5d.create(group.id, last.encode(), h5py.h5t.py_create(dtype), space, properties))


def _counters(header: bytes, address: int) -> tuple[tuple[int, ...], int]:
    """Return where the object header at `address` holds the number of rows (present and largest) and the extent."""
    _, _, n_messages = struct.unpack_from("<BBH", header, address)
    place = address + 16
    messages: dict[int, int] = {}
    for _ in range(n_messages):
        kind, size = struct.unpack_from("<HH", header, place)
        messages.setdefault(kind, place + 8)
        place += 8 + size
    space, layout = messages[_DATASPACE], messages[_LAYOUT]
    rank, has_largest = struct.unpack_from("<BB", header, space + 1)
    rows_at = (space + 8, space + 8 + 8 * rank) if has_largest & 1 else (space + 8,)
    return rows_at, layout + 2
