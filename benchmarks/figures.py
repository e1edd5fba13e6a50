"""The figures of the pages, of rows that are kept in docs/measured.jsonl; `pages.py` draws them."""

import hashlib
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import matplotlib.pyplot as plt

import measured

FOLDER = measured.MEASURED.parent / "_static"
SYSTEMS = {"aspirin": "aspirin, 21 atoms", "water64": "64 water molecules", "si512": "512 silicon atoms", "cu1000": "1,000 copper atoms"}
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


FIGURES: dict[str, tuple[tuple[str, ...], Callable[[Mapping[str, list[dict[str, Any]]]], plt.Figure]]] = {
    "speed.svg": (tuple(SYSTEMS), speed),
}
"""File -> the tables it shows, without the word speed in front of their names, and what draws it."""


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
    return {table: [entry for entry in entries if entry["table"] == f"speed {table}"] for table in FIGURES[name][0]}


def _fingerprint(name: str) -> str:
    return hashlib.sha256(json.dumps(_rows(name), sort_keys=True).encode()).hexdigest()
