"""What `eqpot train` shows on a terminal."""

import io
import types

import pytest
from rich.console import Console

from eqpot.cli import training_view


class Trainer:
    """As much of a trainer as is shown."""

    processes = types.SimpleNamespace(is_first=True)
    step, progress, seconds = 0, 0.0, 90.0


def validation(epoch, is_best, stage=1, **more):
    status = {"epoch": epoch, "step": 1000 * epoch, "learning_rate": 1e-3, "loss": 0.5, "is_best": is_best, "stage": stage}
    return {**status, "energy_mae_mev_per_atom": 0.25, "force_mae_mev_per_ang": 10.0 + epoch, **more}


@pytest.fixture
def show(monkeypatch):
    """A function that shows reports on a terminal of 80 columns, and returns the view and what it looks like then."""
    monkeypatch.setattr(training_view, "console", Console(file=io.StringIO(), force_terminal=True, width=80, _environ={}))

    def show(trainer, reports):
        with training_view.TrainingView(trainer) as view:
            assert view.is_live
            for report in reports:
                view.report(report)
        console = Console(file=io.StringIO(), width=80)
        console.print(view._render())
        return view, console.file.getvalue()

    return show


def test_the_table_shows_recent_validations_below_the_best(show):
    reports = [validation(epoch, is_best=epoch <= 2) for epoch in range(1, 21)]
    reports.insert(5, validation(99, is_best=None))
    _, text = show(Trainer(), reports)
    rows = [line.split() for line in text.splitlines() if "1.0e-03" in line]
    assert [row[0] for row in rows] == ["2", *map(str, range(14, 21))]
    assert [row[-1] == "best" for row in rows] == [True, *7 * [False]]
    assert rows[0] == ["2", "2,000", "1.0e-03", "5.00e-01", "0.250", "12.000", "best"]
    assert "stress" not in text


def test_everything_fits_into_80_columns(show):
    longest = validation(
        99_999, True, stage=2, energy_mae_mev_per_atom=1234.567, force_mae_mev_per_ang=1234.567, stress_mae_mev_per_ang3=12.345
    )
    trainer = Trainer()
    trainer.progress = 0.5
    _, text = show(trainer, [longest])
    assert "…" not in text
    assert "99,999  99,999,000  1.0e-03  5.00e-01  1234.567  1234.567  12.345      2  best" in text
    assert "50 %" in text


def test_the_bar_tells_speed_and_time_left(show, monkeypatch):
    trainer = Trainer()
    view, text = show(trainer, [])
    assert "preparing the first step" in text
    times = iter([10.0, 20.0])
    monkeypatch.setattr(training_view.time, "monotonic", lambda: next(times))
    lines = []
    for step, progress in ((1000, 0.2), (1300, 0.4)):
        trainer.step, trainer.progress = step, progress
        console = Console(file=io.StringIO(), width=80)
        console.print(view._bar())
        lines.append(console.file.getvalue())
    # 300 steps and a fifth of the run in ten seconds; three fifths are left.
    assert "40 %  step 1,300  30.0 steps/s  0:00:30 left" in lines[1]
    assert "left" not in lines[0]


def test_elsewhere_every_validation_is_a_line_that_nothing_breaks(monkeypatch):
    console = Console(file=io.StringIO(), width=80)
    monkeypatch.setattr(training_view, "console", console)
    with training_view.TrainingView(Trainer()) as view:
        for report in (validation(5, is_best=True), validation(6, is_best=None), validation(7, is_best=False, stage=2)):
            view.report(report)
    first, second = console.file.getvalue().splitlines()
    assert first == "epoch     5  step    5000  rate 1.0e-03  loss 5.00e-01  energy    0.250 meV/atom  forces   15.000 meV/Å  best"
    assert second.endswith("forces   17.000 meV/Å  stage 2")
