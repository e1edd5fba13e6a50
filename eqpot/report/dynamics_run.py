"""A dynamics run as its report sees it: groups of replicas, and samples of constant temperature and pressure."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from eqpot.config_file import parse_yaml
from eqpot.errors import ConfigError, DataError, short
from eqpot.md import Settings
from eqpot.observables import Trajectory, density, equilibration, read_thermo, read_trajectories

FEWEST = 20
"""Rows or frames below which no average, spectrum or displacement is shown."""

_ALWAYS = {"step", "time_fs", "temperature_k", "potential_energy_ev", "kinetic_energy_ev", "conserved_energy_ev"}
"""Columns of every run."""

_STATIONARY = ("temperature_k", "potential_energy_ev", "pressure_gpa", "volume_ang3")
"""Columns that tell when a run has equilibrated."""


@dataclass(frozen=True)
class Sample:
    """A group between two times of constant temperature and pressure, equilibration left out.

    name: what tells it from the run's other samples, empty if it is the only one; thermo: column -> [n_replicas, n_rows]; trajectories:
    one a replica; temperature, pressure: what thermostat (K) and barostat (GPa) keep, or None; begin, end: fs.
    """

    name: str
    thermo: dict[str, np.ndarray]
    trajectories: list[Trajectory]
    temperature: float | None
    pressure: float | None
    begin: float
    end: float

    @property
    def n_rows(self) -> int:
        return len(self.thermo["time_fs"][0])


@dataclass(frozen=True)
class Group:
    """Replicas: systems that start from one structure under the same conditions.

    thermo: column -> [n_replicas, n_rows], with `change`, that of the conserved energy in meV/atom, energies per atom and, in a cell that
    changes, the density.
    """

    name: str
    thermo: dict[str, np.ndarray]
    trajectories: list[Trajectory]
    samples: list[Sample]

    @property
    def times(self) -> np.ndarray:
        return self.thermo["time_fs"][0]


@dataclass(frozen=True)
class DynamicsRun:
    """A run folder. settings: of the dynamics, as far as the folder has them; has_ended: whether it has a summary.

    integrator: None where the folder does not name it; relaxation: the longest time of its thermostat and barostat, with its name, fs.
    """

    groups: list[Group]
    settings: dict[str, Any]
    has_ended: bool
    has_schedule: bool
    integrator: str | None
    relaxation: tuple[str, float] | None

    @property
    def samples(self) -> list[Sample]:
        return [sample for group in self.groups for sample in group.samples]


def read_run(folder: str | Path, discard: float | None = None) -> DynamicsRun:
    """Read a run folder of `eqpot md`; errors as in `report_dynamics`, which tells what `discard` is, in ps."""
    folder = Path(folder)
    if discard is not None and not discard >= 0:
        raise ConfigError(f"{discard:g} ps are to be discarded; give 0 or more.")
    thermo = read_thermo(folder)
    if missing := _ALWAYS - thermo.keys():
        raise DataError(f"{folder / 'thermo.csv'} has no columns {', '.join(sorted(missing))}; name a run folder of `eqpot md`.")
    trajectories = read_trajectories(folder)
    columns = {name: np.atleast_2d(values) for name, values in thermo.items()}
    n_systems = len(columns["time_fs"])
    if n_systems != len(trajectories):
        raise DataError(f"{folder} has {len(trajectories)} trajectories and a table of {n_systems} systems; restore what is missing.")
    settings, has_ended = _settings(folder)
    try:
        conditions = _Conditions(settings, n_systems)
    except ConfigError as error:
        raise ConfigError(f"{folder}: {error}") from error
    members: dict[tuple[Any, ...], list[int]] = {}
    for system, trajectory in enumerate(trajectories):
        same = (trajectory.numbers, trajectory.masses, trajectory.pbc, trajectory.positions[0], trajectory.cells[0])
        start = (*(values.tobytes() for values in same), conditions.of(system))
        members.setdefault(start, []).append(system)
    names = _group_names([([trajectories[k] for k in systems], conditions.of(systems[0])) for systems in members.values()])
    groups = []
    for name, systems in zip(names, members.values(), strict=True):
        rows = _per_atom({column: values[systems] for column, values in columns.items()}, trajectories[systems[0]])
        group = Group(name, rows, [trajectories[k] for k in systems], [])
        windows = conditions.windows(systems[0], float(group.times[0]), float(group.times[-1]))
        group.samples.extend(_samples(group, windows, discard))
        groups.append(group)
    return DynamicsRun(groups, settings, has_ended, conditions.has_schedule, conditions.integrator, conditions.relaxation)


def _settings(folder: Path) -> tuple[dict[str, Any], bool]:
    """Return the settings of the dynamics, and whether the run has ended."""
    summary, config = folder / "summary.json", folder / "config.yaml"
    path = summary if summary.is_file() else config
    try:
        if path == summary:
            return dict(json.loads(summary.read_text(encoding="utf-8"))), True
        values = parse_yaml(config.read_text(encoding="utf-8")) if config.is_file() else {}
        return dict(values.get("dynamics", {})), False
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{path} does not hold the settings of a run ({short(error)}); bring back what `eqpot md` wrote.") from error


@dataclass(frozen=True)
class _Window:
    """A time of constant conditions, fs. thermostat: K, or None; barostat: GPa, or None."""

    name: str
    begin: float
    end: float
    thermostat: float | None
    barostat: float | None


class _Conditions:
    """What temperature and pressure each system is told to have, and when."""

    def __init__(self, settings: dict[str, Any], n_systems: int) -> None:
        known = {name: value for name, value in settings.items() if name in Settings.model_fields and name != "steps"}
        self.is_known = "ensemble" in known
        self.settings, self.n_systems = Settings(**known), n_systems
        self.has_schedule = bool(self.settings.schedule) and self.settings.ensemble != "nve"
        self.integrator = self.settings.integrator if self.is_known else None

    @property
    def relaxation(self) -> tuple[str, float] | None:
        """Name and length, fs, of the longest of the times in which thermostat and barostat act."""
        if not self.is_known or self.settings.ensemble == "nve":
            return None
        if self.integrator == "langevin":
            return ("1 / friction", 1000 / self.settings.friction) if self.settings.friction else None
        names = ("thermostat_time", "barostat_time") if self.settings.ensemble == "npt" else ("thermostat_time",)
        return max(((name, float(getattr(self.settings, name))) for name in names), key=lambda pair: pair[1])

    def at(self, system: int, time: float) -> tuple[float | None, float | None]:
        """Return what thermostat (K) and barostat (GPa) keep at a time in ps."""
        if not self.is_known or self.settings.ensemble == "nve":
            return None, None
        temperature, pressure = (self.settings.at(name, time, self.n_systems)[system] for name in ("temperature", "pressure"))
        return temperature, pressure if self.settings.ensemble == "npt" else None

    def of(self, system: int) -> tuple[tuple[float | None, float | None], ...]:
        """Return the conditions at all times of the schedule."""
        return tuple(self.at(system, time) for time in (0.0, *(point.time for point in self.settings.schedule)))

    def windows(self, system: int, begin: float, end: float) -> list[_Window]:
        """Return the times in which nothing changes, in fs; all of a run without a schedule."""
        times = sorted({begin / 1000, end / 1000, *(point.time for point in self.settings.schedule if point.time < end / 1000)})
        steady: list[tuple[float, float]] = []
        for first, last in zip(times, times[1:] or times, strict=False):
            if self.at(system, first) != self.at(system, last):
                continue
            begin = steady.pop()[0] if steady and steady[-1][1] == first else first
            steady.append((begin, last))
        names = [self._name(*self.at(system, first)) for first, _ in steady]
        if len(set(names)) < len(names):
            names = [f"{name}, {first:g}–{last:g} ps" for name, (first, last) in zip(names, steady, strict=True)]
        return [
            _Window(name if self.has_schedule else "", 1000 * first, 1000 * last, *self.at(system, first))
            for name, (first, last) in zip(names, steady, strict=True)
        ]

    def _name(self, temperature: float | None, pressure: float | None) -> str:
        parts = [] if temperature is None else [f"{temperature:g} K"]
        if pressure is not None and any(point.pressure is not None for point in self.settings.schedule):
            parts.append(f"{pressure:g} GPa")
        return ", ".join(parts)


def _group_names(groups: Sequence[tuple[list[Trajectory], tuple[tuple[float | None, float | None], ...]]]) -> list[str]:
    """Return for each group what tells it from the others: formula, temperature, pressure, or its number."""
    if len(groups) == 1:
        return [""]
    columns = [
        [Atoms(trajectories[0].numbers).get_chemical_formula() for trajectories, _ in groups],
        ["" if first[0] is None else f"{first[0]:g} K" for _, (first, *_) in groups],
        ["" if first[1] is None else f"{first[1]:g} GPa" for _, (first, *_) in groups],
    ]
    telling = [column for column in columns if len(set(column)) > 1]
    names = [" ".join(parts) for parts in zip(*telling, strict=True)] if telling else [""] * len(groups)
    if len(set(names)) < len(names):
        names = [f"{name} #{number}".strip() for number, name in enumerate(names)]
    return names


def _per_atom(thermo: dict[str, np.ndarray], trajectory: Trajectory) -> dict[str, np.ndarray]:
    n_atoms = len(trajectory.numbers)
    if not trajectory.pbc.all():
        # Older folders hold those of the cell, which has no meaning along an open direction.
        for name in ("pressure_gpa", "volume_ang3"):
            thermo.pop(name, None)
    if "volume_ang3" in thermo:
        sides = np.cbrt(thermo["volume_ang3"])[..., None, None] * np.eye(3)
        thermo["density_g_per_cm3"] = density(trajectory.masses, sides)
    conserved = thermo["conserved_energy_ev"]
    thermo["change"] = 1000 * (conserved - conserved[:, :1]) / n_atoms
    for name in ("potential", "kinetic"):
        thermo[f"{name}_energy_ev_per_atom"] = thermo[f"{name}_energy_ev"] / n_atoms
    return thermo


def _samples(group: Group, windows: list[_Window], discard: float | None) -> list[Sample]:
    samples = []
    for window in windows:
        rows = _between(group, window.begin, window.end)
        times = rows["time_fs"][0]
        if discard is not None:
            begin = window.begin + 1000 * discard
        elif len(times) >= FEWEST:
            # Of the mean over replicas, whose common way to equilibrium the noise of each would hide.
            series = [rows[name].mean(axis=0) for name in _STATIONARY if name in rows]
            begin = max(float(times[equilibration(values)]) for values in series)
        else:
            begin = float(times[0])
        if not window.begin <= begin <= window.end:
            length = (window.end - window.begin) / 1000
            raise ConfigError(f"{discard:g} ps are to be discarded of {length:g} ps of constant conditions; discard less.")
        name = ", ".join(part for part in (group.name, window.name) if part)
        frames = [trajectory.between(begin, window.end) for trajectory in group.trajectories]
        samples.append(Sample(name, _between(group, begin, window.end), frames, window.thermostat, window.barostat, begin, window.end))
    return samples


def _between(group: Group, begin: float, end: float) -> dict[str, np.ndarray]:
    kept = (group.times >= begin - 1e-6) & (group.times <= end + 1e-6)
    return {name: values[:, kept] for name, values in group.thermo.items()}
