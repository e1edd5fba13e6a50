"""Figures of structures at rest: phonons, vibrations, equations of state."""

import re
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqpot.properties import EquationOfState, Phonons, Vibrations
from eqpot.report.page import COLORS

_LINE, _SOFT = "#c9d0d6", "#5c6670"
_INVERSE_CENTIMETRES = 33.35641
"""1 THz in 1/cm."""


def _subscripts(formula: str) -> str:
    return re.sub(r"(\d+)", r"$_{\1}$", formula)


def plot_phonons(phonons: Phonons, path: Path) -> None:
    """Plot the bands along the path and, beside them on the same scale, the density of states."""
    figure = Figure(figsize=(8.0, 4.6), dpi=160, layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True, width_ratios=(3.4, 1))
    distances = phonons.path.get_linear_kpoint_axis()[0]
    # A path that jumps has two points at one distance.
    breaks = np.flatnonzero(np.diff(distances) < 1e-9) + 1
    for x, y in zip(np.split(distances, breaks), np.split(phonons.bands, breaks), strict=True):
        left.plot(x, y, color=COLORS[0], linewidth=1.3)
    ticks: dict[float, str] = {}
    for distance, name, _ in phonons.ticks():
        label = _subscripts(name)
        place = next((place for place in ticks if abs(place - distance) < 1e-6), distance)
        ticks[place] = f"{ticks[place]}|{label}" if place in ticks and ticks[place] != label else label
    left.set_xticks(list(ticks), list(ticks.values()))
    for place in ticks:
        left.axvline(place, color=_LINE, linewidth=0.8, zorder=0)
    left.set_xlim(distances[0], distances[-1])
    left.set_ylabel("frequency (THz)")
    right.fill_betweenx(phonons.axis, phonons.density, color=COLORS[0], alpha=0.25, linewidth=0)
    right.plot(phonons.density, phonons.axis, color=COLORS[0], linewidth=1.0)
    right.set_xlim(left=0)
    right.set_xlabel("states\n(1/THz per cell)")
    other = right.secondary_yaxis("right", functions=(lambda y: y * _INVERSE_CENTIMETRES, lambda y: y / _INVERSE_CENTIMETRES))
    other.set_ylabel("wavenumber (1/cm)")
    highest = phonons.bands.max()
    bottom = 0.0 if phonons.is_stable else 1.1 * phonons.lowest
    left.set_ylim(bottom, 1.05 * max(highest, phonons.axis[phonons.density > 1e-3 * phonons.density.max()].max()))
    if bottom < 0:
        for axes in (left, right):
            axes.axhspan(bottom, 0, color=COLORS[1], alpha=0.1, linewidth=0)
            axes.axhline(0, color=_SOFT, linewidth=0.8)
        left.text(0.01, 0.01, "imaginary", transform=left.transAxes, color=COLORS[1], va="bottom")
    left.tick_params(axis="x", length=0)
    right.tick_params(axis="y", left=False)
    figure.suptitle(f"Phonons of {_subscripts(phonons.atoms.get_chemical_formula('metal', empirical=True))}")
    figure.savefig(path)


def plot_vibrations(vibrations: Vibrations, path: Path) -> None:
    """Plot a line at every wavenumber, and their sum where each is broadened; heights are no intensities."""
    figure = Figure(figsize=(8.0, 3.4), dpi=160, layout="constrained")
    axes: Axes = figure.subplots()
    values = vibrations.wavenumbers
    margin = 0.05 * (values.max() - min(values.min(), 0.0))
    axis = np.linspace(min(values.min(), 0.0) - margin, values.max() + margin, 3000)
    half = 10.0
    density = (half / np.pi / ((axis[:, None] - values) ** 2 + half**2)).sum(axis=1)
    axes.fill_between(axis, density, color=COLORS[0], alpha=0.2, linewidth=0)
    axes.plot(axis, density, color=COLORS[0], linewidth=1.2)
    imaginary = values < 0
    for chosen, color in ((~imaginary, COLORS[0]), (imaginary, COLORS[1])):
        axes.vlines(values[chosen], -0.09 * density.max(), -0.02 * density.max(), color=color, linewidth=1.0)
    if imaginary.any():
        axes.axvspan(axis[0], 0, color=COLORS[1], alpha=0.1, linewidth=0)
        axes.text(0.01, 0.97, "imaginary", transform=axes.transAxes, color=COLORS[1], va="top")
    axes.set_xlim(axis[0] if imaginary.any() else 0.0, axis[-1])
    axes.set_ylim(bottom=-0.11 * density.max())
    axes.set_xlabel("wavenumber (1/cm)")
    axes.set_ylabel("modes per 1/cm")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_title(f"Harmonic vibrations of {_subscripts(vibrations.formula)}")
    figure.savefig(path)


def plot_equation_of_state(result: EquationOfState, formula: str, path: Path) -> None:
    """Plot energies with the fit and, below, the pressures of the stress, which the fit has not seen, with its derivative."""
    figure = Figure(figsize=(6.4, 5.6), dpi=160, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1.4, 1))
    volumes = np.linspace(result.volumes.min(), result.volumes.max(), 300)
    n_atoms = result.n_atoms
    upper.plot(
        volumes / n_atoms, 1000 * (result.fitted_energies(volumes) - result.energy) / n_atoms, color=COLORS[0], label="Birch-Murnaghan"
    )
    upper.plot(result.volumes / n_atoms, 1000 * (result.energies - result.energy) / n_atoms, "o", color=COLORS[1], label="energies")
    lower.plot(volumes / n_atoms, result.fitted_pressures(volumes), color=COLORS[0], label="slope of the fit")
    lower.plot(result.volumes / n_atoms, result.pressures, "o", color=COLORS[1], label="stress")
    lower.axhline(0, color=_LINE, linewidth=0.8, zorder=0)
    upper.set_ylabel("energy above the minimum (meV/atom)")
    lower.set_ylabel("pressure (GPa)")
    lower.set_xlabel("volume (Å$^3$/atom)")
    for axes in (upper, lower):
        axes.axvline(result.volume / n_atoms, color=_LINE, linewidth=0.8, zorder=0)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    volume = f"$V_0$ = {result.volume / n_atoms:.3f} Å$^3$/atom"
    upper.set_title(f"{_subscripts(formula)}: {volume}, $B$ = {result.bulk_modulus:.1f} GPa, $B'$ = {result.derivative:.2f}")
    figure.align_ylabels()
    figure.savefig(path)
