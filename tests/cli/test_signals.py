"""Requests to stop."""

import os
import random
import signal
import time

import pytest
import yaml
from ase.build import bulk

from eqpot.cli.signals import exit_code, on_stop
from training_runs import contents, md, start, train, write_config


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request_and_handlers_come_back(number):
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    asked = []
    with on_stop(lambda: asked.append(True)) as received:
        os.kill(os.getpid(), number)
        assert asked == [True]
        assert signal.getsignal(number) == (signal.default_int_handler if number == signal.SIGINT else signal.SIG_DFL)
        assert exit_code(received) == 128 + number
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_handlers_come_back_after_an_error():
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(ValueError, match="x"), on_stop(lambda: None):
        raise ValueError("x")
    assert signal.getsignal(signal.SIGTERM) == before


def prepare_md(folder):
    folder.mkdir()
    bulk("Si").write(folder / "start.extxyz")
    dynamics = {"ensemble": "nvt", "steps": 100, "interval": 2, "seed": 0}
    config = {"potential": "silicon", "structures": "start.extxyz", "output": "run", "trajectory": ["extxyz", "traj"]}
    (folder / "config.yaml").write_text(yaml.safe_dump({**config, "restart_minutes": 1e-2, "dynamics": dynamics}))


def prepare_train(folder):
    write_config(folder, training={"checkpoint_minutes": 0.0})


def rows(table):
    return len(table.read_text().splitlines()) - 1 if table.exists() else 0


@pytest.mark.parametrize(
    ("command", "prepare", "table", "last"),
    [(md, prepare_md, "thermo.csv", 40), (train, prepare_train, "timings.csv", 20)],
    ids=["md", "train"],
)
def test_sigterm_at_any_moment_loses_nothing(tmp_path, command, prepare, table, last):
    for name in ("whole", "parts"):
        prepare(tmp_path / name)
    moments, codes = random.Random(0), []
    for row in sorted(moments.randrange(last) for _ in range(3)):
        process = start(command, tmp_path / "parts")
        while process.is_alive() and rows(tmp_path / "parts" / "run" / table) < row:
            time.sleep(0.001)
        time.sleep(moments.uniform(0.0, 0.02))
        process.terminate()
        process.join()
        codes.append(process.exitcode)
    # Before the command listens a signal ends the process at once; on a busy machine the run may be over before the last ones.
    assert set(codes) <= {128 + signal.SIGTERM, -signal.SIGTERM, 0}
    assert 128 + signal.SIGTERM in codes
    for name in ("parts", "whole"):
        process = start(command, tmp_path / name)
        process.join()
        assert process.exitcode == 0, (tmp_path / name / "output").read_text()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")
    assert not list((tmp_path / "parts").glob(".*"))
