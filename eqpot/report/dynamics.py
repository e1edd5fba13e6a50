"""The report of a dynamics run: how it went, its averages with error bars, structure, motion, vibrations and torsions."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import numpy as np
import yaml
from ase import Atoms

from eqpot.observables import Average, CanonicalTest, average, canonical_test, degrees_of_freedom, density, drift, read_thermo
from eqpot.report import dynamics_figures as figures
from eqpot.report import dynamics_trajectories as trajectories
from eqpot.report.dynamics_run import FEWEST, DynamicsRun, Sample, read_run
from eqpot.report.page import Page
from eqpot.report.values import Finding, decimals, with_error

_ENOUGH = 20
"""Relaxation times of thermostat or barostat in a sample below which its errors are not to be believed."""

_FAR = 4
"""Errors between a mean and what the run keeps that are no chance, even where the error itself is known to a third."""

_VELOCITIES_OF_LANGEVIN = (
    " Langevin dynamics sample positions at the temperature of the bath and leave velocities colder, by (ωΔt)²/4 for a vibration of "
    "angular frequency ω: with C-H and O-H bonds and steps of 1 fs, 2 to 3 %."
)


def report_dynamics(folder: str | Path, output: str | Path, discard: float | None = None) -> list[Finding]:
    """Write the HTML page of a run folder of `eqpot md`, finished or not, and return its main numbers.

    Systems that start from the same structure under the same conditions are replicas, whose common averages are shown. Where a schedule
    changes temperature or pressure, each time at which they rest is a sample of its own, and ramps are no part of any average.

    discard: equilibration that averages leave out at the start of each sample, ps; by default what makes the error of the mean smallest
    (`equilibration`), the longest of temperature, potential energy, pressure and volume. Raises DataError for a table or trajectory that
    cannot be read, ConfigError for a discard that is negative or beyond the run.
    """
    folder = Path(folder)
    run = read_run(folder, discard)
    page = Page(folder.name, _subtitle(run))
    findings = _headline(page, run)
    page.heading("Over time", _over_time_remark(run))
    page.figures(figures.over_time(run))
    samples = [sample for sample in run.samples if sample.n_rows >= FEWEST]
    if samples:
        _averages(page, samples, run)
        _temperatures(page, samples, run.integrator == "langevin")
    framed = [sample for sample in samples if len(sample.trajectories[0].times) >= FEWEST]
    for section in (trajectories.structure, trajectories.motion, trajectories.vibrations, trajectories.torsions):
        findings += section(page, framed)
    page.heading("Settings")
    shown = run.settings if run.has_ended else {"summary": "none: the run has not ended"}
    page.text(yaml.safe_dump(shown, sort_keys=False, allow_unicode=True))
    if (folder / "config.yaml").is_file():
        page.text((folder / "config.yaml").read_text(encoding="utf-8"))
    page.text("".join(f"{name}: {version(name)}\n" for name in ("eqpot", "numpy", "scipy", "ase")) + "# versions that made this page")
    page.write(output)
    return findings


def plot_dynamics(runs: Mapping[str, str | Path], n_atoms: int, path: str | Path) -> None:
    """Plot temperature and change of the conserved energy of runs that follow one another, and save the figure.

    runs: label -> run folder, in the order of time; n_atoms: for energies per atom.
    """
    figures.plot_sequence({label: read_thermo(folder) for label, folder in runs.items()}, n_atoms).savefig(path)


def _subtitle(run: DynamicsRun) -> str:
    parts = []
    for group in run.groups[:4]:
        numbers, copies = group.trajectories[0].numbers, len(group.trajectories)
        parts.append((f"{copies} replicas of " if copies > 1 else "") + f"{Atoms(numbers).get_chemical_formula()}, {len(numbers):,} atoms")
    if len(run.groups) > 4:
        parts.append(f"{len(run.groups) - 4} further groups of systems")
    parts = list(dict.fromkeys(parts))
    if "ensemble" in run.settings:
        kept = {sample.temperature for sample in run.samples} - {None}
        at = f" at {kept.pop():g} K" if len(kept) == 1 and not run.has_schedule else ""
        parts.append(f"{str(run.settings['ensemble']).upper()}{at}, steps of {run.settings.get('timestep', '?')} fs")
    first = run.groups[0]
    times = first.times / 1000
    parts.append(f"{times[-1] - times[0]:g} ps, {len(times):,} rows, {len(first.trajectories[0].times):,} frames")
    return "; ".join(parts) + "." + _equilibration_remark(run)


def _equilibration_remark(run: DynamicsRun) -> str:
    if run.has_schedule:
        return " Averages are those of times of constant temperature and pressure, less their equilibration."
    starts = [(sample.begin - group.times[0]) / 1000 for group in run.groups for sample in group.samples]
    lengths = [(group.times[-1] - group.times[0]) / 1000 for group in run.groups]
    text = f" The first {starts[0]:.3g} ps count as equilibration."
    if len(starts) > 1:
        text = f" The first {min(starts):.3g} to {max(starts):.3g} ps count as equilibration."
    if any(start > 0.45 * length > 0 for start, length in zip(starts, lengths, strict=True)):
        text += " Beyond half of the run none is looked for: it may not have settled."
    return text


def _over_time_remark(run: DynamicsRun) -> str:
    many = max(len(group.trajectories) for group in run.groups) > 1
    thin = "mean of the replicas at every row of thermo.csv, with a band of one standard deviation" if many else "every row of thermo.csv"
    grey = "" if len(run.groups) > 1 else "; grey: no part of the averages below"
    return f"Thin: {thin}; thick: mean over a twentieth of the run{grey}."


def _headline(page: Page, run: DynamicsRun) -> list[Finding]:
    tiles, findings = [], []
    rows = [sample for sample in run.samples if sample.n_rows >= FEWEST]
    for sample in rows:
        for name, unit, label in figures.QUANTITIES:
            if name in figures.SHOWN and name in sample.thermo and np.ptp(sample.thermo[name]) > 0:
                found = average(sample.thermo[name])
                findings.append(Finding(label, sample.name, found.mean, found.error, unit))
                if len(rows) == 1 and label != "potential energy":
                    tiles.append((with_error(found.mean, found.error), unit, label))
        slope = drift(sample.thermo["time_fs"][0] / 1000, sample.thermo["change"].mean(axis=0))
        findings.append(Finding("drift of the conserved energy", sample.name, slope.slope, slope.error, "meV/atom/ps"))
    if rows:
        worst = max((finding for finding in findings if finding.name.startswith("drift")), key=lambda finding: abs(finding.value))
        name = worst.name if len(rows) == 1 else f"largest {worst.name}"
        tiles.append((with_error(worst.value, worst.error), worst.unit, name))
    trajectory = run.groups[0].trajectories[0]
    if len(run.groups) == 1 and trajectory.pbc.all() and np.ptp(trajectory.cells, axis=0).max() == 0:
        tiles.append((f"{density(trajectory.masses, trajectory.cells[:1])[0]:.4g}", "g/cm³", "density, constant"))
    n_systems = sum(len(group.trajectories) for group in run.groups)
    if n_systems > 1:
        tiles.append((f"{n_systems:,}", "", "systems"))
    if len(run.samples) > 1:
        tiles.append((f"{(run.groups[0].times[-1] - run.groups[0].times[0]) / 1000:.4g}", "ps", "simulated"))
    elif run.samples:
        tiles.append((f"{(run.samples[0].end - run.samples[0].begin) / 1000:.4g}", "ps", "after equilibration"))
    page.tiles(tiles)
    return findings


def _averages(page: Page, samples: list[Sample], run: DynamicsRun) -> None:
    blocks = "the replicas" if all(len(sample.trajectories) > 1 for sample in samples) else "ten blocks"
    page.heading(
        "Averages",
        f"± correlation: standard error of the mean from the statistical inefficiency; ± blocks: from {blocks}. Believe the larger one; "
        f"where they differ much, the run is short for its correlations.{_short_remark(samples, run)}{_far_remark(samples, run)}",
    )
    has_kept = any(sample.temperature is not None for sample in samples)
    table = []
    for name, unit, label in figures.QUANTITIES:
        for sample in samples:
            if name in sample.thermo and np.ptp(sample.thermo[name]) > 0:
                interval = float(np.median(np.diff(sample.thermo["time_fs"][0])))
                where = f" at {sample.name}" if sample.name else ""
                mean, *others = _cells(average(sample.thermo[name]), interval)
                kept = _kept(sample).get(name)
                shown = ("–" if kept is None else f"{kept:g}",) if has_kept else ()
                table.append((f"{label}, {unit}{where}", mean, *shown, *others))
    kept_heading = ("kept",) if has_kept else ()
    headings = ("quantity", "mean", *kept_heading, "± correlation", "± blocks", "deviation", "correlation time, fs", "independent samples")
    page.table(headings, table)


def _kept(sample: Sample) -> dict[str, float | None]:
    """Return what thermostat and barostat keep, by column of the thermo table."""
    return {"temperature_k": sample.temperature, "pressure_gpa": sample.pressure}


def _short_remark(samples: list[Sample], run: DynamicsRun) -> str:
    """Return a sentence where a sample is short for thermostat or barostat, whose slow swings it then holds few of."""
    shortest = min(sample.end - sample.begin for sample in samples)
    if run.relaxation is None or shortest >= _ENOUGH * run.relaxation[1]:
        return ""
    name, length = run.relaxation
    which = "This sample is" if len(samples) == 1 else "The shortest of these samples is"
    return (
        f" {which} {shortest / 1000:.3g} ps long, less than {_ENOUGH} times the run's {name} of {length / 1000:g} ps: errors are then too "
        "small as a rule."
    )


def _far_remark(samples: list[Sample], run: DynamicsRun) -> str:
    """Return a sentence for each mean that lies far from what the run keeps; Langevin dynamics have their own about velocities."""
    text = ""
    if run.integrator == "langevin":
        return text
    for name, unit, label in figures.QUANTITIES:
        for sample in samples:
            kept = _kept(sample).get(name)
            if kept is None or name not in sample.thermo or np.ptp(sample.thermo[name]) == 0:
                continue
            found = average(sample.thermo[name])
            if abs(found.mean - kept) > _FAR * found.error:
                where = f" at {sample.name}" if sample.name else ""
                text += (
                    f" The mean {label}{where} lies {abs(found.mean - kept) / found.error:.0f} errors from the {kept:g} {unit} that the "
                    "run keeps: the sample is short or not in equilibrium."
                )
    return text


def _cells(found: Average, interval: float) -> tuple[str, ...]:
    digits = decimals(found.standard_error)
    numbers = (found.mean, found.standard_error, found.block_error, found.standard_deviation)
    independent = found.n_samples / found.inefficiency
    return (*(f"{number:.{digits}f}" for number in numbers), f"{(found.inefficiency - 1) / 2 * interval:.3g}", f"{independent:,.0f}")


def _temperatures(page: Page, samples: list[Sample], has_langevin: bool) -> None:
    tests = []
    for sample in samples:
        temperatures = sample.thermo["temperature_k"]
        if np.ptp(temperatures) > 0:
            n_degrees = degrees_of_freedom({name: values.ravel() for name, values in sample.thermo.items()})
            kept = float(temperatures.mean()) if sample.temperature is None else sample.temperature
            tests.append((sample, n_degrees, canonical_test(temperatures, n_degrees, kept)))
    if not tests:
        return
    title = "Temperature against the canonical ensemble"
    of_integrator = _VELOCITIES_OF_LANGEVIN if has_langevin else ""
    if len(tests) == 1:
        sample, n_degrees, test = tests[0]
        page.heading(title, temperature_remark(test, n_degrees, sample.temperature is not None) + of_integrator)
        page.figures(figures.temperatures(sample.thermo["temperature_k"].ravel(), n_degrees, test))
        return
    page.heading(title, f"Below p = 0.01, of Kolmogorov and Smirnov, run and canonical ensemble differ by more than chance.{of_integrator}")
    headings = ("sample", "degrees of freedom", "mean, K", "canonical", "deviation, K", "canonical", "p")
    page.table(headings, [_temperature_row(*each) for each in tests])


def _temperature_row(sample: Sample, n_degrees: int, test: CanonicalTest) -> tuple[str, ...]:
    kept = sample.temperature is not None
    return (
        sample.name, str(n_degrees), with_error(test.mean.mean, test.mean.error), f"{test.expected_mean:g}" if kept else "–",
        with_error(test.width, test.width_error), f"{test.expected_width:.3g}", f"{test.p_value:.2g}" if kept else "–",
    )  # fmt: skip


def temperature_remark(test: CanonicalTest, n_degrees: int, has_thermostat: bool) -> str:
    """Return what a comparison of temperatures with the canonical ones amounts to."""
    width = f"standard deviation {with_error(test.width, test.width_error)} K, canonical {test.expected_width:.3g} K"
    if has_thermostat:
        return (
            f"{n_degrees} degrees of freedom. Mean {with_error(test.mean.mean, test.mean.error)} K, canonical {test.expected_mean:g} K; "
            f"{width}; Kolmogorov-Smirnov p = {test.p_value:.2g}; below 0.01 the two differ by more than chance."
        )
    remark = (
        "The folder names no constant temperature, so this is the canonical distribution of the run's mean; that at constant energy is "
        f"narrower. {n_degrees} degrees of freedom; {width}."
    )
    if test.width > test.expected_width + 3 * test.width_error:
        remark += " This one is broader: energy still swings between kinetic and potential, as after a start from a perfect crystal."
    return remark
