"""`eqpot convert`: make model files of networks that other programs trained."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def convert(
    format: Annotated[str, typer.Argument(help="ponita: a checkpoint of the official PONITA code.")],
    weights: Annotated[Path, typer.Argument(help="npz of the official state_dict and ori_grid.")],
    config: Annotated[Path, typer.Argument(help="JSON with the arguments of the official network.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write.")],
    scale: Annotated[float, typer.Option(help="eV per unit of the network's output.")] = 1.0,
    shift: Annotated[float, typer.Option(help="eV per atom, added to the scaled output.")] = 0.0,
    elements: Annotated[
        str | None, typer.Option(help="Elements it was trained on, such as H,C,O; by default all it has inputs for.")
    ] = None,
) -> None:
    """Write a model file that every command, the calculator and the export read.

    Example: eqpot convert ponita weights.npz config.json --elements H,C,O -o converted.safetensors
    """
    from eqpot.convert import convert_ponita
    from eqpot.elements import symbols_of
    from eqpot.errors import ConfigError
    from eqpot.files import check_writable

    if format != "ponita":
        raise ConfigError(f"The format {format!r} is unknown; use ponita.")
    check_writable(output)
    symbols = None if elements is None else [symbol.strip() for symbol in elements.split(",")]
    potential = convert_ponita(weights, config, output, scale, shift, symbols)
    reach = "no cutoff, for open structures alone" if potential.network.config.cutoff is None else f"cutoff {potential.cutoff:g} Å"
    console.print(f"Wrote {output}; elements {', '.join(symbols_of(potential.elements))}; {reach}")
