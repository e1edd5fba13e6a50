"""The tables of `accuracy.py`: the equal budget, and recipes to the end beside what others have published."""

from collections.abc import Mapping, Sequence
from typing import Any

import published
from published import Errors

Row = dict[str, Any]
"""Errors on one test, energy_mae (meV), energy_per_atom_mae, force_mae (meV/Å), stress_mae (GPa) and rmse of each, and the effort."""

Results = dict[str, dict[str, Row]]
"""Table -> "task, contestant" or "task, test" -> what was measured."""


CRYSTAL = ("energy_per_atom_mae", "force_mae", "stress_mae")
KINDS: dict[str, tuple[str, Mapping[str, Mapping[str, Errors]], Sequence[str]]] = {
    "molecules": ("MAE, meV, meV/Å", published.MOLECULES, ("energy_mae", "force_mae")),
    "together": ("MAE, meV, meV/Å", published.TOGETHER, ("energy_mae", "force_mae")),
    "acetylacetone": ("RMSE, meV, meV/Å", published.ACETYLACETONE, ("energy_rmse", "force_rmse")),
    "crystals": ("MAE, meV/atom, meV/Å, GPa", published.CRYSTALS, CRYSTAL),
}
"""Recipes that share a table -> its title, what others have published, and the quantities."""


def budget_table(results: Results, task: str) -> str:
    """Return the equal budget of a task, the lowest force error first."""
    rows = {name.split(", ", 1)[1]: row for name, row in results.get("budget", {}).items() if name.startswith(f"{task}, ")}
    lines = [
        f"| {task} | force MAE, meV/Å | energy MAE, meV | steps | ms a step | parameters |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["force_mae"]):
        lines.append(
            f"| {name} | {row['force_mae']:.2f} | {row['energy_mae']:.2f} | {row['steps']:,} | "
            f"{1000 * row['seconds'] / row['steps']:.1f} | {row['parameters']:,} |"
        )
    return "\n".join(lines)


def recipe_table(results: Results, kind: str) -> str:
    """Return the errors of the recipes of a kind beside the published errors of the same quantities."""
    title, others, quantities = KINDS[kind]
    return _beside(title, results.get("recipes", {}), others, *quantities)


def tables(results: Results) -> list[str]:
    """Return all tables that have rows."""
    tasks = dict.fromkeys(name.split(", ")[0] for name in results.get("budget", {}))
    return [*(budget_table(results, task) for task in tasks), *filter(None, (recipe_table(results, kind) for kind in KINDS))]


def _beside(title: str, rows: Mapping[str, Row], others: Mapping[str, Mapping[str, Errors]], *quantities: str) -> str:
    """Return the table of the tasks among `others` that have been measured; nothing if there are none."""
    names = list(dict.fromkeys(name for task in others.values() for name in task))
    lines = [f"| {title} | eqpot | {' | '.join(names)} | steps | CPU hours |", "| --- " * (len(names) + 4) + "|"]
    for task in (task for task in others if task in rows):
        row = rows[task]
        ours = [row.get(quantity) for quantity in quantities]
        theirs = [_cell([other.energy, other.force, other.stress]) if (other := others[task].get(name)) else "" for name in names]
        effort = [f"{row['steps']:,}", f"{row['seconds'] / 3600:.1f}"]
        lines.append(f"| {' | '.join([task.removeprefix('molecules, '), _cell(ours, rounded=True), *theirs, *effort])} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _cell(values: list[float | None], rounded: bool = False) -> str:
    """Return the numbers, published ones with the digits they have; a cell is one line, so its spaces do not break."""
    return "\u00a0/\u00a0".join(f"{value:#.3g}".rstrip(".") if rounded else str(value) for value in values if value is not None)
