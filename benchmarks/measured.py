"""Tables that are measured: printed row by row, and kept as a JSON line a row, of which `pages.py` makes the tables of the pages."""

import argparse
import json
import statistics
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from eqpot.files import write_atomically
from eqpot.passport import processor

MEASURED = Path(__file__).parents[1] / "docs" / "measured.jsonl"

Value = str | int | float | Mapping[str, float] | None
"""A cell: text, a number, the quartiles of several turns, or a value with its standard error."""


class Table:
    """A table that grows by rows.

    Every row says what it is of, which tells it from the others, and what was measured. With `keep` it takes the place of the row of the
    same table and the same things in docs/measured.jsonl, with the conditions, the machine and the date.
    """

    def __init__(self, name: str, keep: bool = False, **conditions: str | float) -> None:
        self.name, self.keep, self.conditions = name, keep, conditions
        self._columns: list[str] = []
        self._seen: list[Mapping[str, str | int | float]] = []

    def add(self, of: Mapping[str, str | int | float], values: Mapping[str, Value]) -> None:
        """Print a row, and keep it if that is wanted; ValueError for a second row of the same things, which would take its place."""
        if of in self._seen:
            raise ValueError(f"The table {self.name} has a row of {of} already; say in what this one differs.")
        self._seen.append(of)
        row = {**of, **values}
        if not self._columns:
            self._columns = list(row)
            print(f"\n{_head(self._columns)}")
        print(_line(row, self._columns), flush=True)
        if self.keep:
            facts = {"machine": processor(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
            entry = {"table": self.name, "of": of, "values": values, "conditions": self.conditions, **facts}
            # Other processes may have written meanwhile.
            entries = read()
            place = next((index for index, other in enumerate(entries) if (other["table"], other["of"]) == (self.name, of)), len(entries))
            entries[place : place + 1] = [entry]
            write_atomically(MEASURED, "".join(f"{json.dumps(one, ensure_ascii=False)}\n" for one in entries).encode())


def read() -> list[dict[str, Any]]:
    """Return the rows that are kept."""
    return [json.loads(line) for line in MEASURED.read_text(encoding="utf-8").splitlines()] if MEASURED.exists() else []


def markdown(name: str) -> str:
    """Return a table that is kept, and below it on what and when it was measured; rows that differ in that are named."""
    entries = [entry for entry in read() if entry["table"] == name]
    if not entries:
        raise KeyError(f"{MEASURED.name} has no table {name}")
    rows = [{**entry["of"], **entry["values"]} for entry in entries]
    columns = list(dict.fromkeys(column for row in rows for column in row))
    circumstances: dict[str, list[list[str]]] = {}
    for entry in entries:
        circumstances.setdefault(_circumstances(entry), []).append([cell for cell in map(_cell, entry["of"].values()) if cell])
    notes = [note if len(circumstances) == 1 else f"{'; '.join(_names(of, circumstances))}: {note}" for note, of in circumstances.items()]
    return "\n".join([_head(columns), *(_line(row, columns) for row in rows), "", f"({'. '.join(notes)}.)"])


def _names(rows: Sequence[Sequence[str]], all_rows: Mapping[str, Sequence[Sequence[str]]]) -> list[str]:
    """Return the names of rows, by the first word alone where all rows that begin with it are among them."""
    others = {row[0] for group in all_rows.values() if group is not rows for row in group}
    return list(dict.fromkeys(", ".join(row) if row[0] in others else row[0] for row in rows))


def several(text: str) -> int:
    """Return the number of rounds that a person asked for; one turn has no spread, which would be noticed after the measurement only."""
    if not text.isdecimal() or int(text) < 2:
        raise argparse.ArgumentTypeError(f"{text} is not a number of rounds from 2 on")
    return int(text)


def quartiles(values: Sequence[float]) -> dict[str, float]:
    """Return the median of several turns with the quartiles."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return {"median": _round(median, 6), "low": _round(low, 6), "high": _round(high, 6)}


def with_error(value: float, error: float) -> dict[str, float]:
    """Return a value with its standard error."""
    return {"value": _round(value, 6), "error": _round(error, 6)}


def _head(columns: Sequence[str]) -> str:
    return f"| {' | '.join(columns)} |\n|{' --- |' * len(columns)}"


def _line(row: Mapping[str, Value], columns: Sequence[str]) -> str:
    return f"| {' | '.join(_cell(row.get(column)) for column in columns)} |"


def _cell(value: Value) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        if "error" in value:
            return f"{value['value']:.1e} ± {value['error']:.0e}"
        median, low, high = (f"{_round(value[name], 3):g}" for name in ("median", "low", "high"))
        return f"{median} ({low} to {high})"
    if isinstance(value, float):
        return f"{_round(value, 3):g}"
    return f"{value:,}" if isinstance(value, int) else value


def _circumstances(entry: Mapping[str, Any]) -> str:
    conditions = [f"{name.replace('_', ' ')} {value}" for name, value in entry["conditions"].items()]
    return ", ".join([*conditions, entry["machine"], f"torch {entry['torch'].split('+')[0]}", entry["date"]])


def _round(value: float, digits: int) -> float:
    return float(f"{value:.{digits}g}")
