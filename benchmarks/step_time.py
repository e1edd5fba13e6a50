"""Time a step of the shipped potentials takes, and where it goes; threads and precisions interleaved in one run.

python benchmarks/step_time.py
"""

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import ase.io
import torch

from eqpot import load_potential
from eqpot.graph import edge_vectors
from eqpot.md import Settings, Simulation
from eqpot.neighbors import build_graph, neighbor_list

POTENTIALS = Path(__file__).parents[1] / "potentials"
CASES = (("ethanol", 1), ("silicon", 1), ("silicon", 2))


def milliseconds(function: Callable[[], object]) -> float:
    started = time.perf_counter()
    function()
    return 1000 * (time.perf_counter() - started)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=15)
    arguments = parser.parse_args()
    print("Medians in ms, with the quartiles in brackets.\n")
    print("| potential | atoms | dtype | threads | step | list | energy | reverse pass |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for name, repeat in CASES:
        atoms = ase.io.read(POTENTIALS / name / "structure.extxyz").repeat([repeat] * 3 if repeat > 1 else 1)
        atoms.rattle(0.02, seed=0)
        rows: dict[tuple[str, int], dict[str, list[float]]] = {}
        potentials = {dtype: load_potential(POTENTIALS / name / "potential.safetensors", dtype=dtype) for dtype in ("float32", "float64")}
        simulations = {dtype: Simulation(atoms, potential, Settings()) for dtype, potential in potentials.items()}
        for index in range(arguments.repeats + 3):
            for dtype, potential in potentials.items():
                for threads in (1, 2):
                    torch.set_num_threads(threads)
                    times = parts(simulations[dtype], potential)
                    if index >= 3:
                        for part, value in times.items():
                            rows.setdefault((dtype, threads), {}).setdefault(part, []).append(value)
        for (dtype, threads), columns in rows.items():
            cells = []
            for values in columns.values():
                low, median, high = statistics.quantiles(values, n=4)
                cells.append(f"{median:.2f} ({low:.2f} - {high:.2f})")
            print(f"| {name} | {len(atoms)} | {dtype} | {threads} | {' | '.join(cells)} |")


def parts(simulation: Simulation, potential: torch.nn.Module) -> dict[str, float]:
    atoms = simulation.current_atoms()
    step = milliseconds(simulation.step)
    listing = milliseconds(lambda: neighbor_list(atoms, potential.cutoff))
    graph = build_graph(atoms, potential.cutoff)

    def energy() -> torch.Tensor:
        vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
        with torch.no_grad():
            return potential.atomic_energies(vectors, graph.numbers, graph.edge_index)

    forward = milliseconds(energy)
    everything = milliseconds(lambda: potential.evaluate(graph))
    return {
        "step": step,
        "list": listing,
        "energy": forward,
        "reverse pass": max(everything - forward, 0.0),
    }


if __name__ == "__main__":
    main()
