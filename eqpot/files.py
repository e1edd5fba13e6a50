"""Writing files so that a crash or a full disk leaves the old file or the new one, and of records whole ones."""

import io
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from ase import Atoms
from ase.io.extxyz import write_xyz

from eqpot.errors import ConfigError, EqpotError, short


def check_writable(path: Path) -> None:
    """Raise ConfigError if a new file cannot be made at `path`: the folder is missing, or something is there already."""
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"There is no folder {path.parent} to write {path.name} into; make it or choose another.")
    if path.exists():
        raise ConfigError(f"The file {path} exists; choose another name or remove it.")


def check_new_folder(path: Path) -> None:
    """Raise ConfigError if something is at `path`, where a new folder is wanted, or if a file is where folders above it are."""
    if path.exists():
        raise ConfigError(f"The output folder {path} exists; choose another or remove it.")
    above = next(folder for folder in path.absolute().parents if folder.exists())
    if not above.is_dir():
        raise ConfigError(f"The output folder {path} cannot be made, as {above} is a file; choose another.")


@contextmanager
def told(path: Path) -> Iterator[None]:
    """Turn what the disk is to blame for into an EqpotError that names what was to be written."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or short(error)
        raise EqpotError(f"{path} cannot be written ({reason}); make room and check the folder, or choose another place.") from error


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """Give a folder to fill, which gets the name `path` once it is; a crash, a kill or a full disk leaves none there."""
    with told(path):
        path.absolute().parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.absolute().parent, prefix=f".{path.name}.") as name:
            # Within it, as temporary folders are their owner's alone.
            staging = Path(name) / "whole"
            staging.mkdir()
            yield staging
            staging.rename(path)


def check_replaceable(path: Path) -> None:
    """Raise EqpotError if the folder of `path` does not take a file, before much work goes into what that file is to hold."""
    with told(path):
        tempfile.TemporaryFile(dir=path.parent).close()


def extxyz(structures: Sequence[Atoms]) -> bytes:
    """Return structures as extended XYZ."""
    text = io.StringIO()
    write_xyz(text, structures)
    return text.getvalue().encode()


def write_structures(path: Path, structures: Sequence[Atoms]) -> None:
    """Write structures as extended XYZ, atomically."""
    write_atomically(path, extxyz(structures))


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path`, flush it to disk, and rename it to `path`; EqpotError where the disk refuses."""
    with told(path):
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp makes files that only their owner reads.
            umask = os.umask(0)
            os.umask(umask)
            Path(temporary).chmod(0o666 & ~umask)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


class AppendedFile:
    """A file that grows by whole records: one that cannot be written, as on a full disk, leaves no trace.

    `length`: its bytes so far. A process that is killed may leave a torn record beyond them; opening at a length drops it.
    """

    def __init__(self, path: Path, length: int | None = None) -> None:
        """Make a new file, or open one and go on from `length` bytes; ConfigError where there is one already, or fewer bytes."""
        if length is None:
            check_writable(path)
        elif not path.is_file() or path.stat().st_size < length:
            raise ConfigError(f"The file {path} is missing or shorter than when it was last written to; bring back the whole file.")
        self.length = length or 0
        self._file = path.open("xb" if length is None else "r+b", buffering=0)
        os.truncate(self._file.fileno(), self.length)

    def append(self, content: bytes) -> None:
        """Write a record, or raise OSError and leave the file as it was."""
        try:
            write_at(self._file.fileno(), content, self.length)
        except BaseException:
            os.truncate(self._file.fileno(), self.length)
            raise
        self.length += len(content)

    def sync(self) -> None:
        """Bring what was written to the disk."""
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def write_at(handle: int, content: bytes, place: int) -> None:
    """Write all of `content`, which the system may take in several bites, into an open file from the byte `place` on."""
    done = 0
    while done < len(content):
        done += os.pwrite(handle, content[done:], place + done)


def sync_folder(folder: Path) -> None:
    """Bring the names of a folder's files to the disk: a new file outlives a power cut only then."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
