"""The figures of the pages, of rows that are kept in docs/measured.jsonl; `pages.py` draws them."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt
import numpy as np

import measured

FOLDER = measured.MEASURED.parent / "_static"
SYSTEMS = {
    "speed aspirin": "aspirin, 21 atoms",
    "speed water64": "64 water molecules",
    "speed si512": "512 silicon atoms",
    "speed cu1000": "1,000 copper atoms",
}
OWN, OTHER = "#1f5fa8", "#b9c6d3"


def speed(rows: Mapping[str, list[dict[str, Any]]]) -> plt.Figure:
    """Return a panel a system: how many times longer than eqpot's a step of each package takes."""
    heights = [len(rows[name]) for name in SYSTEMS]
    figure, panels = plt.subplots(len(SYSTEMS), 1, figsize=(8, 0.27 * sum(heights) + 2.2), sharex=True, height_ratios=heights)
    for panel, (name, title) in zip(panels, SYSTEMS.items(), strict=True):
        times = sorted(((row["values"]["times eqpot"]["median"], next(iter(row["of"].values()))) for row in rows[name]), reverse=True)
        ratios, names = zip(*times, strict=True)
        bars = panel.barh(names, ratios, color=[OWN if label.startswith("eqpot") else OTHER for label in names], height=0.72)
        panel.bar_label(bars, [f"{ratio:.3g}" for ratio in ratios], padding=4, fontsize=9)
        panel.set_title(title, loc="left", fontsize=10, fontweight="bold")
        panel.set_xscale("log")
        panel.set_xlim(0.8, 500)
        panel.tick_params(axis="y", length=0, labelsize=9)
        panel.tick_params(axis="x", which="both", bottom=panel is panels[-1], labelbottom=panel is panels[-1])
        panel.spines[["top", "right", "bottom", "left"]].set_visible(False)
    panels[-1].xaxis.set_major_formatter("{x:g}")
    panels[-1].set_xlabel("time of a step, in steps of eqpot", fontsize=9)
    figure.tight_layout()
    return figure


def exactness(rows: Mapping[str, list[dict[str, Any]]]) -> plt.Figure:
    """Return two panels: errors under rotations on grids of more and more points, and errors of splines of closer and closer knots."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
    grids = rows["exactness grids"]
    points = [row["of"]["points"] for row in grids]
    for label, style in zip(grids[0]["values"], ("o-", "s-", "o:", "s:"), strict=True):
        color = OWN if style.endswith("-") else "#7d8a97"
        left.semilogy(points, [row["values"][label] for row in grids], style, color=color, ms=4.5, lw=1.2, label=label.replace("`", ""))
    left.set_xticks(points)
    left.set_ylim(3e-15, 1e5)
    left.set_xlabel("points of the grid", fontsize=9)
    left.set_title("Change of forces under rotations, relative", loc="left", fontsize=10, fontweight="bold")
    left.legend(fontsize=7.5, frameon=False, loc="upper right")
    splines = rows["exactness splines"]
    spacings = np.array([row["of"]["spacing, Å"] for row in splines])
    for label, style, power in (("energy, RMS, meV", "o-", 6), ("force, RMS, meV/Å", "s-", 5)):
        values = np.array([row["values"][label] for row in splines])
        right.loglog(spacings, values, style, color=OWN, ms=4.5, lw=1.2, label=label)
        right.loglog(spacings, values[-1] * (spacings / spacings[-1]) ** power, ":", color="#7d8a97", lw=1, label=f"spacing$^{power}$")
    right.xaxis.set_minor_locator(plt.NullLocator())
    right.set_xticks(spacings, [f"{spacing:g}" for spacing in spacings])
    right.set_xlabel("distance of the knots, Å", fontsize=9)
    right.set_title("Error of the splines", loc="left", fontsize=10, fontweight="bold")
    right.legend(fontsize=7.5, frameon=False)
    for panel in (left, right):
        panel.tick_params(labelsize=8)
        panel.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    return figure


FIGURES: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, list[dict[str, Any]]]], plt.Figure]]] = {
    "speed.svg": (tuple(SYSTEMS), speed),
    "exactness.svg": (("exactness grids", "exactness splines"), exactness),
}
"""File -> the tables it shows, and what draws it."""


def stale(name: str) -> bool:
    """Whether a figure shows other numbers than those that are kept."""
    path = FOLDER / name
    return not path.exists() or _fingerprint(name) not in path.read_text(encoding="utf-8")


def draw(name: str) -> None:
    """Draw a figure into docs/_static."""
    figure = FIGURES[name][1](_rows(name))
    text = io.StringIO()
    # What it shows, by which a figure that has grown old is found; letters stay letters.
    with plt.rc_context({"svg.hashsalt": "eqpot", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Description": _fingerprint(name), "Date": None})
    plt.close(figure)
    (FOLDER / name).write_text(text.getvalue(), encoding="utf-8")


def _rows(name: str) -> dict[str, list[dict[str, Any]]]:
    entries = measured.read()
    return {table: [entry for entry in entries if entry["table"] == table] for table in FIGURES[name][0]}


def _fingerprint(name: str) -> str:
    return hashlib.sha256(json.dumps(_rows(name), sort_keys=True).encode()).hexdigest()
