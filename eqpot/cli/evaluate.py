"""`eqpot evaluate`: errors of a potential on labelled data."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def evaluate(
    potential: Annotated[Path, typer.Argument(help="Model file.")],
    data: Annotated[list[Path], typer.Argument(help="Labelled frames: extxyz or anything ASE reads, rMD17 npz.")],
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the numbers to this file.")] = None,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64; by default that of the model file.")] = None,
    energy_key: Annotated[str, typer.Option(help="Name of the energy in the data.")] = "energy",
    forces_key: Annotated[str, typer.Option(help="Name of the forces in the data.")] = "forces",
    stress_key: Annotated[str, typer.Option(help="Name of the stress in the data.")] = "stress",
) -> None:
    """Print mean absolute and root mean square errors of energy, forces and stress.

    Example: eqpot evaluate ethanol examples/data/ethanol.npz --json errors.json
    """
    import json

    from rich.table import Table

    from eqpot.data import LabelKeys, label_graphs, read_frames
    from eqpot.files import check_writable, write_atomically
    from eqpot.model_file import load_potential
    from eqpot.training import evaluate as evaluate_potential
    from eqpot.training.metrics import check_frames

    if json_file is not None:
        check_writable(json_file)
    loaded = load_potential(potential, dtype=dtype)
    frames = read_frames(data, LabelKeys(energy_key, forces_key, stress_key))
    check_frames(loaded, frames)
    metrics = evaluate_potential(loaded, label_graphs(frames, loaded.cutoff))
    table = Table(title=f"{potential} on {len(frames)} frames")
    for heading in ("quantity", "unit", "MAE", "RMSE"):
        table.add_column(heading, justify="left" if heading in ("quantity", "unit") else "right")
    rows = (
        ("energy", "meV", "energy_{}_mev"),
        ("energy", "meV/atom", "energy_{}_mev_per_atom"),
        ("force component", "meV/Å", "force_{}_mev_per_ang"),
        ("stress component", "meV/Å^3", "stress_{}_mev_per_ang3"),
    )
    for quantity, unit, key in rows:
        if key.format("mae") in metrics:
            table.add_row(quantity, unit, *(f"{metrics[key.format(kind)]:.3f}" for kind in ("mae", "rmse")))
    console.print(table)
    if json_file is not None:
        write_atomically(json_file, (json.dumps(metrics, indent=2) + "\n").encode())
