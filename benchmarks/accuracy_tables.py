"""The tables of `accuracy.py`: the equal budget, and recipes to the end beside what others have published."""

from collections.abc import Mapping
from typing import Any

import published
from published import Errors

Row = dict[str, Any]
"""Errors on one test, energy_mae (meV), energy_per_atom_mae, force_mae (meV/Å), stress_mae (GPa) and rmse of each, and the effort."""

Results = dict[str, dict[str, Row]]
"""Table -> "task, contestant" or "task, test" -> what was measured."""


def budget_tables(results: Results) -> list[str]:
    """Return a table of every task of the equal budget, the lowest force error first."""
    rows = results.get("budget", {})
    tables = []
    for task in dict.fromkeys(name.split(", ")[0] for name in rows):
        lines = [
            f"| {task} | force MAE, meV/Å | energy MAE, meV | steps | ms a step | parameters |",
            "| --- | --- | --- | --- | --- | --- |",
        ]
        chosen = {name.split(", ", 1)[1]: row for name, row in rows.items() if name.startswith(f"{task}, ")}
        for name, row in sorted(chosen.items(), key=lambda item: item[1]["force_mae"]):
            lines.append(
                f"| {name} | {row['force_mae']:.2f} | {row['energy_mae']:.2f} | {row['steps']:,} | "
                f"{1000 * row['seconds'] / row['steps']:.1f} | {row['parameters']:,} |"
            )
        tables.append("\n".join(lines))
    return tables


def recipe_tables(results: Results) -> list[str]:
    """Return the errors of the recipes, each kind of task beside the published errors of the same quantities."""
    rows = results.get("recipes", {})
    crystal = ("energy_per_atom_mae", "force_mae", "stress_mae")
    return [
        table
        for table in (
            _beside("molecule, MAE: energy, meV / force, meV/Å", rows, published.MOLECULES, "energy_mae", "force_mae"),
            _beside("300 K, RMSE: energy, meV / force, meV/Å", rows, published.ACETYLACETONE, "energy_rmse", "force_rmse"),
            _beside("MAE: energy, meV/atom / force, meV/Å / stress, GPa", rows, published.CRYSTALS, *crystal),
        )
        if table
    ]


def _beside(title: str, rows: Mapping[str, Row], others: Mapping[str, Mapping[str, Errors]], *quantities: str) -> str:
    """Return the table of the tasks among `others` that have been measured; nothing if there are none."""
    names = list(dict.fromkeys(name for task in others.values() for name in task))
    lines = [f"| {title} | eqpot | {' | '.join(names)} | steps | CPU hours |", "| --- " * (len(names) + 4) + "|"]
    for task in (task for task in others if task in rows):
        row = rows[task]
        ours = [row.get(quantity) for quantity in quantities]
        theirs = [_cell([other.energy, other.force, other.stress]) if (other := others[task].get(name)) else "" for name in names]
        effort = [f"{row['steps']:,}", f"{row['seconds'] / 3600:.1f}"]
        lines.append(f"| {' | '.join([task, _cell(ours, rounded=True), *theirs, *effort])} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _cell(values: list[float | None], rounded: bool = False) -> str:
    """Return the numbers, published ones with the digits they have."""
    return " / ".join(f"{value:.3g}" if rounded else f"{value:g}" for value in values if value is not None)
