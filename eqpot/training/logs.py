"""The tables of a run folder: metrics.csv, the same to the bit in every run, and timings.csv, which no two runs share."""

import csv
import os
from pathlib import Path
from typing import Any

from eqpot.files import write_atomically


def append_row(path: Path, row: dict[str, Any]) -> int:
    """Append a row, with a heading if the table is new, bring it to the disk, and return the table's length in bytes."""
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(row), lineterminator="\n")
        if file.tell() == 0:
            writer.writeheader()
        writer.writerow(row)
        file.flush()
        os.fsync(file.fileno())
        return file.tell()


def cut(path: Path, length: int) -> None:
    """Drop what was written after the checkpoint, whole rows or half of one: the resumed run writes it again."""
    if path.exists() and path.stat().st_size > length:
        os.truncate(path, length)


def resume_timings(path: Path, step: int) -> float:
    """Drop the timings after a step, and a torn last line, and return the seconds of the latest that is left."""
    if not path.exists():
        return 0.0
    heading, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= step]
    write_atomically(path, "".join([heading, *kept]).encode())
    return float(kept[-1].split(",")[1]) if kept else 0.0
