"""Figures of a dynamics run."""

from collections.abc import Mapping

import numpy as np
from ase.data import chemical_symbols
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from scipy.ndimage import uniform_filter1d
from scipy.signal import find_peaks

from eqpot.observables import CanonicalTest, RadialDistribution, Spectrum, Trajectory, drift, velocity_autocorrelation
from eqpot.observables.thermo import canonical_distribution
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

_SHOWN = ("temperature_k", "potential_energy_ev_per_atom", "pressure_gpa", "density_g_per_cm3")
_LINES = 6
_SMOOTH = 5
"""Bins of g(r) that are averaged before peaks are looked for, so that noise is none."""

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


def over_time(thermo: Mapping[str, np.ndarray], discarded: float) -> list[tuple[Figure, str]]:
    """Return figures of what changes, and of the conserved energy, `change`. discarded: end of equilibration, fs."""
    time, drawn = thermo["time_fs"] / 1000, []
    for (name, unit, label), color in zip((item for item in QUANTITIES if item[0] in _SHOWN), COLORS, strict=False):
        if name not in thermo or np.ptp(thermo[name]) == 0:
            continue
        # Digits that all values share hide the others.
        energy = unit == "eV/atom"
        values = 1000 * (thermo[name] - thermo[name].mean()) if energy else thermo[name]
        figure, axes = panel("time (ps)", f"{label} ({'meV/atom' if energy else unit})")
        _series(axes, time, values, color, discarded / 1000)
        drawn.append((figure, f"Potential energy, from {thermo[name].mean():.4f} eV/atom." if energy else f"{label.capitalize()}."))
    figure, axes = panel("time (ps)", "change of the conserved energy\n(meV/atom)")
    _series(axes, time, thermo["change"], COLORS[3], discarded / 1000)
    caption = "Conserved energy: total energy less what thermostat and barostat put in. What it changes is the error of the time step."
    kept = thermo["time_fs"] >= discarded - 1e-6
    if kept.sum() >= 4:
        slope, mean = drift(time[kept], thermo["change"][kept]).slope, thermo["change"][kept].mean()
        axes.plot(time[kept], mean + slope * (time[kept] - time[kept].mean()), color="#1b1f24", linewidth=1, linestyle="--", label="drift")
        axes.legend(frameon=False)
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


def radial_distributions(found: RadialDistribution) -> list[tuple[Figure, str]]:
    """Return figures of g(r) and of running coordination numbers, one line a pair of elements."""
    figure, axes = panel("distance (Å)", "g(r)")
    counts, sides = panel("distance (Å)", "neighbours closer than that")
    pairs = [pair for pair in found.values if pair[0] <= pair[1]]
    for index, (first, second) in enumerate(pairs):
        color, dashes = COLORS[index % _LINES], "-" if index < _LINES else "--"
        axes.plot(found.radii, found.values[first, second], color=color, linestyle=dashes, label=f"{first}-{second}")
        sides.plot(found.edges[1:], found.coordination[first, second], color=color, linestyle=dashes, label=f"{second} around {first}")
    axes.axhline(1.0, color="#9aa4ae", linewidth=0.8)
    tallest = max(float(found.values[pair].max()) for pair in pairs)
    axes.set(xlim=(0, found.edges[-1]), ylim=(0, 1.08 * tallest))
    sides.set(xlim=(0, found.edges[-1]), ylim=(0, None))
    for each in (axes, sides):
        each.legend(frameon=False, ncols=1 + len(pairs) // 5)
    return [(figure, "Radial distribution functions."), (counts, "Running coordination numbers.")]


def first_shells(found: RadialDistribution) -> list[tuple[str, ...]]:
    """Return rows of the first peak of g(r), the minimum after it and the neighbours up to there, of pairs that show both."""
    rows: list[tuple[str, ...]] = []
    for (first, second), values in found.values.items():
        smooth = uniform_filter1d(values, _SMOOTH)
        peaks = find_peaks(smooth, height=1.0, prominence=0.3)[0]
        valleys = find_peaks(-smooth, prominence=0.1)[0]
        valleys = valleys[valleys > peaks[0]] if len(peaks) else valleys
        if len(peaks) == 0 or len(valleys) == 0:
            continue
        end = valleys[0]
        rows.append(
            (
                f"{second} around {first}",
                f"{found.radii[peaks[0]]:.2f}",
                f"{values[peaks[0]]:.2f}",
                f"{found.radii[end]:.2f}",
                f"{found.coordination_number(first, second, found.radii[end]):.2f}",
            )
        )
    return rows


def displacements(found: Mapping[str, np.ndarray], interval: float) -> list[tuple[Figure, str]]:
    """Return figures of mean squared displacements, symbol -> [n_frames], frames `interval` fs apart, up to half of the run."""
    drawn = []
    for scale in ("linear", "log"):
        figure, axes = panel("time (ps)", "mean squared displacement (Å²)")
        for index, (name, values) in enumerate(found.items()):
            last = max(2, len(values) // 2)
            lags = np.unique(np.geomspace(1, last, _POINTS).astype(int) if scale == "log" else np.linspace(0, last, _POINTS).astype(int))
            axes.plot(lags * interval / 1000, values[lags], color=COLORS[index % _LINES], label=name)
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


def correlations(trajectory: Trajectory) -> tuple[Figure, str]:
    """Return a figure of the velocity autocorrelation of each element, up to 0.5 ps or half of the run."""
    figure, axes = panel("time (fs)", "velocity autocorrelation")
    last = max(4, min(round(500 / trajectory.interval), len(trajectory.times) // 2))
    assert trajectory.velocities is not None
    for index, number in enumerate(np.unique(trajectory.numbers)):
        values = velocity_autocorrelation(trajectory.velocities[:, trajectory.numbers == number])[:last]
        label = chemical_symbols[number]
        axes.plot(trajectory.interval * np.arange(len(values)), values, color=COLORS[index % _LINES], linewidth=1.1, label=label)
    axes.axhline(0.0, color="#9aa4ae", linewidth=0.8)
    axes.set_xlim(0, last * trajectory.interval)
    axes.legend(frameon=False)
    return figure, "How long velocities are remembered, by element."


def spectrum(found: Spectrum) -> tuple[Figure, str]:
    """Return a figure of the density of states, by element and in total, as far as there is any."""
    figure, axes = panel("wavenumber (1/cm)", "modes per 1/cm")
    for index, (name, density) in enumerate(found.densities.items()):
        axes.plot(found.wavenumbers, density, color=COLORS[index % _LINES], linewidth=1.1, label=name)
    if len(found.densities) > 1:
        axes.plot(found.wavenumbers, found.total, color="#1b1f24", linewidth=0.7, label="all")
    last = found.wavenumbers[np.nonzero(found.total > 0.01 * found.total.max())[0][-1]]
    axes.set(xlim=(0, min(1.1 * last, found.wavenumbers[-1])), ylim=(0, None))
    axes.legend(frameon=False)
    return figure, "Vibrational density of states; its integral is the number of degrees of freedom."


def _series(axes: Axes, time: np.ndarray, values: np.ndarray, color: str, discarded: float) -> None:
    axes.plot(time, values, color=color, linewidth=0.6, alpha=0.5, rasterized=True)
    width = max(1, len(values) // 20)
    # Means over whole windows alone: the ends would be means of fewer.
    mean = np.convolve(values, np.full(width, 1 / width), "valid")
    shown = np.unique(np.linspace(0, len(mean) - 1, _POINTS).astype(int))
    axes.plot(time[shown + width // 2], mean[shown], color=color, linewidth=1.8)
    if discarded > time[0]:
        axes.axvspan(time[0], discarded, color="#e3e7eb", alpha=0.7, linewidth=0, zorder=0)
    axes.set_xlim(time[0], time[-1] if len(time) > 1 else None)
