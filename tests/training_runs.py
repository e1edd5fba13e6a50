"""Training runs in processes of their own, started from a server that has imported everything: what a test may kill."""

import multiprocessing
import os
import sys
from pathlib import Path

import torch
import yaml

from eqpot.cli.main import app
from helpers import ETHANOL

SETTINGS = {
    "data": {"train": str(ETHANOL), "n_train": 20, "n_valid": 10, "reference_energies": "mean"},
    "network": {"n_channels": 8, "radial_width": 8, "cutoff": 4.0},
    "training": {"epochs": 6, "validate_every": 2, "warmup_steps": 5, "learning_rate": 0.02, "compile": False},
}
"""A run of a second."""

FILES = ("config.yaml", "metrics.csv", "checkpoint.safetensors", "potential.safetensors")
"""What two runs with the same seed have in common to the bit, but for the output in config.yaml."""


def settings(output, **changes) -> dict:
    """Return SETTINGS with changes section by section."""
    values = {**SETTINGS, "output": str(output)}
    for section, entries in changes.items():
        values[section] = {**values.get(section, {}), **entries} if isinstance(entries, dict) else entries
    return values


def write_config(folder: Path, **changes) -> Path:
    """Write the settings of a run whose output is `run`, relative to `folder`: equal runs in two folders have equal files."""
    folder.mkdir(exist_ok=True)
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(settings("run", **changes)))
    return path


def start(target, *arguments):
    """Start a function in a fresh process."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["training_runs", "eqpot.training", "eqpot.cli.main", "rich.progress", "torch._dynamo"])
    process = context.Process(target=target, args=arguments)
    process.start()
    return process


def command(folder: Path, *arguments: str) -> None:
    """Run `eqpot` in a folder, whose file `output` receives what it says."""
    torch.set_num_threads(1)
    os.chdir(folder)
    sys.argv = ["eqpot", *arguments]
    with Path("output").open("a") as output:
        # rich looks for these when it writes.
        sys.stdout = sys.stderr = output
        app()


def train(folder: Path) -> None:
    """Run `eqpot train` in a folder with a config.yaml, going on from a checkpoint if there is one."""
    command(folder, "train", "config.yaml", "--no-passport", *(["--resume"] if (folder / "run").exists() else []))


def md(folder: Path) -> None:
    """Run `eqpot md` in a folder with a config.yaml, going on from a restart file if there is one."""
    command(folder, "md", *(["--resume", "run"] if (folder / "run").exists() else ["config.yaml"]))


def contents(folder: Path) -> dict[str, bytes]:
    """Return the bytes of a finished run's files, all but the timings."""
    return {path.name: path.read_bytes() for path in (folder / "run").iterdir() if path.name != "timings.csv"}
