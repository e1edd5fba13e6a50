"""What the contestants share: a process that sets up one model for one system, then times it whenever it is asked to.

Standard input asks, a line a time; standard output answers in JSON: first what was set up, then the
seconds of a step.
"""

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from ase import Atoms
from ase.calculators.calculator import Calculator

Step = Callable[[], object]

SHORTEST_TURN = 0.2
"""Seconds; quick steps are repeated for that long, so that a turn is not spent on filling the caches."""

MOVE = 0.005
"""Å; atoms move by about as much in a step of molecular dynamics."""


def job_of_process() -> dict[str, Any]:
    """Return the job that the process was started with."""
    job: dict[str, Any] = json.loads(sys.argv[1])
    return job


class Server:
    """A job, and the answers to it; sets threads, seed and the memory limit."""

    def __init__(self) -> None:
        self.job = job_of_process()
        warnings.simplefilter("ignore")
        if sys.platform == "linux":
            # A system too large for the machine has to fail, not to take other processes with it.
            limit = int(0.9 * os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        torch.set_num_threads(self.job["threads"])
        torch.manual_seed(0)
        self._memory = peak_memory()

    def run(self, step: Step, **facts: Any) -> None:
        """Answer with the facts and with what the first step takes, then with the time of a step whenever a line comes in."""
        started = time.perf_counter()
        step()
        _answer({**facts, "seconds": time.perf_counter() - started, "memory": peak_memory(), "memory_before": self._memory})
        for _ in sys.stdin:
            _answer({"seconds": seconds_of(step, time.process_time if self.job.get("cpu_time") else time.perf_counter)})


def _answer(answer: dict[str, Any]) -> None:
    # On a line of its own, whatever a package printed before.
    print(f"\n{json.dumps(answer)}", flush=True)


def seconds_of(step: Step, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the mean time of the steps of one turn."""
    count, started, elapsed = 0, clock(), 0.0
    while elapsed < SHORTEST_TURN:
        step()
        count += 1
        elapsed = clock() - started
    return elapsed / count


def peak_memory() -> int:
    """Return the largest resident memory so far, bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def single_points(atoms: Atoms, calculator: Calculator) -> Step:
    """Return the step that moves the atoms and asks for energy, forces and, in bulk, stress."""
    atoms.calc = calculator
    start, random = atoms.positions.copy(), np.random.default_rng(0)
    # Forces first, as dynamics asks: a calculator that is asked for the energy alone may leave the forces out.
    names = ("forces", "energy", "stress") if atoms.pbc.any() else ("forces", "energy")

    def step() -> None:
        atoms.positions = start + random.normal(scale=MOVE, size=start.shape)
        for name in names:
            if not np.isfinite(calculator.get_property(name, atoms)).all():
                raise ArithmeticError(f"The {name} is not finite")

    return step


def labelled_frames(atoms: Atoms, count: int = 50) -> list[tuple[Atoms, float, np.ndarray]]:
    """Return copies of the structure, moved, with random energies (eV) and forces (eV/Å): the cost does not depend on them."""
    random = np.random.default_rng(0)
    frames = []
    for _ in range(count):
        moved = atoms.copy()
        moved.positions += random.normal(scale=0.05, size=moved.positions.shape)
        frames.append((moved, float(random.normal()), random.normal(size=moved.positions.shape)))
    return frames


def endless_batches(count: int, size: int) -> Iterator[list[int]]:
    """Yield the members of one training batch after the other."""
    random = np.random.default_rng(0)
    while True:
        yield random.permutation(count)[:size].tolist()
