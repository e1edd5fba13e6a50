"""Trajectories and tables that a simulation appends to: extended XYZ, ASE's .traj, H5MD (see `eqpot.md.h5md`) and CSV.

A frame is written whole or not at all. A run that is killed may leave more frames than its restart file knows, and a torn one:
`mark` says where a file stands, and a file opened at a mark goes on from there, as if nothing had been written since. The resumed file
is then, to the last bit, that of a run without interruption.
"""

import io
import os
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

from ase import Atoms
from ase.io.extxyz import write_xyz
from ase.io.trajectory import TrajectoryWriter

from eqpot.errors import ConfigError, SimulationError, short
from eqpot.files import AppendedFile, check_writable, sync_folder

Mark = dict[str, int]
"""Where a file stands; JSON can hold it."""

FORMATS = (".extxyz", ".traj", ".h5md")


@contextmanager
def reported(path: Path) -> Iterator[None]:
    """Turn what the disk or the state of a file is to blame for into a SimulationError."""
    try:
        yield
    except OSError as error:
        reason = short(OSError(error.strerror)) if error.strerror else short(error)
        raise SimulationError(
            f"{path} cannot be written ({reason}); what was written before is whole: make room or mend the disk, and resume the run."
        ) from error


class Output(ABC):
    """A file that grows by whole records, open until `close`."""

    path: Path

    @abstractmethod
    def mark(self) -> Mark:
        """Bring what was written to the disk and return where the file stands; SimulationError where that fails."""

    @abstractmethod
    def close(self) -> None: ...

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Trajectory(Output):
    """Frames of one system."""

    def append(self, atoms: Atoms, step: int, time_fs: float) -> None:
        """Append a frame: positions, momenta and cell of `atoms`, and its calculator's energy, forces and, in a cell, stress.

        `atoms` is not changed. Raises SimulationError where the frame cannot be written; the file then holds the frames before it, and
        can be appended to again.
        """
        frame = atoms.copy()
        frame.info = {"step": step, "time_fs": time_fs}
        frame.calc = atoms.calc
        with reported(self.path):
            self._append(frame)

    @abstractmethod
    def _append(self, frame: Atoms) -> None: ...


def open_trajectory(path: str | Path, atoms: Atoms, n_frames: int, mark: Mark | None = None) -> Trajectory:
    """Open the trajectory of one system: a new file, or one that goes on from `mark`.

    path: its suffix, one of FORMATS, is the format. atoms: the system; n_frames: how many frames there will be, for which H5MD keeps room.
    Raises ConfigError for another suffix, h5py missing, a new file that exists or an old one that does not or is damaged, and
    SimulationError where the disk refuses.
    """
    from eqpot.md.h5md import H5MDTrajectory  # noqa: PLC0415 (it is made of this module's parts)

    path = Path(path)
    if path.suffix not in FORMATS:
        raise ConfigError(f"The trajectory {path.name} is none of {', '.join(FORMATS)}; give it one of these endings.")
    if path.suffix == ".h5md" and find_spec("h5py") is None:
        raise ConfigError("H5MD trajectories need h5py; install eqpot[h5md], or write .extxyz or .traj.")
    with reported(path):
        if path.suffix == ".extxyz":
            return ExtxyzTrajectory(path, mark)
        return AseTrajectory(path, mark) if path.suffix == ".traj" else H5MDTrajectory(path, atoms, n_frames, mark)


class Appended(Output):
    """A file whose records are appended as text, in `_file`; what a mark says is its length."""

    _file: AppendedFile

    def mark(self) -> Mark:
        with reported(self.path):
            self._file.sync()
        return {"bytes": self._file.length}

    def close(self) -> None:
        self._file.close()


class Table(Appended):
    """A table in CSV, its columns the keys of the first row."""

    def __init__(self, path: Path, mark: Mark | None = None) -> None:
        """Make a new file, or go on from `mark`; errors as in `open_trajectory`."""
        self.path = path
        with reported(path):
            self._file = _appended(path, mark)
            with path.open(encoding="utf-8", errors="replace") as file:
                self._heading = file.readline()

    def append(self, row: dict[str, Any]) -> None:
        """Append a row, after a heading if it is the first; SimulationError as in `Trajectory.append`, and for a row of other columns."""
        heading, text = (",".join(map(str, parts)) + "\n" for parts in (row, row.values()))
        if self._heading not in ("", heading):
            raise SimulationError(
                f"{self.path} was begun with other columns, by another version of eqpot; start a new run from the last frame of this one."
            )
        with reported(self.path):
            self._file.append((text if self._heading else heading + text).encode())
        self._heading = heading


class ExtxyzTrajectory(Appended, Trajectory):
    """Extended XYZ: eight digits after the point; momenta in ASE's units, forces in eV/Å."""

    def __init__(self, path: Path, mark: Mark | None) -> None:
        self.path = path
        self._file = _appended(path, mark)

    def _append(self, frame: Atoms) -> None:
        text = io.StringIO()
        write_xyz(text, [frame])
        self._file.append(text.getvalue().encode())


class AseTrajectory(Trajectory):
    """ASE's own format, float64.

    Its file (ASE's ULM) is a list of items, whose number and where the table of their places begins stand near its start. Items are added
    at the end, so restoring both and cutting the file takes it back.
    """

    _COUNT_AT = 32

    def __init__(self, path: Path, mark: Mark | None) -> None:
        self.path = path
        if mark is None:
            check_writable(path)
            path.touch()
            sync_folder(path.parent)
        self._mark = mark or {"bytes": 0, "items": 0, "table": 0}
        self._writer = self._go_on()

    def _go_on(self) -> TrajectoryWriter:
        """Return a writer for the file as it was at the mark."""
        if not self.path.is_file() or self.path.stat().st_size < self._mark["bytes"]:
            raise ConfigError(f"The file {self.path} is missing or shorter than when it was last written to; bring back the whole file.")
        with self.path.open("r+b") as file:
            file.truncate(self._mark["bytes"])
            if self._mark["bytes"]:
                file.seek(self._COUNT_AT)
                file.write(struct.pack("<qq", self._mark["items"], self._mark["table"]))
        return TrajectoryWriter(self.path, "a", master=True)

    def _append(self, frame: Atoms) -> None:
        try:
            self._writer.write(frame)
        except BaseException:
            # Half of the frame may wait in a buffer that its file's own `close` would still write.
            self._writer.backend.fd.raw.close()
            self._writer = self._go_on()
            raise
        items = self._writer.backend
        self._mark = {"bytes": items.fd.tell(), "items": len(items), "table": int(items.pos0)}

    def mark(self) -> Mark:
        with reported(self.path):
            os.fsync(self._writer.backend.fd.fileno())
        return dict(self._mark)

    def close(self) -> None:
        self._writer.backend.fd.close()


def _appended(path: Path, mark: Mark | None) -> AppendedFile:
    file = AppendedFile(path, None if mark is None else mark["bytes"])
    if mark is None:
        sync_folder(path.parent)
    return file
