"""Contestants in processes of their own, asked in turn: noise of the machine hits all alike, and only one works at a time."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

BENCHMARKS = Path(__file__).resolve().parent
PEERS = Path(os.environ.get("EQPOT_PEERS", BENCHMARKS.parent / ".peers")).absolute()
"""One virtual environment a peer, made by `make peers`."""


class WorkerError(RuntimeError):
    """A contestant that cannot take part; says why."""


@dataclass(frozen=True)
class Contestant:
    """What runs: a module of `workers/`, in the environment of a peer or in this one, with its job.

    drives_eqpot: a peer that is given one of eqpot's own potentials.
    """

    name: str
    worker: str
    peer: str | None = None
    job: dict[str, Any] = field(default_factory=dict)
    drives_eqpot: bool = False


class Worker:
    """The process of a contestant; `facts` is what it says of itself after its first step."""

    def __init__(self, contestant: Contestant, **job: Any) -> None:
        self.contestant = contestant
        self.name = contestant.name
        job = {"threads": 1, "dtype": "float32", **contestant.job, **job}
        python, compiled = Path(sys.executable), {}
        paths = [str(BENCHMARKS)]
        if contestant.peer:
            python = PEERS / contestant.peer / "bin" / "python"
            compiled = {"TORCHINDUCTOR_CACHE_DIR": str(PEERS / "compiled" / "inductor")}
            if not python.exists():
                raise WorkerError(f"{contestant.peer} is not installed; `make peers` installs it in {PEERS}")
        if contestant.peer is None or contestant.drives_eqpot:
            paths.append(str(BENCHMARKS.parent))
        threads = {f"{library}_NUM_THREADS": str(job["threads"]) for library in ("OMP", "MKL", "OPENBLAS")}
        environment = {**os.environ, **threads, **compiled, "PYTHONPATH": os.pathsep.join(paths), "EQPOT_PEERS": str(PEERS)}
        # The e3nn that MACE asks for reads its own constants with pickle.
        environment["TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD"] = "1"
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 (lives as long as the process)
        self._process = subprocess.Popen(
            [str(python), "-m", f"workers.{contestant.worker}", json.dumps(job)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            env=environment,
            text=True,
        )
        self.facts = self._answer()

    def seconds(self) -> float:
        """Let the contestant work for one turn, and return the time of a step."""
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer()["seconds"])

    def __enter__(self) -> "Worker":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.communicate()
        self._errors.close()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            # Packages print, too.
            if line.startswith("{"):
                answer: dict[str, Any] = json.loads(line)
                return answer
        self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines() or [f"it ended with status {self._process.returncode}"]
        self.__exit__()
        raise WorkerError(lines[-1])


def start(stack: ExitStack, contestants: Sequence[Contestant], **job: Any) -> list[Worker]:
    """Start one after the other; those that cannot take part are left out with a line on standard error."""
    workers = []
    for contestant in contestants:
        try:
            workers.append(stack.enter_context(Worker(contestant, **job)))
        except WorkerError as error:
            print(f"left out: {contestant.name} ({job.get('system')}): {error}", file=sys.stderr)
    return workers


def interleave(workers: Sequence[Worker], rounds: int) -> list[list[float]]:
    """Return the seconds of a step, [worker][round], after a round that does not count."""
    times: list[list[float]] = [[] for _ in workers]
    for index in range(rounds + 1):
        for worker, values in zip(workers, times, strict=True):
            seconds = worker.seconds()
            if index > 0:
                values.append(seconds)
    return times


def ratios(values: Sequence[float], references: Sequence[float]) -> list[float]:
    """Return the ratio in every round: what slows the machine for a while cancels."""
    return [value / reference for value, reference in zip(values, references, strict=True)]


def spread(values: Sequence[float], digits: int = 3) -> str:
    """Return the median and the quartiles as text, to a number of significant digits."""
    low, median, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{_round(median, digits)} ({_round(low, digits)} to {_round(high, digits)})"


def _round(value: float, digits: int) -> str:
    return f"{float(f'{value:.{digits}g}'):g}"
