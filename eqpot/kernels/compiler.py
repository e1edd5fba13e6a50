"""Compile a C source with the system's compiler at first use and keep the result in the user's cache."""

import ctypes
import hashlib
import os
import platform
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

# No -ffast-math: linked into a library it makes the whole process flush denormal numbers to zero.
_FLAGS = ("-O3", "-march=native", "-std=gnu11", "-ffp-contract=fast", "-fno-math-errno", "-fPIC", "-shared", "-pthread")


class CompilationError(Exception):
    """There is no C compiler, or it refused the source."""


def cache_folder() -> Path:
    """Return where compiled kernels are kept: $EQPOT_CACHE, or eqpot in the user's cache folder."""
    chosen = os.environ.get("EQPOT_CACHE")
    return Path(chosen) if chosen else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "eqpot"


@cache
def compile_library(source: Path, definitions: tuple[tuple[str, str], ...]) -> ctypes.CDLL:
    """Return the library made of `source` with the macros `definitions`; CompilationError where that cannot be had."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        raise CompilationError("there is no C compiler (cc, gcc or clang)")
    command = [*compiler.split(), *_FLAGS, *(f"-D{name}={value}" for name, value in definitions)]
    # A library made for one processor may not run on another that shares the cache, as the nodes of a cluster do.
    key = "\0".join([source.read_text(), *command, _compiler_version(compiler), _processor()])
    library = cache_folder() / f"{source.stem}-{hashlib.sha256(key.encode()).hexdigest()[:24]}.so"
    try:
        if not library.exists():
            library.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=library.parent) as folder:
                made = Path(folder) / library.name
                subprocess.run([*command, str(source), "-o", str(made), "-lm"], check=True, capture_output=True, text=True)  # noqa: S603
                made.replace(library)
        return ctypes.CDLL(str(library))
    except subprocess.CalledProcessError as error:
        raise CompilationError(f"{compiler} failed: {(error.stderr.strip().splitlines() or ['no message'])[0]}") from error
    except OSError as error:
        raise CompilationError(str(error)) from error


def _compiler_version(compiler: str) -> str:
    try:
        return subprocess.run([*compiler.split(), "--version"], capture_output=True, text=True, check=False).stdout  # noqa: S603
    except OSError as error:
        raise CompilationError(f"the C compiler {compiler} cannot be run ({error})") from error


def _processor() -> str:
    """Return the model and features of the processor where the system tells them."""
    description = Path("/proc/cpuinfo")
    if not description.is_file():
        return f"{platform.machine()} {platform.processor()}"
    lines = description.read_text().splitlines()
    return "\n".join(dict.fromkeys(line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))))
