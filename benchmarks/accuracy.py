"""Fit eqpot to the standard data sets and print its errors beside those of its peers and of publications.

python benchmarks/accuracy.py --data DATA --results docs/accuracy.json --runs RUNS --budget --tasks ethanol aspirin
python benchmarks/accuracy.py --data DATA --results docs/accuracy.json --runs RUNS --tasks ethanol uracil ...
python benchmarks/accuracy.py --results docs/accuracy.json --print

With --budget all contestants train for the same CPU time, an hour of one thread, peers (`make peers`) included. Without it eqpot alone
trains to the end of the schedule in RECIPES. Its run folders stay in RUNS; one that was stopped goes on with the same command. What the
results hold already is not done again. `tasks.py` says what DATA (or EQPOT_DATA) must hold.
"""

import argparse
import json
import multiprocessing
import os
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any

import torch
from tasks import MOLECULES, TASKS, Task

from accuracy_tables import Results, Row, tables
from contest import Contestant, Worker, WorkerError
from eqpot import load_potential
from eqpot.data import LabelKeys, label_graphs, read_frames
from eqpot.files import write_atomically
from eqpot.passport import processor
from eqpot.training import TrainConfig, Trainer, evaluate
from eqpot.units import GIGAPASCAL

EQPOT = Contestant("eqpot", "eqpot")
PEERS = (
    Contestant("MACE, 256x0e+256x1o", "mace", "mace", {"model": "rmd17"}),
    Contestant("MACE, 64x0e+64x1o", "mace", "mace", {"model": "64x0e+64x1o"}),
    Contestant("NequIP, l 3, 5 layers, 64", "nequip", "nequip", {"model": "nequip-rmd17"}),
    Contestant("NequIP, l 1, 4 layers, 32", "nequip", "nequip", {"model": "nequip-tutorial"}),
    Contestant("PaiNN, 128, 3 layers", "schnetpack", "schnetpack", {"model": "painn"}),
    Contestant("PONITA, 128, 5 layers, 20 points", "ponita"),
)
CONTESTANTS = {contestant.name: contestant for contestant in (EQPOT, *PEERS)}

FINE = {"cutoff": 4.0, "n_orientations": 48, "feature_degree": 3, "kernel_degree": 3}
"""The network of degree 3 for small molecules."""


def decay(steps: int) -> dict[str, float]:
    """Return the weight decay of a run of so many steps: what keeps weights in bounds acts in proportion to rate and steps together.

    Without it weights grow as long as a run goes on, and errors on frames far from the training data grow with them; with too much of
    it they shrink. On ethanol 920 over the number of steps gave the lowest errors of what was tried.
    """
    return {"weight_decay": round(920 / steps, 4)}


BUDGET_RECIPES: dict[str, dict[str, Any]] = {
    "ethanol": {"network": FINE, "training": {**decay(122_000), "energy_weight": 3}},
    "aspirin": {"network": {"cutoff": 4.5}, "training": {**decay(90_000), "energy_weight": 3}},
}

CRYSTAL = {"training": {"weight_decay": 0.02, "epochs": 100}}

MOLECULE = {"network": {**FINE, "cutoff": 4.5}, "training": {**decay(800 * 190), "epochs": 800, "energy_weight": 3}}

RECIPES: dict[str, dict[str, Any]] = {
    **dict.fromkeys(MOLECULES, MOLECULE),
    "ethanol": {"network": FINE, "training": {**decay(1600 * 190), "epochs": 1600, "energy_weight": 3}},
    "molecules": {"network": {"cutoff": 4.5}, "training": {"weight_decay": 0.0048, "epochs": 80, "energy_weight": 3}},
    "acetylacetone": {"network": {**FINE, "cutoff": 4.5}, "training": {**decay(800 * 90), "epochs": 800, "energy_weight": 3}},
    **dict.fromkeys(("lithium", "silicon"), CRYSTAL),
    "molybdenum": {"training": {"batch_size": 1, "weight_decay": 0.009, "epochs": 120, "stage_two": {"start": 0.6, "energy_weight": 300}}},
    "copper": {"training": {"batch_size": 1, "weight_decay": 0.01, "epochs": 80, "stage_two": {"start": 0.6, "energy_weight": 300}}},
    "MoNbTaW": {"training": {"weight_decay": 0.014, "epochs": 10}},
}
"""What differs from the defaults of `eqpot train` when eqpot alone is trained to the end."""


def measured(potential: Path, test: Path, keys: LabelKeys) -> dict[str, float]:
    """Return the errors of a potential on test frames: energies of structures and per atom in meV, forces in meV/Å, stresses in GPa."""
    loaded = load_potential(potential)
    found = evaluate(loaded, label_graphs(read_frames(test, keys), loaded.cutoff))
    names = {
        "energy_{}": ("energy_{}_mev", 1.0),
        "energy_per_atom_{}": ("energy_{}_mev_per_atom", 1.0),
        "force_{}": ("force_{}_mev_per_ang", 1.0),
        "stress_{}": ("stress_{}_mev_per_ang3", 1e-3 / GIGAPASCAL),
    }
    return {
        mine.format(kind): unit * found[theirs.format(kind)]
        for mine, (theirs, unit) in names.items()
        for kind in ("mae", "rmse")
        if theirs.format(kind) in found
    }


def train(task: Task, recipe: Mapping[str, Any], data: Path, folder: Path, seed: int, seconds: float | None = None) -> dict[str, Row]:
    """Train eqpot in a run folder, from its checkpoint if there is one; return errors on every test, and what it took.

    To the end of the recipe, or for so many seconds of CPU time; compilation is left out as everywhere.
    """
    training = {"validate_every": 10, **recipe.get("training", {})}
    if seconds is not None:
        training |= {"minutes": seconds / 60, "epochs": 10**6, "validate_every": 10**6}
    config = TrainConfig.model_validate(task.config(data, folder, recipe.get("network", {}), training, seed))
    trainer = Trainer(config, resume=folder.exists(), clock=time.process_time)
    trainer.run()
    effort = {"steps": trainer.step, "seconds": trainer.seconds, "parameters": trainer.n_parameters, "seed": seed}
    keys = LabelKeys(stress=config.data.stress_key)
    potential = folder / "potential.safetensors"
    return {name: {**measured(potential, data / test, keys), **effort} for name, test in task.tests.items()}


def train_peer(contestant: Contestant, task: Task, data: Path, seconds: float, seed: int, checkpoint: Path) -> Row:
    paths = {"train": str(data / task.train), "test": str(data / task.test), "n_train": task.data["n_train"], "checkpoint": str(checkpoint)}
    with Worker(contestant, fit=True, seconds=seconds, seed=seed, **paths) as worker:
        return {**worker.facts, "seed": seed}


def in_process(function: Callable[..., dict[str, Row]], *arguments: Any) -> dict[str, Row]:
    """Call in a fresh process: no run meets what another one left behind."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(function, *arguments).result()


def keep(path: Path, table: str, name: str, row: Row) -> None:
    """Add a row to the results, which other processes may write to meanwhile."""
    results = load(path)
    facts = {"machine": processor(), "torch": torch.__version__, "date": time.strftime("%Y-%m-%d")}
    results.setdefault(table, {})[name] = {**row, **facts}
    write_atomically(path, json.dumps(results, indent=1, sort_keys=True).encode())
    print(f"{name}: {row['force_mae']:.2f} meV/Å", file=sys.stderr)


def load(path: Path) -> Results:
    results: Results = json.loads(path.read_text()) if path.exists() else {}
    return results


def done(path: Path, table: str, name: str) -> bool:
    return name in load(path).get(table, {})


def run_budget(tasks: Sequence[str], contestants: Sequence[str], data: Path, runs: Path, seconds: float, seed: int, path: Path) -> None:
    for task_name in tasks:
        for contestant in (CONTESTANTS[name] for name in contestants):
            name, task = f"{task_name}, {contestant.name}", TASKS[task_name]
            if done(path, "budget", name):
                continue
            try:
                if contestant is EQPOT:
                    rows = in_process(train, task, BUDGET_RECIPES[task_name], data, runs / f"budget-{task_name}", seed, seconds)
                    row = next(iter(rows.values()))
                else:
                    checkpoint = runs / f"budget-{task_name}-{re.sub(r'[^a-zA-Z0-9]+', '-', contestant.name)}.pt"
                    row = train_peer(contestant, task, data, seconds, seed, checkpoint)
            except WorkerError as error:
                print(f"left out: {name}: {error}", file=sys.stderr)
                continue
            keep(path, "budget", name, row)


def run_recipes(tasks: Sequence[str], data: Path, runs: Path, seed: int, path: Path) -> None:
    for name in tasks:
        titles = {test: f"{name}, {test}" if test else name for test in TASKS[name].tests}
        if not all(done(path, "recipes", title) for title in titles.values()):
            for test, row in in_process(train, TASKS[name], RECIPES[name], data, runs / name, seed).items():
                keep(path, "recipes", titles[test], row)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=os.environ.get("EQPOT_DATA"), help="data folder; default: EQPOT_DATA")
    parser.add_argument("--results", type=Path, required=True, help="JSON file that is read and extended")
    parser.add_argument("--budget", action="store_true", help="train all contestants for the same CPU time")
    parser.add_argument("--runs", type=Path, help="folder of the run folders, which are kept")
    parser.add_argument("--seconds", type=float, default=3600.0, help="CPU seconds of the equal budget")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--tasks", nargs="+", choices=TASKS, default=list(MOLECULES))
    parser.add_argument("--contestants", nargs="+", choices=CONTESTANTS, default=list(CONTESTANTS))
    parser.add_argument("--print", action="store_true", help="print the tables of the results and do nothing else")
    arguments = parser.parse_args()
    if not arguments.print:
        if arguments.data is None:
            parser.error("give the data folder with --data or in EQPOT_DATA")
        if arguments.runs is None:
            parser.error("give the folder of the runs with --runs")
        tasks, data, runs, seed, path = (getattr(arguments, name) for name in ("tasks", "data", "runs", "seed", "results"))
        if arguments.budget:
            run_budget(tasks, arguments.contestants, data, runs, arguments.seconds, seed, path)
        else:
            run_recipes(tasks, data, runs, seed, path)
    results = load(arguments.results)
    print("\n\n".join(tables(results)))


if __name__ == "__main__":
    main()
