"""What `eqpot train` shows: a live table of validations on a terminal, a line for each of them elsewhere."""

import contextlib
import logging
import time
from collections import deque
from datetime import timedelta
from typing import Any, Self

from rich import box
from rich.console import Group, RenderableType
from rich.live import Live
from rich.logging import RichHandler
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from eqpot.cli.console import console, errors
from eqpot.training import Trainer

_ROWS = 8
_REFRESHES = 2
"""A second: the training shares its processor with them."""

_ERRORS = {
    "energy_mae_mev_per_atom": ("energy", "meV/atom"),
    "force_mae_mev_per_ang": ("forces", "meV/Å"),
    "stress_mae_mev_per_ang3": ("stress", "meV/Å³"),
}


class TrainingView(contextlib.ExitStack):
    """Shows a run while it is entered: what `report` is told, and the trainer's progress in between."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.trainer = trainer
        self.recent: deque[dict[str, Any]] = deque(maxlen=_ROWS)
        self.best: dict[str, Any] | None = None
        self.first_step = trainer.step
        # (seconds, step, progress) of the last half minute, which the speed is taken from.
        self.marks: deque[tuple[float, int, float]] = deque(maxlen=30 * _REFRESHES)
        self.is_live = console.is_terminal and not console.is_dumb_terminal and trainer.processes.is_first

    def __enter__(self) -> Self:
        if self.is_live:
            self.enter_context(Live(get_renderable=self._render, console=console, refresh_per_second=_REFRESHES))
            for handler in logging.getLogger().handlers:
                # Messages that do not pass through the table's console would be written into it.
                if isinstance(handler, RichHandler) and errors.is_terminal:
                    handler.console = console
        return self

    def report(self, report: dict[str, Any]) -> None:
        """Show an epoch if it ended with a validation."""
        if report["is_best"] is None:
            return
        self.recent.append(report)
        if report["is_best"]:
            self.best = report
        if not self.is_live:
            console.print(_line(report), soft_wrap=True)

    def _render(self) -> RenderableType:
        if not self.recent:
            return self._bar()
        return Group("", _table(self.recent, self.best), "", self._bar())

    def _bar(self) -> RenderableType:
        trainer, step = self.trainer, self.trainer.step
        texts = [f"{100 * trainer.progress:.0f} %", f"step {step:,}"]
        if step > self.first_step:
            self.marks.append((time.monotonic(), step, trainer.progress))
            seconds, steps, progress = (last - first for last, first in zip(self.marks[-1], self.marks[0], strict=True))
            if steps > 0 and progress > 0:
                texts += [f"{steps / seconds:.1f} steps/s", f"{_clock((1 - trainer.progress) * seconds / progress)} left"]
        else:
            texts.append("preparing the first step")
        if trainer.progress >= 1:
            texts = [*texts[:3], f"{_clock(trainer.seconds)} in all"]
        grid = Table.grid(padding=(0, 2))
        grid.add_row(ProgressBar(total=1.0, completed=trainer.progress, width=24), *texts)
        return grid


def _table(recent: deque[dict[str, Any]], best: dict[str, Any] | None) -> Table:
    """Return the recent validations, below the best if that was longer ago."""
    rows = list(recent) if best is None or best in recent else [best, *list(recent)[1:]]
    shown = [key for key in _ERRORS if key in rows[-1]]
    stages = ["stage"] if rows[-1]["stage"] == 2 else []
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for heading in ("epoch", "step", "rate", "loss", *("\n".join(_ERRORS[key]) for key in shown), *stages, ""):
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        cells = [f"{row['epoch']:,}", f"{row['step']:,}", f"{row['learning_rate']:.1e}", f"{row['loss']:.2e}"]
        cells += [*(f"{row[key]:.3f}" for key in shown), *(str(row[name]) for name in stages)]
        table.add_row(*cells, "best" if row is best else "", style="bold green" if row is best else "")
    return table


def _line(row: dict[str, Any]) -> Text:
    parts = [f"epoch {row['epoch']:5d}", f"step {row['step']:7d}", f"rate {row['learning_rate']:.1e}", f"loss {row['loss']:.2e}"]
    parts += [f"{name} {row[key]:8.3f} {unit}" for key, (name, unit) in _ERRORS.items() if key in row]
    parts += [text for text, holds in (("stage 2", row["stage"] == 2), ("best", row["is_best"])) if holds]
    return Text("  ".join(parts))


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
