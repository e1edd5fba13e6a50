"""Figures of a dynamics run."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter
from scipy.signal import find_peaks, oaconvolve

from eqpot.observables import (
    CanonicalTest,
    FreeEnergy,
    RadialDistribution,
    Spectrum,
    Torsion,
    Trajectory,
    drift,
    mean_distribution,
    velocity_autocorrelation,
)
from eqpot.observables.thermo import canonical_distribution
from eqpot.report.dynamics_run import DynamicsRun, Group
from eqpot.report.page import COLORS, panel

QUANTITIES = (
    ("temperature_k", "K", "temperature"),
    ("potential_energy_ev_per_atom", "eV/atom", "potential energy"),
    ("kinetic_energy_ev_per_atom", "eV/atom", "kinetic energy"),
    ("pressure_gpa", "GPa", "pressure"),
    ("volume_ang3", "Å³", "volume"),
    ("density_g_per_cm3", "g/cm³", "density"),
)
"""Column of the thermo table, unit and name of what has an average."""

SHOWN = ("temperature_k", "potential_energy_ev_per_atom", "pressure_gpa", "density_g_per_cm3")
"""Those that have a figure over time."""

_POINTS = 300
"""Points of a line or a set of quantiles: more would only hide each other, and make the page large."""


def plot_sequence(runs: Mapping[str, Mapping[str, np.ndarray]], n_atoms: int) -> Figure:
    """Return a figure of temperature and change of the conserved energy of runs that follow one another; label -> thermo columns."""
    figure = Figure(figsize=(8.0, 5.0), dpi=150, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    start = 0.0
    for color, (label, thermo) in zip(("#c44e52", "#4c72b0", "#55a868", "#8172b2"), runs.items(), strict=False):
        time = start + thermo["time_fs"] / 1000
        temperature = thermo["temperature_k"]
        change = 1000 * (thermo["conserved_energy_ev"] - thermo["conserved_energy_ev"][0]) / n_atoms
        upper.plot(time, temperature, color=color, linewidth=0.6, alpha=0.5)
        mean = temperature.mean()
        upper.plot(time[[0, -1]], [mean, mean], color=color, linewidth=2, label=f"{label}: mean {mean:.0f} K")
        lower.plot(time, change, color=color, linewidth=0.8)
        start = time[-1]
    upper.set_ylabel("temperature (K)")
    lower.set_ylabel("change of the\nconserved energy (meV/atom)")
    lower.set_xlabel("time (ps)")
    # Above the axes, where it hides no data.
    upper.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=len(runs), borderaxespad=0.0)
    for axes in (upper, lower):
        axes.margins(x=0.01)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def over_time(run: DynamicsRun) -> list[tuple[Figure, str]]:
    """Return figures of what changes, and of the conserved energy, one line a group of replicas."""
    drawn = []
    for (name, unit, label), color in zip((item for item in QUANTITIES if item[0] in SHOWN), COLORS, strict=False):
        groups = [group for group in run.groups if name in group.thermo and np.ptp(group.thermo[name]) > 0]
        if not groups:
            continue
        # Digits that all values share hide the others.
        energy = unit == "eV/atom"
        means = [float(group.thermo[name].mean()) for group in groups]
        figure, axes = panel("time (ps)", f"{label} ({'meV/atom' if energy else unit})")
        for index, (group, mean) in enumerate(zip(groups, means, strict=True)):
            values = 1000 * (group.thermo[name] - mean) if energy else group.thermo[name]
            _series(axes, group, values, color if len(run.groups) == 1 else line_style(index)["color"])
        _name_lines(axes, groups)
        zero = f"from {means[0]:.4f} eV/atom" if len(groups) == 1 else "each from its own mean"
        drawn.append((figure, f"Potential energy, {zero}." if energy else f"{label.capitalize()}."))
    figure, axes = panel("time (ps)", "change of the conserved energy\n(meV/atom)")
    for index, group in enumerate(run.groups):
        _series(axes, group, group.thermo["change"], COLORS[3] if len(run.groups) == 1 else line_style(index)["color"])
    caption = "Conserved energy: total energy less what thermostat and barostat put in. What it changes is the error of the time step."
    if len(run.samples) == 1 and run.samples[0].n_rows >= 4:
        rows = run.samples[0].thermo
        time, change = rows["time_fs"][0] / 1000, rows["change"].mean(axis=0)
        slope, mean = drift(time, change).slope, change.mean()
        axes.plot(time, mean + slope * (time - time.mean()), color="#1b1f24", linewidth=1, linestyle="--", label="drift")
        axes.legend(frameon=False)
    _name_lines(axes, run.groups)
    return [*drawn, (figure, caption)]


def temperatures(values: np.ndarray, n_degrees: int, test: CanonicalTest) -> list[tuple[Figure, str]]:
    """Return a histogram of temperatures [n], K, beside their canonical distribution, and the two by their quantiles."""
    canonical = canonical_distribution(n_degrees, test.expected_mean)
    figure, axes = panel("temperature (K)", "probability density (1/K)")
    axes.hist(values, bins=int(np.clip(np.sqrt(len(values)), 10, 60)), density=True, color=COLORS[0], alpha=0.35, label="run")
    grid = np.linspace(min(values.min(), canonical.ppf(1e-3)), max(values.max(), canonical.ppf(0.999)), 200)
    axes.plot(grid, canonical.pdf(grid), color="#1b1f24", label=f"canonical, {test.expected_mean:.4g} K")
    axes.set_ylim(0, 1.3 * axes.get_ylim()[1])
    axes.legend(frameon=False)
    quantiles, sides = panel("canonical quantile (K)", "quantile of the run (K)")
    n_points = min(len(values), _POINTS)
    shares = (np.arange(n_points) + 0.5) / n_points
    expected = canonical.ppf(shares)
    sides.plot(expected[[0, -1]], expected[[0, -1]], color="#9aa4ae", linewidth=0.8)
    sides.plot(expected, np.quantile(values, shares), color=COLORS[0], marker=".", markersize=3, linewidth=0)
    return [
        (figure, "Instantaneous temperatures and the gamma distribution that they have at constant temperature."),
        (quantiles, "Quantiles against canonical ones: on the line the two agree; flatter is too narrow."),
    ]


def radial_distributions(found: Mapping[str, Sequence[RadialDistribution]]) -> list[tuple[Figure, str]]:
    """Return figures of g(r) and of running coordination numbers, one line a sample and pair of elements; parts of a sample -> band."""
    figure, axes = panel("distance (Å)", "g(r)")
    counts, sides = panel("distance (Å)", "neighbours closer than that")
    index, peaks = 0, []
    for name, parts in found.items():
        mean = mean_distribution(parts)
        several = len(mean.values) > 1 or not name
        for first, second in (pair for pair in mean.values if pair[0] <= pair[1]):
            style, pair = line_style(index), (first, second)
            values = mean.values[pair]
            label = _joined(name, f"{first}-{second}" if several else "")
            _band(axes, mean.radii, np.array([part.values[pair] for part in parts]), style)
            axes.plot(mean.radii, values, label=label, **style)
            sides.plot(mean.edges[1:], mean.coordination[pair], label=_joined(name, f"{second} around {first}" if several else ""), **style)
            peaks += [(float(values[n]), f"{label or 'g(r)'} at {mean.radii[n]:.2f} Å") for n in (*find_peaks(values)[0], values.argmax())]
            index += 1
        edges = mean.edges
    axes.axhline(1.0, color="#9aa4ae", linewidth=0.8)
    tallest, cut = _common_height(peaks)
    axes.set(xlim=(0, edges[-1]), ylim=(0, 1.08 * tallest))
    sides.set(xlim=(0, edges[-1]), ylim=(0, None))
    for each in (axes, sides):
        each.legend(frameon=False, ncols=1 + index // 5)
    beyond = "".join(f" {name} reaches {height:.3g}, beyond the figure." for name, height in cut.items())
    return [(figure, f"Radial distribution functions.{beyond}"), (counts, "Running coordination numbers.")]


def _common_height(peaks: Sequence[tuple[float, str]]) -> tuple[float, dict[str, float]]:
    """Return the height that a figure needs, and by name the peaks that it leaves out: bonds, which would flatten all else.

    They are taller than all other peaks by a factor of four; peaks of a crystal decrease step by step.
    """
    ordered = sorted((peak for peak in peaks if peak[0] >= 1), reverse=True) or [max(peaks)]
    first = max((n for n in range(1, len(ordered)) if ordered[n - 1][0] > 4 * ordered[n][0]), default=0)
    return ordered[first][0], {name: height for height, name in ordered[:first]}


def displacements(found: Mapping[str, tuple[float, np.ndarray]]) -> list[tuple[Figure, str]]:
    """Return figures of mean squared displacements up to half of the run.

    found: label -> time between frames, fs, and values [n_replicas, n_frames].
    """
    drawn = []
    for scale in ("linear", "log"):
        figure, axes = panel("time (ps)", "mean squared displacement (Å²)")
        for index, (name, (interval, values)) in enumerate(found.items()):
            last = max(2, values.shape[1] // 2)
            lags = np.unique(np.geomspace(1, last, _POINTS).astype(int) if scale == "log" else np.linspace(0, last, _POINTS).astype(int))
            _band(axes, lags * interval / 1000, values[:, lags], line_style(index))
            axes.plot(lags * interval / 1000, values.mean(axis=0)[lags], label=name, **line_style(index))
        axes.set(xscale=scale, yscale=scale)
        if scale == "linear":
            axes.set(xlim=(0, None), ylim=(0, None))
        else:
            # They may span less than a decade, where the default labels run into each other.
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 3)))
            axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.legend(frameon=False)
        drawn.append(figure)
    return [
        (drawn[0], "Mean squared displacement up to half of the run; the last lags have few origins."),
        (drawn[1], "The same in logarithms: slope 2 while atoms fly, 1 where they diffuse, 0 where they are bound."),
    ]


def correlations(samples: Mapping[str, Sequence[Trajectory]]) -> tuple[Figure, str]:
    """Return a figure of the velocity autocorrelation of each sample and element, up to 0.5 ps or half of the run."""
    figure, axes = panel("time (fs)", "velocity autocorrelation")
    index, end = 0, 0.0
    for name, trajectories in samples.items():
        first = trajectories[0]
        last = max(4, min(round(500 / first.interval), len(first.times) // 2))
        end = max(end, last * first.interval)
        for number in np.unique(first.numbers):
            # Replicas as more atoms: the sum over atoms is one over both.
            velocities = [each.velocities[:, first.numbers == number] for each in trajectories if each.velocities is not None]
            values = velocity_autocorrelation(np.concatenate(velocities, axis=1))[:last]
            label = _joined(name, chemical_symbols[number] if len(set(first.numbers)) > 1 or not name else "")
            axes.plot(first.interval * np.arange(len(values)), values, label=label, **line_style(index, 1.1))
            index += 1
    axes.axhline(0.0, color="#9aa4ae", linewidth=0.8)
    axes.set_xlim(0, end)
    axes.legend(frameon=False)
    return figure, "How long velocities are remembered, by element."


def spectrum(samples: Mapping[str, Sequence[Spectrum]]) -> tuple[Figure, str]:
    """Return a figure of the density of states as far as there is any: by element and in total, or of each sample in total."""
    figure, axes = panel("wavenumber (1/cm)", "modes per 1/cm")
    last = 0.0
    for index, (name, spectra) in enumerate(samples.items()):
        wavenumbers, total = spectra[0].wavenumbers, np.mean([each.total for each in spectra], axis=0)
        if len(samples) == 1:
            for element, symbol in enumerate(spectra[0].densities):
                density = np.mean([each.densities[symbol] for each in spectra], axis=0)
                axes.plot(wavenumbers, density, label=symbol, **line_style(element, 1.1))
            style: dict[str, Any] = {"color": "#9aa4ae", "linewidth": 1.1, "zorder": 1}
        else:
            style = line_style(index, 1.1)
        if len(samples) > 1 or len(spectra[0].densities) > 1:
            axes.plot(wavenumbers, total, label=name if len(samples) > 1 else "all", **style)
        _band(axes, wavenumbers, np.array([each.total for each in spectra]), style)
        last = max(last, min(1.1 * wavenumbers[np.nonzero(total > 0.01 * total.max())[0][-1]], wavenumbers[-1]))
    axes.set(xlim=(0, last), ylim=(0, None))
    axes.legend(frameon=False)
    return figure, "Vibrational density of states; its integral is three for each atom that moves, its degrees of freedom."


def torsions(profiles: Mapping[str, tuple[Torsion, FreeEnergy]]) -> list[tuple[Figure, str]]:
    """Return a figure of the free energy along each torsion, with standard errors, over a whole turn."""
    drawn = []
    for index, (name, (torsion, profile)) in enumerate(profiles.items()):
        figure, axes = panel("dihedral angle (°)", "free energy (meV)")
        turn = 360 / torsion.symmetry
        angles = np.concatenate([profile.angles + number * turn for number in range(-4, 5)])
        shown = (angles >= -180) & (angles <= 180)
        energies, errors = (np.tile(values, 9)[shown] for values in (profile.energies, profile.errors))
        style = line_style(index)
        axes.fill_between(angles[shown], energies - errors, energies + errors, color=style["color"], alpha=0.25, linewidth=0)
        axes.plot(angles[shown], energies, marker=".", **style)
        axes.set(xlim=(-180, 180), xticks=range(-180, 181, 60))
        folded = f" The {torsion.symmetry} equal positions are taken together." if torsion.symmetry > 1 else ""
        drawn.append((figure, f"{name}, with standard errors.{folded}"))
    return drawn


def line_style(index: int, width: float = 1.5) -> dict[str, Any]:
    """Return how the line of this number looks: colours, and other dashes when they are used up."""
    return {"color": COLORS[index % len(COLORS)], "linestyle": ("-", "--", ":", "-.")[index // len(COLORS) % 4], "linewidth": width}


def _joined(*parts: str) -> str:
    return ", ".join(part for part in parts if part)


def _name_lines(axes: Axes, groups: Sequence[Group]) -> None:
    if len(groups) == 1:
        return
    for index, group in enumerate(groups):
        axes.plot([], [], label=group.name, **line_style(index))
    axes.legend(frameon=False, ncols=1 + len(groups) // 5)


def _band(axes: Axes, places: np.ndarray, values: np.ndarray, style: Mapping[str, Any]) -> None:
    """Shade one standard deviation about the mean of replicas or blocks [n_replicas, n]."""
    if len(values) > 1:
        mean, spread = values.mean(axis=0), values.std(axis=0, ddof=1)
        axes.fill_between(places, mean - spread, mean + spread, color=style["color"], alpha=0.2, linewidth=0)


def _series(axes: Axes, group: Group, values: np.ndarray, color: str) -> None:
    """Draw the mean of replicas [n_replicas, n_rows], and grey what is in no sample where the group is the only one."""
    time = group.times / 1000
    lines = values.mean(axis=0)
    axes.plot(time, lines, color=color, linewidth=0.6, alpha=0.5, rasterized=True)
    width = max(1, len(lines) // 20)
    kernel = np.full(width, 1 / width)
    # Means over whole windows alone: the ends would be means of fewer. By Fourier transforms, as a window grows with the run.
    mean = oaconvolve(lines, kernel, "valid")
    shown = np.unique(np.linspace(0, len(mean) - 1, _POINTS).astype(int))
    axes.plot(time[shown + width // 2], mean[shown], color=color, linewidth=1.8)
    if len(values) > 1:
        spread = oaconvolve(values.std(axis=0, ddof=1), kernel, "valid")
        axes.fill_between(time[shown + width // 2], (mean - spread)[shown], (mean + spread)[shown], color=color, alpha=0.2, linewidth=0)
    axes.set_xlim(time[0], time[-1] if len(time) > 1 else None)
    axes.xaxis.set_major_locator(MaxNLocator(6))
    if not group.name:
        used = [(sample.begin / 1000, sample.end / 1000) for sample in group.samples]
        edges = [time[0], *(edge for span in used for edge in span), time[-1]]
        for begin, end in zip(edges[::2], edges[1::2], strict=True):
            if end > begin:
                axes.axvspan(begin, end, color="#e3e7eb", alpha=0.7, linewidth=0, zorder=0)
