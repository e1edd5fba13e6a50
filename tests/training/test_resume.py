"""Kills and resumes; A22."""

import itertools
import os
import random
import signal
import time

import pytest

from eqpot.config_file import load_config
from eqpot.training import TrainConfig, Trainer
from eqpot.training import trainer as trainer_module
from training_runs import contents, start, train, write_config

EVERY_STEP = {"checkpoint_minutes": 0.0}


N_STEPS = 24


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The files of an uninterrupted run."""
    folder = tmp_path_factory.mktemp("whole")
    write_config(folder, training=EVERY_STEP)
    process = start(train, folder)
    process.join()
    assert process.exitcode == 0, (folder / "output").read_text()
    assert steps_done(folder) == N_STEPS
    return contents(folder)


def steps_done(folder):
    table = folder / "run" / "timings.csv"
    lines = table.read_text().splitlines()[1:] if table.exists() else []
    return int(lines[-1].split(",")[0]) if lines else -1


def kill_and_resume(folder, n_kills, seed, **training):
    """Kill a run at random moments of starting, training and writing, go on each time, and return the files at the end."""
    write_config(folder, training={**EVERY_STEP, **training})
    moments = random.Random(seed)
    kills = 0
    for step in sorted(moments.randrange(-1, N_STEPS - 2) for _ in range(n_kills)):
        process = start(train, folder)
        while process.is_alive() and steps_done(folder) < step:
            time.sleep(0.001)
        time.sleep(moments.uniform(0.0, 0.1))
        kills += process.is_alive()
        process.kill()
        process.join()
    # On a busy machine the run may be over before the last ones.
    assert kills > n_kills / 2
    process = start(train, folder)
    process.join()
    assert process.exitcode == 0, (folder / "output").read_text()
    return contents(folder)


def test_a22_three_kills_at_random_moments_change_no_bit(tmp_path, whole):
    assert kill_and_resume(tmp_path, 3, 0) == whole


def test_a22_kills_change_no_bit_of_plateaus_stages_and_batches_by_edges(tmp_path):
    training = {"schedule": "plateau", "plateau_patience": 1, "validate_every": 1, "learning_rate": 0.2, "batch_edges": 350}
    training |= {"stage_two": {"start": 0.5, "energy_weight": 100.0}, "epochs": 8}
    write_config(tmp_path / "whole", training={**EVERY_STEP, **training})
    process = start(train, tmp_path / "whole")
    process.join()
    assert kill_and_resume(tmp_path / "killed", 3, 2, **training) == contents(tmp_path / "whole")


class Stop(Exception):
    pass


@pytest.mark.parametrize("function", ["save_potential", "append_row", "write_checkpoint"])
@pytest.mark.parametrize("call", ["before", "after"])
def test_a22_a_stop_between_any_two_writes_changes_no_bit(tmp_path, monkeypatch, whole, function, call):
    """The tenth row and the tenth checkpoint are those of the first validation, in which the potential is written too."""
    config = load_config(TrainConfig, write_config(tmp_path, training=EVERY_STEP))
    write, count = getattr(trainer_module, function), itertools.count(1)

    def stopping(*arguments):
        stops = next(count) == (2 if function == "save_potential" else 10)
        if stops and call == "before":
            raise Stop
        result = write(*arguments)
        if stops:
            raise Stop
        return result

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trainer_module, function, stopping)
    with pytest.raises(Stop):
        Trainer(config).run()
    assert Trainer(config, resume=True).run()
    assert contents(tmp_path) == whole


@pytest.mark.slow
def test_a22_twenty_kills_at_random_moments_change_no_bit(tmp_path, whole):
    assert kill_and_resume(tmp_path / "one run", 20, 1) == whole
    for seed in range(20):
        assert kill_and_resume(tmp_path / str(seed), 1, seed) == whole


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a22_a_run_that_is_told_to_stop_says_how_to_go_on(tmp_path, whole, number):
    write_config(tmp_path, training=EVERY_STEP)
    process = start(train, tmp_path)
    while not (tmp_path / "run" / "metrics.csv").exists() and process.is_alive():
        time.sleep(0.002)
    os.kill(process.pid, number)
    process.join()
    assert process.exitcode == 128 + number
    assert "--resume goes on from there" in " ".join((tmp_path / "output").read_text().split())
    assert contents(tmp_path) != whole
    process = start(train, tmp_path)
    process.join()
    assert contents(tmp_path) == whole
