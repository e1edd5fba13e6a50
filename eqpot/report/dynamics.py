"""Figures of dynamics."""

import csv
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure


def read_thermo(folder: str | Path) -> dict[str, np.ndarray]:
    """Return the columns of a run's thermo.csv, each [n_rows]."""
    with (Path(folder) / "thermo.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def plot_dynamics(runs: Mapping[str, str | Path], n_atoms: int, path: str | Path) -> None:
    """Plot temperature and change of the conserved energy of runs that follow one another, and save the figure.

    runs: label -> run folder, in the order of time; n_atoms: for energies per atom.
    """
    figure = Figure(figsize=(8.0, 5.0), dpi=150, layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True)
    start = 0.0
    for color, (label, folder) in zip(("#c44e52", "#4c72b0", "#55a868", "#8172b2"), runs.items(), strict=False):
        thermo = read_thermo(folder)
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
    figure.savefig(path)
