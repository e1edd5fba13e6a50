"""Writing files so that a crash or a full disk leaves the old file or the new one, and of records whole ones."""

import os
import tempfile
from pathlib import Path

from eqpot.errors import ConfigError


def check_writable(path: Path) -> None:
    """Raise ConfigError if a new file cannot be made at `path`: the folder is missing, or something is there already."""
    if not path.absolute().parent.is_dir():
        raise ConfigError(f"There is no folder {path.parent} to write {path.name} into; make it or choose another.")
    if path.exists():
        raise ConfigError(f"The file {path} exists; choose another name or remove it.")


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file beside `path`, flush it to disk, and rename it to `path`."""
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
