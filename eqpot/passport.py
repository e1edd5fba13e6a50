"""The passport of a potential: what it was measured to be, beside its model file.

Errors on test frames in the model's precision; exactness, smoothness and conservation in float64 on a structure, so that nothing but
the network's own failings is seen.
"""

import io
import math
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import ase.io
import numpy as np
import torch
from ase import Atoms
from pydantic import BaseModel, ConfigDict, ValidationError

from eqpot.config_file import explain, load_config
from eqpot.data import Frame, file_hash, label_graphs, read_frames
from eqpot.errors import ConfigError, ModelFileError, SimulationError
from eqpot.exactness import cutoff_jump, extensivity_error, force_deviation, result_of, rotation_error, stress_deviation
from eqpot.files import write_atomically
from eqpot.md import Settings, Simulation
from eqpot.model_file import load_potential, read_header
from eqpot.neighbors import build_graph, neighbor_list
from eqpot.observables.series import drift
from eqpot.potential import Potential
from eqpot.shipped import model_path
from eqpot.training import TrainConfig, evaluate
from eqpot.training.metrics import check_frames
from eqpot.training.start import read_split
from eqpot.units import GIGAPASCAL

TIMED_ATOMS = 500
"""A crystal is repeated to about so many for the timing."""


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid")


class Errors(_Section):
    """On labelled frames; forces and stress by component."""

    data: str
    data_sha256: str
    kind: Literal["test", "validation"] = "test"
    """Validation frames have chosen among the weights of a run."""
    frames: int
    energy_mae_mev: float | None = None
    energy_rmse_mev: float | None = None
    energy_mae_mev_per_atom: float | None = None
    energy_rmse_mev_per_atom: float | None = None
    force_mae_mev_per_ang: float | None = None
    force_rmse_mev_per_ang: float | None = None
    stress_mae_gpa: float | None = None
    stress_rmse_gpa: float | None = None


class Difference(_Section):
    """The largest of an energy and of a force component."""

    energy_mev_per_atom: float
    force_mev_per_ang: float


class Conservation(_Section):
    """Of a run at constant energy, in float64."""

    picoseconds: float
    timestep_fs: float
    temperature_k: float
    drift_mev_per_atom_per_ps: float
    drift_error: float
    fluctuation_mev_per_atom: float
    angular_momentum_change: float | None
    """Relative; None in a periodic cell, where there is nothing to conserve."""


class Speed(_Section):
    """CPU time of energy, forces and stress, neighbour list included, on one thread in the model's precision."""

    atoms: int
    microseconds_per_atom: float
    machine: str
    torch: str


class Domain(_Section):
    """What the potential was fitted to."""

    elements: list[str]
    shortest_distances_ang: dict[str, float]
    training_frames: int | None
    data_sha256: str | None
    densities_g_per_cm3: tuple[float, float] | None = None
    """The lowest and the highest of periodic frames."""


class Passport(_Section):
    """Everything that was measured of one model file."""

    model_sha256: str
    structure: str
    errors: Errors | None
    rotation_float32: Difference
    rotation_float64: Difference
    float32_against_float64: Difference
    force_against_differences: float
    stress_against_strain: float | None
    cutoff_jump_mev_per_ang: float | None
    extensivity_mev_per_atom: float | None
    conservation: Conservation | str
    """Or the sentence with which the run ended."""
    speed: Speed
    domain: Domain


def issue(model: str | Path, atoms: Atoms, errors: Errors | None = None, picoseconds: float = 10.0) -> Passport:
    """Measure a potential on a structure near equilibrium; errors are those of `errors_on`.

    picoseconds: length of the run at constant energy. Raises what `load_potential` raises.
    """
    if not 0.1 <= picoseconds < math.inf:
        raise ConfigError(f"The run at constant energy is to last {picoseconds} ps; give 0.1 or more.")
    model = model_path(model)
    header = read_header(model)
    # Without constraints: atoms that are held conserve any energy.
    atoms = Atoms(atoms.numbers, atoms.positions, cell=atoms.cell, pbc=atoms.pbc)
    single, double = (load_potential(model, dtype=dtype) for dtype in ("float32", "float64"))
    moved = atoms.copy()
    moved.rattle(0.05, seed=0)
    a, b = result_of(single, moved), result_of(double, moved)
    try:
        conservation: Conservation | str = _conservation(double, atoms, picoseconds)
    except SimulationError as error:
        conservation = str(error)
    precision = _difference(float(a["energy"][0] - b["energy"][0]), float(abs(a["forces"] - b["forces"]).max()), moved)
    return Passport(
        model_sha256=file_hash([model]),
        structure=f"{atoms.get_chemical_formula()}, {'periodic' if atoms.pbc.any() else 'open'}, displaced by 0.05 Å",
        errors=errors,
        rotation_float32=_difference(*rotation_error(single, moved), moved),
        rotation_float64=_difference(*rotation_error(double, moved), moved),
        float32_against_float64=precision,
        force_against_differences=force_deviation(double, moved),
        stress_against_strain=stress_deviation(double, moved) if atoms.pbc.all() else None,
        # Without a cutoff everything meets everything.
        cutoff_jump_mev_per_ang=None if math.isinf(double.cutoff) else 1000 * cutoff_jump(double, moved),
        extensivity_mev_per_atom=None if math.isinf(double.cutoff) else 1000 * extensivity_error(double, moved),
        conservation=conservation,
        speed=_speed(load_potential(model), atoms),
        domain=Domain(
            elements=header.elements,
            shortest_distances_ang=header.shortest_distances,
            training_frames=header.training.get("training_frames"),
            data_sha256=header.training.get("data_sha256"),
            densities_g_per_cm3=header.training.get("densities_g_per_cm3"),
        ),
    )


def issue_of_run(folder: Path, picoseconds: float = 1.0) -> Passport:
    """Measure the potential of a training run's folder, which receives structure.extxyz and passport.json.

    The structure is the training frame with the smallest forces among those in which every atom has another as neighbour. The errors are
    those on the test frames of the configuration, or else on the validation frames.
    """
    config = load_config(TrainConfig, folder / "config.yaml")
    model = folder / "potential.safetensors"
    train, frames = read_split(config)
    tests = config.data.test
    if tests:
        frames = read_frames([entry.source() for entry in tests], cache=config.data.cache)
    files = [entry.path for entry in tests or config.data.valid or config.data.train]
    errors = errors_on(load_potential(model), frames, files, "test" if tests else "validation")
    calmest = _calmest(train, load_potential(model).cutoff)
    passport = issue(model, calmest.atoms, errors, picoseconds)
    structure = io.StringIO()
    ase.io.write(structure, Atoms(calmest.atoms), format="extxyz")
    write_atomically(folder / "structure.extxyz", structure.getvalue().encode())
    write_passport(passport, folder / "passport.json")
    return passport


def _calmest(frames: Sequence[Frame], cutoff: float) -> Frame:
    """Return the frame with the smallest forces among those in which every atom has another within the cutoff, or else among all."""
    order = sorted(frames, key=lambda frame: math.inf if frame.forces is None else abs(frame.forces).max())
    for frame in order:
        if len(frame.atoms) > 1 and len(np.unique(neighbor_list(frame.atoms, cutoff)[0][1])) == len(frame.atoms):
            return frame
    return order[0]


def write_passport(passport: Passport, path: Path) -> None:
    """Write a passport, atomically."""
    write_atomically(path, (passport.model_dump_json(indent=1) + "\n").encode())


def read_passport(path: str | Path) -> Passport:
    """Return the passport in a file; ModelFileError where it is none."""
    try:
        return Passport.model_validate_json(Path(path).read_bytes())
    except ValidationError as error:
        raise ModelFileError(f"{path} is not a passport ({explain(Passport, error)}); measure it again with `eqpot passport`.") from error


def rows(passport: Passport) -> list[tuple[str, str]]:
    """Return what a passport says as names and values, for people."""
    found: list[tuple[str, str]] = []
    if (errors := passport.errors) is not None:
        found.append((f"{errors.kind} frames", f"{errors.frames:,} of {errors.data}"))
        for name, field, unit in (
            ("energy", "energy_{}_mev", "meV"),
            ("energy per atom", "energy_{}_mev_per_atom", "meV"),
            ("force component", "force_{}_mev_per_ang", "meV/Å"),
            ("stress component", "stress_{}_gpa", "GPa"),
        ):
            mae, rmse = (getattr(errors, field.format(kind)) for kind in ("mae", "rmse"))
            if mae is not None:
                found.append((f"{name}, MAE / RMSE", f"{_digits(mae)} / {_digits(rmse)} {unit}"))
    for name, value in (
        ("rotation error, float32", passport.rotation_float32),
        ("rotation error, float64", passport.rotation_float64),
        ("float32 against float64", passport.float32_against_float64),
    ):
        found.append((name, f"{value.energy_mev_per_atom:.1e} meV/atom, {value.force_mev_per_ang:.1e} meV/Å"))
    found.append(("forces against central differences, float64", f"{passport.force_against_differences:.1e} relative"))
    if passport.stress_against_strain is not None:
        found.append(("stress against central differences, float64", f"{passport.stress_against_strain:.1e} relative"))
    if passport.cutoff_jump_mev_per_ang is not None:
        found.append(("jump of a force as an atom passes the cutoff, float64", f"{passport.cutoff_jump_mev_per_ang:.1e} meV/Å"))
    if passport.extensivity_mev_per_atom is not None:
        found.append(("energy of two copies against twice the energy, float64", f"{passport.extensivity_mev_per_atom:.1e} meV/atom"))
    run, speed = passport.conservation, passport.speed
    if isinstance(run, str):
        found.append(("NVE, float64", run))
    else:
        found += _run_rows(run)
    found.append((f"energy, forces, stress of {speed.atoms} atoms", f"{speed.microseconds_per_atom:.0f} µs an atom, {speed.machine}"))
    domain = passport.domain
    found.append(("elements", ", ".join(domain.elements)))
    known = ", ".join(f"{pair} {distance:.2f}" for pair, distance in domain.shortest_distances_ang.items())
    found.append(("shortest distances in the training data, Å", known or "unknown"))
    if domain.densities_g_per_cm3 is not None:
        low, high = domain.densities_g_per_cm3
        found.append(("densities in the training data, g/cm³", f"{low:.2f} to {high:.2f}"))
    return found


def _run_rows(run: Conservation) -> list[tuple[str, str]]:
    label = f"NVE, {run.picoseconds:g} ps at {run.timestep_fs:g} fs from {run.temperature_k:g} K, float64"
    slope = f"{run.drift_mev_per_atom_per_ps:.1e} ± {run.drift_error:.0e} meV/atom/ps"
    found = [(f"{label}: drift / fluctuation", f"{slope} / {run.fluctuation_mev_per_atom:.1e} meV/atom")]
    if run.angular_momentum_change is not None:
        found.append((f"{label}: change of angular momentum", f"{run.angular_momentum_change:.1e} relative"))
    return found


def _difference(energy: float, force: float, atoms: Atoms) -> Difference:
    return Difference(energy_mev_per_atom=1000 * abs(energy) / len(atoms), force_mev_per_ang=1000 * force)


def errors_on(potential: Potential, frames: Sequence[Frame], files: Sequence[Path], kind: Literal["test", "validation"] = "test") -> Errors:
    """Return the errors on labelled frames that were read from these files; UnknownElementError for a frame of other elements."""
    check_frames(potential, frames)
    found = evaluate(potential, label_graphs(frames, potential.cutoff))
    in_gpa = {f"stress_{kind}_gpa": found.pop(f"stress_{kind}_mev_per_ang3", None) for kind in ("mae", "rmse")}
    values = {name: value for name, value in found.items() if name in Errors.model_fields}
    values |= {name: value / 1000 / GIGAPASCAL for name, value in in_gpa.items() if value is not None}
    names = ", ".join(file.name for file in files)
    return Errors(data=names, data_sha256=file_hash(files), kind=kind, frames=len(frames), **values)


def _conservation(potential: Potential, atoms: Atoms, picoseconds: float, temperature: float = 300.0) -> Conservation:
    settings = Settings(timestep=0.5, temperature=temperature, seed=0)
    start = Simulation(atoms, potential, settings).current_atoms()
    if not atoms.pbc.any():
        # A rotation about the centre of mass, so that there is angular momentum to conserve.
        spin = np.cross([0.002, 0.003, 0.001], start.positions - start.get_center_of_mass())
        start.set_velocities(start.get_velocities() + spin)
    simulation = Simulation(start, potential, settings)
    before = simulation.state.angular_momentum()
    every = 20
    energies = []
    for step in range(round(1000 * picoseconds / settings.timestep)):
        if step % every == 0:
            energies.append(1000 * float(simulation.state.total_energy) / len(atoms))
        simulation.step()
    times = every * settings.timestep / 1000 * np.arange(len(energies))
    fit = drift(times, np.array(energies))
    return Conservation(
        picoseconds=picoseconds,
        timestep_fs=settings.timestep,
        temperature_k=temperature,
        drift_mev_per_atom_per_ps=fit.slope,
        drift_error=fit.error,
        fluctuation_mev_per_atom=float(np.std(np.array(energies) - fit.slope * times)),
        angular_momentum_change=None if atoms.pbc.any() else float((simulation.state.angular_momentum() - before).norm() / before.norm()),
    )


def _speed(potential: Potential, atoms: Atoms, rounds: int = 5) -> Speed:
    if atoms.pbc.all():
        atoms = atoms.repeat(max(1, round((TIMED_ATOMS / len(atoms)) ** (1 / 3))))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        seconds = _seconds_of_a_call(potential, atoms, 3)
        # A call of a molecule is over before caches and clocks have settled: a tenth of a second a round.
        n_calls = max(1, round(0.1 / seconds))
        seconds = float(np.median([_seconds_of_a_call(potential, atoms, n_calls) for _ in range(rounds)]))
    finally:
        torch.set_num_threads(threads)
    return Speed(atoms=len(atoms), microseconds_per_atom=1e6 * seconds / len(atoms), machine=processor(), torch=torch.__version__)


def _seconds_of_a_call(potential: Potential, atoms: Atoms, n_calls: int) -> float:
    """Return the mean of calls that begin with the search of the pairs."""
    started = time.process_time()
    for _ in range(n_calls):
        potential.evaluate(build_graph(atoms, potential.cutoff))
    return (time.process_time() - started) / n_calls


def processor() -> str:
    """Return the name of the processor."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())


def _digits(value: float) -> str:
    return f"{value:#.3g}" if value < 100 else f"{value:.1f}"
