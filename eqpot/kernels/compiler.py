"""Compile a C source with the system's compiler at first use and keep the result in the user's cache."""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

# No -ffast-math: linked into a library it makes the whole process flush denormal numbers to zero.
FLAGS = ("-O3", "-march=native", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared", "-pthread")


class CompilationError(Exception):
    """There is no C compiler, or it refused the source."""


@cache
def cache_folder() -> Path:
    """Return where compiled kernels are kept: $EQPOT_CACHE, or eqpot in the user's cache folder, or else a folder of this process.

    A folder is taken only if it can be written and belongs to the user: libraries from it are run.
    """
    try:
        chosen = os.environ.get("EQPOT_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eqpot"
        folder = Path(chosen)
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        mine = not hasattr(os, "getuid") or folder.stat().st_uid == os.getuid()
        if mine and os.access(folder, os.W_OK):
            return folder
    except (OSError, RuntimeError):
        pass
    return Path(tempfile.mkdtemp(prefix="eqpot-"))


@cache
def compile_library(sources: tuple[Path, ...], definitions: tuple[tuple[str, str], ...]) -> ctypes.CDLL:
    """Return the library made of the first source, which includes the others, with the macros `definitions`.

    Raises CompilationError where that cannot be had. A compiler is needed only for what the cache does not hold.
    """
    arguments = [*FLAGS, *(f"-D{name}={value}" for name, value in definitions)]
    # A library made for one processor may not run on another that shares the cache, as the nodes of a cluster do.
    key = "\0".join([*(source.read_text() for source in sources), *arguments, _processor()])
    library = cache_folder() / f"{sources[0].stem}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    try:
        if not _is_whole(library):
            compile_file(sources[0], arguments, library)
        return ctypes.CDLL(str(library))
    except OSError as error:
        raise CompilationError(str(error)) from error


def _is_whole(library: Path) -> bool:
    """Tell whether a library is there as it was written: a truncated one would end the process."""
    digest = library.with_suffix(".sha256")
    return library.is_file() and digest.is_file() and digest.read_text() == hashlib.sha256(library.read_bytes()).hexdigest()


def compile_file(source: Path, arguments: list[str], library: Path) -> None:
    """Make a library from a C source, and its digest beside it; raises CompilationError."""
    chosen = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if chosen is None:
        raise CompilationError("there is no C compiler (cc, gcc or clang)")
    compiler = [chosen] if Path(chosen).is_file() else shlex.split(chosen)
    with tempfile.TemporaryDirectory(dir=library.parent) as folder:
        made = Path(folder) / library.name
        try:
            command = [*compiler, *arguments, str(source), "-o", str(made), "-lm"]
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603
        except subprocess.CalledProcessError as error:
            raise CompilationError(f"{chosen} failed: {complaint(error.stderr)}") from error
        except OSError as error:
            raise CompilationError(f"the C compiler {chosen} cannot be run ({error})") from error
        digest = made.with_suffix(".sha256")
        digest.write_text(hashlib.sha256(made.read_bytes()).hexdigest())
        # Whoever finds the digest but an older library compiles again.
        made.replace(library)
        digest.replace(library.with_suffix(".sha256"))


def complaint(stderr: str) -> str:
    """Return the line in which a compiler names what is wrong; it first says which files led there."""
    lines = stderr.strip().splitlines() or ["no message"]
    return next((line for line in lines if "error" in line), lines[0])


def _processor() -> str:
    """Return the model and features of the processor where the system tells them."""
    description = Path("/proc/cpuinfo")
    if not description.is_file():
        return f"{platform.machine()} {platform.processor()}"
    lines = description.read_text().splitlines()
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))))
