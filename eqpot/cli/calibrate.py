"""`eqpot calibrate`: standard deviations that held-out errors have scaled."""

import logging
from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console

_FEW = 20
"""Held-out frames below which the scales are told to be uncertain; their relative standard error is 1 / sqrt(2 n) for n errors."""


@command
def calibrate(
    potentials: Annotated[list[Path], typer.Argument(help="Model file, or those of a committee.")],
    output: Annotated[Path | None, typer.Option("--output", "-o", help="Model file to write; not for a committee.")] = None,
    train: Annotated[list[Path] | None, typer.Option(help="Frames that the potential was fitted to; not for a committee.")] = None,
    valid: Annotated[list[Path] | None, typer.Option(help="Other frames, which give the scales.")] = None,
    recipe: Annotated[
        Path | None, typer.Option(help="config.yaml of the run: its label keys, and its frames where --train or --valid names none.")
    ] = None,
    energy_key: Annotated[str, typer.Option(help="Name of the energy in the data.")] = "energy",
    forces_key: Annotated[str, typer.Option(help="Name of the forces in the data.")] = "forces",
    stress_key: Annotated[str, typer.Option(help="Name of the stress in the data.")] = "stress",
) -> None:
    """Write a potential that knows its standard deviations; of a committee, print the factors that calibrate them.

    Example: eqpot calibrate runs/first/potential.safetensors --recipe runs/first/config.yaml -o calibrated.safetensors
    """
    from rich.table import Table

    from eqpot.calculator import EqpotCalculator
    from eqpot.calibration import UNITS, calibrate, reliability, usable
    from eqpot.config_file import load_config
    from eqpot.data import LabelKeys, read_frames
    from eqpot.errors import ConfigError, DataError
    from eqpot.files import check_writable
    from eqpot.training import TrainConfig
    from eqpot.training.start import read_split

    alone = len(potentials) == 1
    if alone != (output is not None):
        raise ConfigError("One potential needs --output for the calibrated file, and a committee, which has none, takes no --output.")
    if not alone and train:
        raise ConfigError("A committee is scaled on held-out frames alone; leave --train out.")
    if output is not None:
        check_writable(output)
    if recipe is not None:
        config = load_config(TrainConfig, recipe, [])
        keys = config.data.train[0].source().keys
        fitted, held_out = ([], []) if train and valid else read_split(config)
        fitted = read_frames(train, keys) if train else fitted
        held_out = read_frames(valid, keys) if valid else held_out
    elif valid and (train or not alone):
        keys = LabelKeys(energy_key, forces_key, stress_key)
        fitted, held_out = read_frames(train, keys) if alone and train else [], read_frames(list(valid), keys)
    else:
        raise ConfigError("The frames are missing; name --train and --valid (a committee: --valid alone), or the --recipe of the run.")
    if output is not None:
        found = calibrate(potentials[0], fitted, held_out, output)
        title, factors = f"{output}, scaled on {len(usable(held_out))} frames", dict.fromkeys(found, 1.0)
    else:
        found = reliability(EqpotCalculator([*potentials]), held_out)
        if not found:
            raise DataError("There is no deviation to scale: no frame has energy and forces, or the potentials are the same; name others.")
        factors = {name: pairs.scale() for name, pairs in found.items()}
        found = {name: pairs.scaled(factors[name]) for name, pairs in found.items()}
        title = f"Committee of {len(potentials)}: multiply its deviations by the factor, found on {len(usable(held_out))} frames"
    _warn_of_few(len(usable(held_out)))
    table = Table(title=title)
    for heading in ("quantity", *(() if alone else ("factor",)), "RMSE", "within 1 sigma", "within 2 sigma"):
        table.add_column(heading, justify="left" if heading == "quantity" else "right")
    for name, pairs in found.items():
        unit, size = UNITS[name]
        coverages = (f"{100 * pairs.coverage(z):.0f} %" for z in (1, 2))
        table.add_row(name, *(() if alone else (f"{factors[name]:.3f}",)), f"{pairs.rmse() / size:.3g} {unit}", *coverages)
    console.print(table)


def _warn_of_few(n_frames: int) -> None:
    if n_frames < _FEW:
        logging.getLogger(__name__).warning(
            "Deviations are scaled on %d held-out frames, so that of the energy is itself uncertain by %.0f %%; name more.",
            n_frames,
            100 / (2 * n_frames) ** 0.5,
        )
