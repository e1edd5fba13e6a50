"""The report of a dynamics run: how it went, its averages with error bars, structure, motion and vibrations."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from ase import Atoms
from ase.data import chemical_symbols

from eqpot.errors import ConfigError, DataError, NeighborError
from eqpot.observables import (
    Average,
    CanonicalTest,
    Diffusion,
    Trajectory,
    average,
    canonical_test,
    degrees_of_freedom,
    density,
    drift,
    einstein,
    equilibration,
    green_kubo,
    mean_squared_displacement,
    radial_distribution,
    read_thermo,
    read_trajectory,
    vibrational_spectrum,
)
from eqpot.observables.diffusion import CM2_PER_S
from eqpot.observables.vibrations import WAVENUMBER
from eqpot.report import dynamics_figures as figures
from eqpot.report.page import Page

_FEWEST = 20
"""Rows or frames after equilibration below which no average, spectrum or displacement is shown."""

_STATIONARY = ("temperature_k", "potential_energy_ev", "pressure_gpa", "volume_ang3")
"""Columns that tell when a run has equilibrated."""


@dataclass(frozen=True)
class _Run:
    """What a run folder holds. thermo: columns, with `change`, of the conserved energy in meV/atom; discarded: equilibration, fs."""

    thermo: dict[str, np.ndarray]
    trajectory: Trajectory
    settings: dict[str, Any]
    discarded: float

    @property
    def equilibrated(self) -> dict[str, np.ndarray]:
        """The rows of the thermo table after equilibration."""
        kept = self.thermo["time_fs"] >= self.discarded - 1e-6
        return {name: values[kept] for name, values in self.thermo.items()}

    @property
    def thermostat(self) -> float | None:
        """The temperature that a thermostat keeps, K, or None where there is none or it changes."""
        scheduled = any(point.get("temperature") is not None for point in self.settings.get("schedule", []))
        target = None if scheduled else self.settings.get("temperature")
        return float(target) if self.settings.get("ensemble") != "nve" and isinstance(target, int | float) else None


def report_dynamics(folder: str | Path, output: str | Path, discard: float | None = None) -> None:
    """Write the HTML page of a run folder of `eqpot md`, finished or not.

    discard: equilibration that averages leave out, ps; by default what makes the error of the mean smallest (`equilibration`), the longest
    of temperature, potential energy, pressure and volume. Raises DataError for a table or trajectory that cannot be read, ConfigError for
    a discard beyond the run.
    """
    folder = Path(folder)
    run = _read(folder, discard)
    page = Page(folder.name, _subtitle(run))
    _headline(page, run)
    page.heading(
        "Over time", "Thin: every row of thermo.csv; thick: its mean over a twentieth of the run; grey: equilibration, left out below."
    )
    page.figures(figures.over_time(run.thermo, run.discarded))
    _averages(page, run)
    _temperatures(page, run)
    trajectory = run.trajectory.after(run.discarded)
    if len(trajectory.times) >= _FEWEST:
        _structure(page, trajectory)
        _motion(page, trajectory)
        _vibrations(page, trajectory)
    page.heading("Settings")
    page.text(yaml.safe_dump(run.settings, sort_keys=False, allow_unicode=True))
    if (folder / "config.yaml").is_file():
        page.text((folder / "config.yaml").read_text(encoding="utf-8"))
    page.text("".join(f"{name}: {version(name)}\n" for name in ("eqpot", "numpy", "scipy", "ase")) + "# versions that made this page")
    page.write(output)


def plot_dynamics(runs: Mapping[str, str | Path], n_atoms: int, path: str | Path) -> None:
    """Plot temperature and change of the conserved energy of runs that follow one another, and save the figure.

    runs: label -> run folder, in the order of time; n_atoms: for energies per atom.
    """
    figures.plot_sequence({label: read_thermo(folder) for label, folder in runs.items()}, n_atoms).savefig(path)


def _read(folder: Path, discard: float | None) -> _Run:
    thermo, trajectory = read_thermo(folder), read_trajectory(folder)
    n_atoms = len(trajectory.numbers)
    if "volume_ang3" in thermo and "density_g_per_cm3" not in thermo:
        sides = np.cbrt(thermo["volume_ang3"])[:, None, None] * np.eye(3)
        thermo["density_g_per_cm3"] = density(trajectory.masses, sides)
    thermo["change"] = 1000 * (thermo["conserved_energy_ev"] - thermo["conserved_energy_ev"][0]) / n_atoms
    for name in ("potential", "kinetic"):
        thermo[f"{name}_energy_ev_per_atom"] = thermo[f"{name}_energy_ev"] / n_atoms
    summary = folder / "summary.json"
    settings = json.loads(summary.read_text(encoding="utf-8")) if summary.is_file() else {"summary": "none: the run has not ended"}
    times = thermo["time_fs"]
    if discard is None:
        series = [thermo[name] for name in _STATIONARY if name in thermo] if len(times) >= _FEWEST else []
        discarded = max((float(times[equilibration(values)]) for values in series), default=float(times[0])) - times[0]
    else:
        discarded = 1000 * discard
    if not 0 <= discarded <= times[-1] - times[0]:
        raise ConfigError(f"{discarded / 1000:g} ps are to be discarded of a run of {(times[-1] - times[0]) / 1000:g} ps; discard less.")
    return _Run(thermo, trajectory, settings, float(times[0] + discarded))


def _subtitle(run: _Run) -> str:
    times = run.thermo["time_fs"] / 1000
    parts = [f"{Atoms(run.trajectory.numbers).get_chemical_formula()}, {len(run.trajectory.numbers):,} atoms"]
    if "ensemble" in run.settings:
        at = "" if run.thermostat is None else f" at {run.thermostat:g} K"
        parts.append(f"{str(run.settings['ensemble']).upper()}{at}, steps of {run.settings.get('timestep', '?')} fs")
    parts.append(f"{times[-1] - times[0]:g} ps, {len(times):,} rows, {len(run.trajectory.times):,} frames")
    discarded = run.discarded / 1000 - times[0]
    text = "; ".join(parts) + f". The first {discarded:.3g} ps count as equilibration."
    if discarded > 0.45 * (times[-1] - times[0]):
        text += " Beyond half of the run none is looked for: it may not have settled."
    return text


def _headline(page: Page, run: _Run) -> None:
    rows, tiles = run.equilibrated, []
    if len(rows["time_fs"]) >= _FEWEST:
        for name, unit, label in figures.QUANTITIES:
            if name in ("temperature_k", "pressure_gpa", "density_g_per_cm3") and name in rows and np.ptp(rows[name]) > 0:
                found = average(rows[name])
                tiles.append((_with_error(found.mean, found.error), unit, label))
        slope = drift(rows["time_fs"] / 1000, rows["change"])
        tiles.append((_with_error(slope.slope, slope.error), "meV/atom/ps", "drift of the conserved energy"))
    if run.trajectory.pbc.all() and np.ptp(run.trajectory.cells, axis=0).max() == 0:
        tiles.append((f"{density(run.trajectory.masses, run.trajectory.cells[:1])[0]:.4g}", "g/cm³", "density, constant"))
    tiles.append((f"{(run.thermo['time_fs'][-1] - run.discarded) / 1000:.4g}", "ps", "after equilibration"))
    page.tiles(tiles)


def _averages(page: Page, run: _Run) -> None:
    rows = run.equilibrated
    if len(rows["time_fs"]) < _FEWEST:
        return
    page.heading(
        "Averages",
        "± correlation: standard error of the mean from the statistical inefficiency; ± blocks: from ten blocks. Believe the larger one; "
        "where they differ much, the run is short for its correlations.",
    )
    interval = float(np.median(np.diff(rows["time_fs"])))
    table = []
    for name, unit, label in figures.QUANTITIES:
        if name in rows and np.ptp(rows[name]) > 0:
            found = average(rows[name])
            table.append((f"{label}, {unit}", *_cells(found, interval)))
    page.table(("quantity", "mean", "± correlation", "± blocks", "deviation", "correlation time, fs", "independent samples"), table)


def _cells(found: Average, interval: float) -> tuple[str, ...]:
    digits = _digits(found.standard_error)
    numbers = (found.mean, found.standard_error, found.block_error, found.standard_deviation)
    independent = found.n_samples / found.inefficiency
    return (*(f"{number:.{digits}f}" for number in numbers), f"{(found.inefficiency - 1) / 2 * interval:.3g}", f"{independent:,.0f}")


def _temperatures(page: Page, run: _Run) -> None:
    temperatures = run.equilibrated["temperature_k"]
    if len(temperatures) < _FEWEST or np.ptp(temperatures) == 0:
        return
    n_degrees, kept = degrees_of_freedom(run.thermo), run.thermostat
    test = canonical_test(temperatures, n_degrees, float(temperatures.mean()) if kept is None else kept)
    remark = _temperature_remark(test, n_degrees, kept is not None)
    page.heading("Temperature against the canonical ensemble", remark)
    page.figures(figures.temperatures(temperatures, n_degrees, test))


def _temperature_remark(test: CanonicalTest, n_degrees: int, has_thermostat: bool) -> str:
    width = f"standard deviation {_with_error(test.width, test.width_error)} K, canonical {test.expected_width:.3g} K"
    if has_thermostat:
        return (
            f"{n_degrees} degrees of freedom. Mean {_with_error(test.mean.mean, test.mean.error)} K, canonical {test.expected_mean:g} K; "
            f"{width}; Kolmogorov-Smirnov p = {test.p_value:.2g}; below 0.01 the two differ by more than chance."
        )
    remark = (
        "The folder names no constant temperature, so this is the canonical distribution of the run's mean; that at constant energy is "
        f"narrower. {n_degrees} degrees of freedom; {width}."
    )
    if test.width > test.expected_width + 3 * test.width_error:
        remark += " This one is broader: energy still swings between kinetic and potential, as after a start from a perfect crystal."
    return remark


def _structure(page: Page, trajectory: Trajectory) -> None:
    if not trajectory.pbc.all():
        return
    widths = 1 / np.linalg.norm(np.linalg.inv(trajectory.cells), axis=1)
    r_max = float(np.clip(widths.min() / 2, 6.0, 10.0))
    n_atoms = len(trajectory.numbers)
    pairs = n_atoms**2 / abs(np.linalg.det(trajectory.cells[0])) * 4 / 3 * math.pi * r_max**3
    n_frames = min(len(trajectory.times), int(np.clip(1e7 / pairs, 5, 200)))
    chosen = np.unique(np.linspace(0, len(trajectory.times) - 1, n_frames).astype(int))
    try:
        found = radial_distribution(trajectory.at(chosen), r_max)
    except NeighborError as error:
        # Atoms that fell into each other: the rest of the page tells when.
        page.heading("Structure", f"Left out: {error}")
        return
    beyond = "" if r_max <= widths.min() / 2 else f" Beyond {widths.min() / 2:.2f} Å, half the cell's width, atoms meet their own images."
    page.heading("Structure", f"Radial distribution functions of {found.n_frames} frames.{beyond}")
    page.figures(figures.radial_distributions(found))
    rows = figures.first_shells(found)
    if rows:
        page.table(("pair", "first peak, Å", "its height", "first minimum, Å", "neighbours up to there"), rows)


def _motion(page: Page, trajectory: Trajectory) -> None:
    if not trajectory.pbc.any():
        return
    try:
        resting = trajectory.at_rest()
    except DataError as error:
        page.heading("Motion", f"Left out: {error}")
        return
    groups = {chemical_symbols[number]: trajectory.numbers == number for number in np.unique(trajectory.numbers)}
    displacements, rows = {}, []
    for name, chosen in groups.items():
        displacements[name] = mean_squared_displacement(resting.positions[:, chosen])
        try:
            found = einstein(resting.positions[:, chosen], resting.interval)
        except DataError:
            continue
        integral = None if resting.velocities is None else green_kubo(resting.velocities[:, chosen], resting.interval)
        rows.append((name, *_diffusion_cells(found, integral)))
    page.heading(
        "Motion",
        "Mean squared displacements, seen from the centre of mass, and diffusion coefficients with standard errors from five blocks: from "
        "the slope (Einstein) and from the velocities (Green-Kubo). They mean something where the displacement grows as t, exponent 1.",
    )
    page.figures(figures.displacements(displacements, resting.interval))
    if rows:
        page.table(("element", "Einstein, 10⁻⁵ cm²/s", "Green-Kubo, 10⁻⁵ cm²/s", "exponent", "so the atoms"), rows)


def _diffusion_cells(found: Diffusion, integral: Diffusion | None) -> tuple[str, ...]:
    exponent = found.exponent or 0.0
    if exponent < 0.3:
        # The slope of a displacement that only oscillates is no coefficient, and its blocks no error.
        return "–", "–", f"{exponent:.2f}", "stay at their places"
    size = 1e5 * CM2_PER_S
    values = ("–" if item is None else _with_error(size * item.coefficient, size * item.error) for item in (found, integral))
    regime = "still fly: run longer" if exponent >= 1.2 else "diffuse" if exponent > 0.8 else "do not diffuse yet: run longer"
    return (*values, f"{exponent:.2f}", regime)


def _vibrations(page: Page, trajectory: Trajectory) -> None:
    if trajectory.velocities is None or not trajectory.velocities.any():
        return
    limit, fastest = WAVENUMBER / (2 * trajectory.interval), _fastest_vibration(trajectory.numbers)
    if limit < fastest:
        page.heading(
            "Vibrations",
            f"Left out: frames {trajectory.interval:g} fs apart show vibrations up to {limit:.0f} 1/cm, and these elements may have some "
            f"up to {fastest:.0f} 1/cm, which would be folded back. Write frames every {WAVENUMBER / (2 * fastest):.2g} fs or more often.",
        )
        return
    resolution = max(4.0, 3.6 * WAVENUMBER / (len(trajectory.times) * trajectory.interval))
    if resolution > limit / 10:
        return
    found = vibrational_spectrum(trajectory.velocities, trajectory.numbers, trajectory.masses, trajectory.interval, resolution)
    page.heading(
        "Vibrations",
        f"Power spectrum of the velocities, weighted by mass: the classical density of states, without intensities of infrared or Raman. "
        f"Resolution {found.resolution:.3g} 1/cm, Hann window, mean of {found.n_segments} segments; up to {limit:.0f} 1/cm.",
    )
    page.figures([figures.correlations(trajectory), figures.spectrum(found)])


def _fastest_vibration(numbers: np.ndarray) -> float:
    """Return what no vibration of molecules of these elements exceeds by much, 1/cm: H2 has 4160, N2 2330, heavier ones below 1000."""
    if numbers.min() == 1:
        return 4000.0
    return 2400.0 if ((numbers >= 5) & (numbers <= 9)).any() else 1000.0


def _digits(error: float) -> int:
    """Return the decimals that show two significant digits of an error."""
    return int(np.clip(1 - math.floor(math.log10(error)), 0, 9)) if error > 0 else 3


def _with_error(value: float, error: float) -> str:
    if 0 < error < 1e-5:
        return f"{value:.4g} ± {error:.2g}"
    digits = _digits(error)
    return f"{value:.{digits}f} ± {error:.{digits}f}"
