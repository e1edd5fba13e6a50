"""Is a model file what it should be, and is this machine ready?"""

import hashlib
import logging
import os
import platform
import shutil
import tempfile
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms

from eqpot.data.doctor.findings import Finding
from eqpot.exactness import force_deviation, result_of, rotation_error
from eqpot.kernels.compiler import cache_folder
from eqpot.model_file import load_potential, read_header
from eqpot.potential import Potential
from eqpot.shipped import model_path

FORCE_TOLERANCE, ROTATION_TOLERANCE = 1e-5, 1e-6
"""Relative to the largest force, in float64: a derivative by differences is good to about 1e-7, an exact rotation to 1e-12."""

_OPTIONAL = ("vesin", "torch-cluster", "dftd3", "tensorboard", "h5py", "matcalc", "atomate2")


def examine_model(path: str | Path) -> tuple[dict[str, Any], list[Finding]]:
    """Return the facts of a model file and what its checks say; ModelFileError where it does not load (weights that are not finite too)."""
    path = model_path(path)
    header = read_header(path)
    reasons = _Messages()
    logger = logging.getLogger("eqpot.kernels")
    logger.addHandler(reasons)
    try:
        fused = load_potential(path).fused_kernel() is not None
    finally:
        logger.removeHandler(reasons)
    facts: dict[str, Any] = {
        "sha256": hashlib.sha256(Path(path).read_bytes()).hexdigest(),
        "format version": header.format_version,
        "architecture": header.architecture,
        "elements": ", ".join(header.elements),
        "cutoff": header.cutoff,
        "dtype": header.dtype,
        "shortest distances, Å": ", ".join(f"{pair} {distance:.2f}" for pair, distance in header.shortest_distances.items()) or "unknown",
        "versions": ", ".join(f"{name} {number}" for name, number in header.versions.items()),
        "data sha256": header.training.get("data_sha256", "unknown"),
        "fused kernel": "used" if fused else "; ".join(reasons.texts) or "there is none for this architecture",
    }
    exact = load_potential(path, dtype="float64")
    facts["parameters"] = sum(parameter.numel() for parameter in exact.network.parameters())
    atoms = _cluster(exact)
    rotated = {name: _rotation_error(load_potential(path, dtype=name), atoms) for name in ("float64", header.dtype)}
    facts["rotation error, of the largest force"] = ", ".join(f"{error:.1e} in {name}" for name, error in rotated.items())
    difference = force_deviation(exact, atoms)
    facts["force against differences, of the largest force"] = f"{difference:.1e} in float64"
    findings = []
    if not difference < FORCE_TOLERANCE:
        message = f"Forces differ from -dE/dr by {difference:.1e} of the largest force; the potential does not conserve energy."
        findings.append(Finding("error", "forces", message))
    if not rotated["float64"] < ROTATION_TOLERANCE:
        # The paper's block is equivariant by sampling alone.
        message = f"Energy and forces change by {rotated['float64']:.1e} of the largest force under rotation."
        findings.append(Finding("warning", "rotation", message))
    if not fused:
        findings.append(Finding("note", "fused kernel", f"The fused kernel is not used: {facts['fused kernel']}."))
    return facts, findings


def examine_environment() -> tuple[dict[str, Any], list[Finding]]:
    """Return versions, compiler, threads, optional packages and cache folder, and what is missing."""
    facts: dict[str, Any] = {"python": platform.python_version(), "platform": platform.platform()}
    facts.update({name: version(name) for name in ("eqpot", "torch", "numpy", "ase")})
    compiler = os.environ.get("CC") or next((found for name in ("cc", "gcc", "clang") if (found := shutil.which(name))), None)
    facts["C compiler"] = compiler or "none"
    facts["C++ compiler"] = os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or shutil.which("clang++") or "none"
    facts["threads of torch"] = torch.get_num_threads()
    facts["processors"] = os.cpu_count()
    facts["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS", "not set")
    facts["GPU"] = torch.cuda.get_device_name() if torch.cuda.is_available() else "none"
    facts["optional packages"] = ", ".join(f"{name} {_version(name)}" for name in _OPTIONAL)
    folder = cache_folder()
    facts["cache folder"] = str(folder)
    findings = []
    if compiler is None:
        message = "There is no C compiler (cc, gcc or clang): kernels that are not in the cache cannot be made, and potentials are slower."
        findings.append(Finding("warning", "compiler", message))
    if folder.parent == Path(tempfile.gettempdir()) and folder.name.startswith("eqpot-"):
        message = "The cache folder cannot be written: kernels are compiled again by every process; set EQPOT_CACHE to a folder of yours."
        findings.append(Finding("warning", "cache", message))
    return facts, findings


class _Messages(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def _cluster(potential: Potential) -> Atoms:
    """Return a cluster of the potential's elements, every atom with neighbours and none on top of another."""
    random = np.random.default_rng(0)
    spacing = 0.6 * min(potential.cutoff, 5.0)
    grid = np.stack(np.meshgrid(*3 * [np.arange(2)], indexing="ij"), axis=-1).reshape(-1, 3) * spacing
    numbers = [potential.elements[i % len(potential.elements)] for i in range(len(grid))]
    return Atoms(numbers, grid + random.normal(scale=0.08 * spacing, size=grid.shape))


def _rotation_error(potential: Potential, atoms: Atoms) -> float:
    """Return the largest change of energy (eV) and forces (eV/Å) under rotations and reflections, over the largest force."""
    return max(rotation_error(potential, atoms, n_rotations=4)) / float(abs(result_of(potential, atoms)["forces"]).max())


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
