"""A33 and A34: kill -9 at any moment, and every file is in the end, to the bit, what it is without."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from helpers import ROOT

POTENTIAL = ROOT / "potentials" / "silicon" / "potential.safetensors"
STEPS = 60
KILLS = {
    "velocity_verlet": 3,
    "langevin": 3,
    "velocity_rescaling": 3,
    "nose_hoover": 3,
    "cell_rescaling": 4,
    "martyna_tobias_klein": 4,
}
"""20 in all."""

SCRIPT = f"""
import sys
from pathlib import Path
import torch
from ase.build import bulk
from eqpot import load_potential
from eqpot.md import Settings, Simulation, resume_run, start_run
from eqpot.md.settings import METHODS

torch.set_num_threads(1)
folder, method, minutes = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
potential = load_potential({str(POTENTIAL)!r})
print("loaded", flush=True)
if folder.exists():
    run = resume_run(folder, potential)
else:
    (ensemble,) = [name for name, methods in METHODS.items() if method in methods]
    schedule = [{{"time": 0, "temperature": 600.0}}, {{"time": 0.05, "temperature": 900.0}}]
    settings = Settings(
        ensemble=ensemble, method=method, timestep=1.0, schedule=schedule, cell="full", steps={STEPS}, interval=3, seed=1
    )
    simulation = Simulation([bulk("Si", cubic=True)] * 2, potential, settings)
    run = start_run(simulation, folder, ("extxyz", "traj", "h5md"), restart_minutes=minutes)
print("ready", flush=True)
run.run(callbacks=[(1, lambda simulation: print(simulation.state.step, flush=True))])
"""


class Process:
    """A process that starts a run, or goes on with it; it says when it has loaded the potential, when it begins to run, and each step."""

    def __init__(self, folder: Path, method: str, minutes: float) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", SCRIPT, str(folder), method, str(minutes)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def wait_for(self, moment: str) -> float:
        """Return when it says that, or, of steps, that one or a later one."""
        for line in self.process.stdout:
            word = line.strip()
            if word == moment or (word.isdigit() and moment.isdigit() and int(word) >= int(moment)):
                return time.perf_counter()
        raise AssertionError(f"The process ended before {moment!r}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        assert self.finish() == -signal.SIGKILL

    def finish(self) -> int:
        self.process.communicate()
        return self.process.returncode


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def compare(tmp_path: Path, method: str, kills: int, minutes: float, chance: random.Random) -> None:
    """Kill a run so many times, at its start or anywhere between, and compare its files with those of one that is left alone."""
    whole = Process(tmp_path / "whole", method, minutes)
    loaded, ready = whole.wait_for("loaded"), whole.wait_for("ready")
    step = (whole.wait_for(str(STEPS)) - ready) / STEPS
    assert whole.finish() == 0
    for kill in range(kills):
        process = Process(tmp_path / "parts", method, minutes)
        if chance.random() < 0.3:
            process.wait_for("loaded")
            time.sleep(chance.uniform(0.0, ready - loaded))
        else:
            # Each later than the one before, so that all find the run on its way; a step and what is written after it last as long.
            process.wait_for(str(chance.randrange(STEPS * kill // kills, STEPS * (kill + 1) // kills - 3)))
            time.sleep(chance.uniform(0.0, step))
        process.kill()
    assert Process(tmp_path / "parts", method, minutes).finish() == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_kills_lose_and_double_nothing(tmp_path):
    compare(tmp_path, "cell_rescaling", 2, 1e-3, random.Random(0))


@pytest.mark.slow
@pytest.mark.parametrize("method", KILLS)
def test_20_kills_over_all_ensembles(tmp_path, method):
    index = list(KILLS).index(method)
    # Every other run writes a restart file after each step, so that most of its time is spent on files.
    compare(tmp_path, method, KILLS[method], (0.0, 5e-4)[index % 2], random.Random(index))
