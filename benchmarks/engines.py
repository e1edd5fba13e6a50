"""What a step costs in other engines, and how it scales over MPI ranks.

python benchmarks/engines.py            512 silicon atoms, float32, one thread: LAMMPS and exports beside the calculator's kernel
python benchmarks/engines.py --ranks    LAMMPS on 1 and 2 ranks: the same crystal, and one twice as large
python benchmarks/engines.py --large    100,000 atoms, 20 steps on 2 ranks: time, and memory of a rank
python benchmarks/engines.py --project  on paper: what ranks of a cluster send a step, beside the time they compute

Contestants take turns; what is printed are medians over the rounds, with the quartiles.
"""

import argparse
import math
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from ase.build import bulk

from contest import ratios
from eqpot import load_potential
from eqpot.compress import compress
from eqpot.engines import lammps
from eqpot.export.aoti import export_aoti
from eqpot.export.library import export_library
from eqpot.export.torchscript import export_torchscript
from eqpot.graph import edge_vectors
from eqpot.neighbors import build_graph
from measured import Table, quartiles, several

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "potentials" / "silicon" / "potential.safetensors"
DECK = ROOT / "md" / "engines" / "lammps" / "silicon_nvt_large.in"
BIN = Path(sys.executable).parent
Measure = Callable[[], float]


def run_lammps(library: Path, ranks: int, repeat: tuple[int, int, int], steps: int) -> str:
    """Return what LAMMPS prints for silicon of so many cubic cells."""
    values = dict(zip("xyz", repeat, strict=True)) | {"model": library, "steps": steps}
    variables = [word for name, value in values.items() for word in ("-var", name, str(value))]
    command = [BIN / "mpirun", "-n", str(ranks), BIN / "lmp", "-log", "none", "-in", DECK, *variables]
    return subprocess.run(command, check=True, capture_output=True, text=True, env={**os.environ, "OMP_NUM_THREADS": "1"}).stdout


def seconds_a_step(library: Path, ranks: int, repeat: tuple[int, int, int], steps: int) -> float:
    found = re.search(r"Loop time of ([0-9.e+-]+) on", run_lammps(library, ranks, repeat, steps))
    assert found
    return float(found[1]) / steps


def timed(call: Callable[[], object], times: int) -> float:
    # TorchScript looks at two calls before it compiles.
    for _ in range(3):
        call()
    started = time.perf_counter()
    for _ in range(times):
        call()
    return (time.perf_counter() - started) / times


def compare(table: Table, rounds: int, first: str, contestants: dict[str, Measure]) -> None:
    """Add rows with the ratios to the contestant `first`."""
    seen: dict[str, list[float]] = {name: [] for name in contestants}
    for _ in range(rounds):
        for name, measure in contestants.items():
            seen[name].append(measure())
    for name, values in seen.items():
        cells = {"ms": quartiles([1000 * value for value in values]), f"times {first}": quartiles(ratios(values, seen[first]))}
        table.add({"what": name}, cells)


def engines(folder: Path, rounds: int, keep: bool) -> None:
    torch.set_num_threads(1)
    potential = load_potential(MODEL, dtype="float32")
    crystal = bulk("Si", a=5.469, cubic=True) * (4, 4, 4)
    graph = build_graph(crystal, potential.cutoff)
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
    tables = folder / "tables.safetensors"
    compress(MODEL, tables, [graph])
    export_library(tables, folder / "tables.so", "float32")
    contestants: dict[str, Measure] = {
        "LAMMPS": lambda: seconds_a_step(folder / "silicon.so", 1, (4, 4, 4), 20),
        "LAMMPS, compressed": lambda: seconds_a_step(folder / "tables.so", 1, (4, 4, 4), 20),
        "the calculator's kernel alone": lambda: timed(lambda: potential.evaluate(graph), 10),
    }
    for name, given in (("", potential), (", compressed", load_potential(tables, dtype="float32"))):
        export_torchscript(given, folder / "silicon.pt")
        export_aoti(given, folder / f"silicon{name}.pt2")
        scripted = torch.jit.load(folder / "silicon.pt")
        package = torch._inductor.aoti_load_package(str(folder / f"silicon{name}.pt2"))
        contestants |= {
            f"TorchScript, pairs given{name}": partial(timed, partial(scripted.edges, *graph.tensors()), 2),
            f"AOTInductor, vectors given{name}": partial(timed, partial(package, vectors, graph.numbers, graph.edge_index), 2),
        }
    compare(Table("engines", keep, rounds=rounds), rounds, "LAMMPS", contestants)


def ranks(folder: Path, rounds: int, keep: bool) -> None:
    library = folder / "silicon.so"
    compare(
        Table("ranks", keep, rounds=rounds),
        rounds,
        "1 rank, 4,096 atoms",
        {
            "1 rank, 4,096 atoms": lambda: seconds_a_step(library, 1, (8, 8, 8), 5),
            "2 ranks, 4,096 atoms": lambda: seconds_a_step(library, 2, (8, 8, 8), 5),
            "2 ranks, 8,192 atoms": lambda: seconds_a_step(library, 2, (8, 8, 16), 5),
        },
    )


def large(folder: Path, keep: bool) -> None:
    ranks, repeat, steps = 2, (25, 25, 20), 20
    seconds = steps * seconds_a_step(folder / "silicon.so", ranks, repeat, steps)
    # Of the processes that have ended, the largest was a rank; Linux counts in kB.
    gigabytes = 1.024e-6 * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    Table("large", keep).add(
        {"atoms": 8 * math.prod(repeat), "ranks": ranks, "steps of NVT": steps}, {"s": seconds, "GB a rank": gigabytes}
    )


def project(folder: Path, keep: bool, gigabytes_a_second: float = 1.0) -> None:
    """Print what a rank with a cube of silicon receives and sends a step, and how long that takes beside its measured computing.

    Features of ghosts once for every block after the first and their gradients back, positions and forces in float64.
    """
    config = load_potential(MODEL).network.config
    features = 4 * (config.feature_degree + 1) ** 2 * config.n_channels * (config.n_blocks - 1)
    an_atom = seconds_a_step(folder / "silicon.so", 1, (8, 8, 8), 5) / 4096
    density, shell = 8 / 5.469**3, config.cutoff + 1.0
    table = Table("projection", keep, **{"µs an atom": f"{1e6 * an_atom:.0f}", "skin": "1 Å", "GB/s each rank": gigabytes_a_second})
    for atoms in (1_000, 10_000, 100_000, 1_000_000):
        edge = (atoms / density) ** (1 / 3)
        ghosts = density * ((edge + 2 * shell) ** 3 - edge**3)
        megabytes = ghosts * 2 * (features + 24) / 1e6
        computing, sending = 1e3 * an_atom * atoms, megabytes / gigabytes_a_second
        costs = {
            "ghosts": round(ghosts),
            "MB a step": round(megabytes),
            "ms of computing": round(computing),
            "ms of sending": round(sending),
        }
        table.add({"atoms a rank": atoms}, {**costs, "efficiency": computing / (computing + sending)})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", action="store_true")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--project", action="store_true")
    parser.add_argument("--rounds", type=several, default=5)
    parser.add_argument("--keep", action="store_true", help="put the rows into docs/measured.jsonl")
    arguments = parser.parse_args()
    keep = arguments.keep
    lammps.build()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        export_library(MODEL, folder / "silicon.so", "float32")
        if arguments.large:
            large(folder, keep)
        elif arguments.project:
            project(folder, keep)
        elif arguments.ranks:
            ranks(folder, arguments.rounds, keep)
        else:
            engines(folder, arguments.rounds, keep)


if __name__ == "__main__":
    main()
