"""The files that properties are written to."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np


def write_columns(path: Path, columns: Mapping[str, np.ndarray]) -> None:
    """Write columns [n_rows] as CSV, with the digits that float64 needs."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))


def write_summary(path: Path, summary: Mapping[str, Any]) -> None:
    """Write numbers as JSON."""
    path.write_text(json.dumps(summary, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
