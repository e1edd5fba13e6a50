"""Train candidates for the default network under an equal compute budget, and print accuracy, cost and rotation error.

python benchmarks/candidates.py --data DATA --seconds 240 --results docs/candidates.json
python benchmarks/candidates.py --results docs/candidates.json --print

A budget is CPU time of the training process, compilation left out; the learning rate ends with it. Finished runs are kept in the results
and skipped, so a run that was stopped goes on with the same command. `tasks.py` says what DATA (or EQPOT_DATA) must hold.
"""

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from tasks import TASKS, Task

from eqpot import load_potential
from eqpot.data import label_graphs, read_frames
from eqpot.exactness import rotation_error
from eqpot.files import write_atomically
from eqpot.graph import AtomGraph
from eqpot.model_file import save_potential
from eqpot.neighbors import build_graph
from eqpot.network.config import NetworkConfig
from eqpot.potential import Potential
from eqpot.training import TrainConfig, Trainer, evaluate
from eqpot.training.start import read_split, start_potential

Results = dict[str, dict[str, dict[str, Any]]]
"""Task -> candidate -> what was measured."""


SHORT = ("ethanol", "aspirin", "acetylacetone", "silicon")
"""The tasks, by default."""

POINTWISE = {"block": "pointwise", "n_blocks": 3}
CANDIDATES: dict[str, dict[str, Any]] = {
    "default": {},
    "12 points, (1, 2)": {"n_orientations": 12, "feature_degree": 1, "kernel_degree": 2},
    "36 points, (2, 4)": {"n_orientations": 36, "feature_degree": 2, "kernel_degree": 4},
    "48 points, (3, 3)": {"n_orientations": 48, "feature_degree": 3, "kernel_degree": 3},
    "60 points, (3, 4)": {"n_orientations": 60, "feature_degree": 3, "kernel_degree": 4},
    "kernel degree 2": {"kernel_degree": 2},
    "32 channels": {"n_channels": 32},
    "96 channels": {"n_channels": 96},
    "1 block": {"n_blocks": 1},
    "3 blocks": {"n_blocks": 3},
    "cutoff 4": {"cutoff": 4.0},
    "cutoff 6": {"cutoff": 6.0},
    "radial width 32": {"radial_width": 32},
    "radial width 128": {"radial_width": 128},
    "6 Bessel functions": {"n_bessel": 6},
    "12 Bessel functions": {"n_bessel": 12},
    "pointwise, 12 points": {**POINTWISE, "n_orientations": 12},
    "pointwise, 24 points": {**POINTWISE, "n_orientations": 24},
    "point cloud": {"geometry": "point_cloud"},
    "positions only": {"geometry": "position", "n_blocks": 3},
}
"""Name -> what differs from the default `NetworkConfig`."""


def train_config(task: Task, overrides: Mapping[str, Any], data: Path, seconds: float, seed: int, folder: Path) -> TrainConfig:
    """Return the configuration of one run: no end but that of the budget, and one validation there."""
    budget = {"minutes": seconds / 60, "epochs": 10**6, "validate_every": 10**6}
    return TrainConfig.model_validate(task.config(data, folder / "run", overrides, budget, seed))


def run_one(task: Task, overrides: Mapping[str, Any], data: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Train one candidate and return what was measured of it; energies of whole structures in meV, forces in meV/Å."""
    with tempfile.TemporaryDirectory() as name:
        config = train_config(task, overrides, data, seconds, seed, Path(name))
        trainer = Trainer(config, clock=time.process_time)
        trainer.run()
        path = Path(name) / "run" / "potential.safetensors"
        single, double = (load_potential(path, dtype=dtype) for dtype in ("float32", "float64"))
        test = read_frames(data / task.test)
        errors = evaluate(single, label_graphs(test, single.cutoff))
        return {
            "force_mae": errors["force_mae_mev_per_ang"],
            "energy_mae": errors["energy_mae_mev"],
            "steps": trainer.step,
            "step_ms": 1000 * trainer.seconds / trainer.step,
            "rotation_float32": 1000 * rotation_error(single, test[0].atoms)[0],
            "rotation_float64": 1000 * rotation_error(double, test[0].atoms)[0],
            "parameters": trainer.n_parameters,
            "network": json.loads(config.network.model_dump_json()),
            "seconds": seconds,
            "seed": seed,
        }


def is_done(result: Mapping[str, Any] | None, overrides: Mapping[str, Any], seconds: float, seed: int) -> bool:
    """Return whether a result is that of this network, budget and seed."""
    if result is None or (result["seconds"], result["seed"]) != (seconds, seed):
        return False
    return NetworkConfig(**result["network"]) == NetworkConfig(**overrides)


def run_all(
    tasks: Mapping[str, Task], candidates: Mapping[str, dict[str, Any]], data: Path, seconds: float, seed: int, path: Path
) -> Results:
    """Train what the results at `path` lack, each run in a fresh process, and write them after every run."""
    results: Results = json.loads(path.read_text()) if path.exists() else {}
    for task_name, task in tasks.items():
        rows = results.setdefault(task_name, {})
        for name, overrides in candidates.items():
            if is_done(rows.get(name), overrides, seconds, seed):
                continue
            with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
                rows[name] = pool.submit(run_one, task, overrides, data, seconds, seed).result()
            write_atomically(path, json.dumps(results, indent=1).encode())
            print(f"{task_name}, {name}: {rows[name]['force_mae']:.2f} meV/Å", file=sys.stderr)
    return results


def loaded(task: Task, overrides: Mapping[str, Any], data: Path, folder: Path) -> Potential:
    """Return a potential as a user loads it; its cost does not depend on the weights."""
    config = train_config(task, overrides, data, 60, 0, folder)
    frames, _ = read_split(config)
    save_potential(start_potential(config, frames, average_neighbors=10.0), folder / "potential.safetensors")
    return load_potential(folder / "potential.safetensors")


def evaluation_times(potentials: Mapping[str, Potential], graphs: Mapping[str, AtomGraph], rounds: int) -> dict[str, float]:
    """Return the median time of energy and forces, ms; the potentials take turns, so that a busy machine is busy for all of them."""
    times: dict[str, list[float]] = {name: [] for name in potentials}
    for _ in range(rounds + 2):
        for name, potential in potentials.items():
            started = time.perf_counter()
            potential.evaluate(graphs[name])
            times[name].append(1000 * (time.perf_counter() - started))
    return {name: statistics.median(values[2:]) for name, values in times.items()}


def measure_costs(results: Results, tasks: Mapping[str, Task], data: Path, rounds: int) -> None:
    """Add to the results of every task the time of an energy and its forces, one thread, for the first test structure."""
    torch.set_num_threads(1)
    for task_name, task in tasks.items():
        rows = results[task_name]
        atoms = read_frames(data / task.test)[0].atoms
        with tempfile.TemporaryDirectory() as folder:
            potentials = {name: loaded(task, row["network"], data, Path(folder)) for name, row in rows.items()}
        graphs = {name: build_graph(atoms, potential.cutoff) for name, potential in potentials.items()}
        for name, milliseconds in evaluation_times(potentials, graphs, rounds).items():
            rows[name]["evaluation_ms"] = milliseconds


def table(task_name: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the results of a task as Markdown, the lowest force error first."""
    reference = rows.get("default", {}).get("evaluation_ms")
    lines = [
        f"| {task_name} | force MAE, meV/Å | energy MAE, meV | steps | ms a step | cost | rotation, meV | in float64 | parameters |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, row in sorted(rows.items(), key=lambda item: item[1]["force_mae"]):
        cost = f"{row['evaluation_ms'] / reference:.2f}" if reference and "evaluation_ms" in row else "-"
        lines.append(
            f"| {name} | {row['force_mae']:.2f} | {row['energy_mae']:.2f} | {row['steps']:,} | {row['step_ms']:.1f} | {cost} | "
            f"{row['rotation_float32']:.1e} | {row['rotation_float64']:.1e} | {row['parameters']:,} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("EQPOT_DATA"), help="data folder; default: EQPOT_DATA")
    parser.add_argument("--results", type=Path, required=True, help="JSON file that is read and extended")
    parser.add_argument("--seconds", type=float, default=240.0, help="CPU seconds of a training")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(SHORT))
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--rounds", type=int, default=30, help="evaluations a median of the cost is taken over")
    parser.add_argument("--print", action="store_true", help="print the tables of the results and do nothing else")
    arguments = parser.parse_args()
    if arguments.print:
        results: Results = json.loads(arguments.results.read_text())
    else:
        if arguments.data is None:
            parser.error("give the data folder with --data or in EQPOT_DATA")
        tasks = {name: TASKS[name] for name in arguments.tasks}
        candidates = {name: CANDIDATES[name] for name in arguments.candidates}
        results = run_all(tasks, candidates, arguments.data, arguments.seconds, arguments.seed, arguments.results)
        measure_costs(results, tasks, arguments.data, arguments.rounds)
        write_atomically(arguments.results, json.dumps(results, indent=1).encode())
    for name, rows in results.items():
        print(table(name, rows), end="\n\n")


if __name__ == "__main__":
    main()
