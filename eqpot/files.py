"""Writing files so that a crash or a full disk leaves the old file or the new one, never half of one."""

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
