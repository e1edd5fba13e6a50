"""The tables of a run folder: metrics.csv, the same to the bit in every run, and timings.csv and TensorBoard's events, which are not."""

import csv
import importlib.util
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eqpot.errors import ConfigError, short
from eqpot.files import write_atomically

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


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
    """Drop the timings after a step, and a torn last line, and return the seconds of the latest that is left.

    Raises ConfigError for a table that is none.
    """
    if not path.exists():
        return 0.0
    try:
        heading, *lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        kept = [line for line in lines if line.endswith("\n") and int(line.split(",")[0]) <= step]
        seconds = float(kept[-1].split(",")[1]) if kept else 0.0
    except (ValueError, IndexError) as error:
        raise ConfigError(f"The file {path} is no table of steps and seconds ({short(error)}); bring it back, or remove it.") from error
    write_atomically(path, "".join([heading, *kept]).encode())
    return seconds


def check_tensorboard() -> None:
    """Raise ConfigError if TensorBoard is not installed."""
    if importlib.util.find_spec("tensorboard") is None:
        raise ConfigError("training.tensorboard needs TensorBoard; run `pip install 'eqpot[tensorboard]'` or leave the key out.")


def open_events(folder: Path, step: int) -> "SummaryWriter":
    """Return a writer of TensorBoard's events from after a step on; what the folder has of later steps is void."""
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def write_events(writer: "SummaryWriter", row: dict[str, Any]) -> None:
    """Write a row of metrics.csv as curves over steps, and bring it to the disk."""
    for name, value in row.items():
        if name != "step":
            writer.add_scalar(name, value, row["step"])
    writer.flush()
