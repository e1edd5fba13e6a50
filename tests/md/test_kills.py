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
import os
import signal
import sys
from pathlib import Path
import torch
from ase.build import bulk
from eqpot import load_potential
from eqpot.md import Settings, Simulation, resume_run, start_run
from eqpot.md.settings import METHODS

torch.set_num_threads(1)
folder, method, minutes = Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])
from_step, calls_left = int(sys.argv[4]), int(sys.argv[5])
is_armed = from_step == 0


def dying(function):
    def call(handle, *arguments):
        global calls_left
        calls_left -= is_armed
        if is_armed and calls_left == 0:
            if arguments:
                content, place = arguments
                function(handle, content[: len(content) // 2], place)
            os.kill(os.getpid(), signal.SIGKILL)
        return function(handle, *arguments)

    return call


def after_step(simulation):
    global is_armed
    is_armed = is_armed or 0 < from_step <= simulation.state.step
    print(simulation.state.step, flush=True)


os.pwrite, os.fsync = dying(os.pwrite), dying(os.fsync)
potential = load_potential({str(POTENTIAL)!r})
print("loaded", flush=True)
if folder.exists():
    run = resume_run(folder, potential)
else:
    (ensemble,) = [name for name, methods in METHODS.items() if method in methods]
    schedule = [{{"time": 0, "temperature": 600.0}}, {{"time": 0.05, "temperature": 900.0}}]
    cell = {{"cell": "full"}} if ensemble == "npt" else {{}}
    settings = Settings(ensemble=ensemble, method=method, timestep=1.0, schedule=schedule, steps={STEPS}, interval=3, seed=1, **cell)
    simulation = Simulation([bulk("Si", cubic=True)] * 2, potential, settings)
    run = start_run(simulation, folder, ("extxyz", "traj", "h5md"), restart_minutes=minutes)
print("ready", flush=True)
run.run(callbacks=[(1, after_step)])
"""


class Process:
    """A process that starts a run, or goes on with it; it says when it has loaded the potential, when it begins to run, and each step.

    dies: a step and a number n: it kills itself in the nth write from that step on, half of which is done, or flush. (-1, 0): it does not.
    """

    def __init__(self, folder: Path, method: str, minutes: float, dies: tuple[int, int] = (-1, 0)) -> None:
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, "-c", SCRIPT, str(folder), method, str(minutes), *map(str, dies)]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)

    def wait_for(self, moment: str) -> float:
        """Return when it says that, or, of steps, that one or a later one."""
        for line in self.process.stdout:
            word = line.strip()
            if word == moment or (word.isdigit() and moment.isdigit() and int(word) >= int(moment)):
                return time.perf_counter()
        raise AssertionError(f"The process ended before {moment!r}")

    def end(self) -> int:
        """Return the exit status; minus the signal that killed it."""
        self.process.communicate()
        return self.process.returncode


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def compare(tmp_path: Path, method: str, n_kills: int, minutes: float, chance: random.Random) -> None:
    """Kill a run so many times and compare its files with those of one that is left alone.

    It is killed from outside while it starts or anywhere in a step and what is written after it, or by itself in a write.
    """
    whole = Process(tmp_path / "whole", method, minutes)
    loaded, ready = whole.wait_for("loaded"), whole.wait_for("ready")
    step = (whole.wait_for(str(STEPS)) - ready) / STEPS
    assert whole.end() == 0
    for kill in range(n_kills):
        # Each later than the one before, so that all find the run on its way.
        reached = chance.randrange(STEPS * kill // n_kills, STEPS * (kill + 1) // n_kills - 6)
        moment = chance.choice(("start", "step", "write"))
        if moment == "write":
            process = Process(tmp_path / "parts", method, minutes, (reached, chance.randint(1, 14)))
        else:
            process = Process(tmp_path / "parts", method, minutes)
            process.wait_for("loaded" if moment == "start" else str(max(reached, 1)))
            time.sleep(chance.uniform(0.0, ready - loaded if moment == "start" else step))
            process.process.send_signal(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL
    assert Process(tmp_path / "parts", method, minutes).end() == 0
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_kills_lose_and_double_nothing(tmp_path):
    compare(tmp_path, "cell_rescaling", 2, 1e-3, random.Random(0))


@pytest.mark.slow
@pytest.mark.parametrize("method", KILLS)
def test_20_kills_over_all_ensembles(tmp_path, method):
    index = list(KILLS).index(method)
    # Every other run writes a restart file after each step, so that most of its time is spent on files.
    compare(tmp_path, method, KILLS[method], (0.0, 5e-4)[index % 2], random.Random(index))
