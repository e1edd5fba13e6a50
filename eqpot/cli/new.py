"""`eqpot new`: a configuration to begin with."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eqpot.cli.console import command, console

if TYPE_CHECKING:
    from pydantic import BaseModel

new = typer.Typer(help="Write a configuration with every key, its help and its default.", no_args_is_help=True)

Output = Annotated[Path, typer.Option("--output", "-o", help="File to write; it must not exist yet.")]


@new.command()
@command
def train(data: Annotated[Path, typer.Argument(help="Labelled frames.")], output: Output = Path("train.yaml")) -> None:
    """Write a configuration of `eqpot train`.

    Example: eqpot new train frames.extxyz && eqpot train train.yaml
    """
    from eqpot.training import TrainConfig

    _write(output, TrainConfig, {"output": "runs/first", "seed": 0, "data": {"train": str(data)}}, f"eqpot train {output}")


@new.command()
@command
def md(
    structure: Annotated[Path, typer.Argument(help="Starting structure, anything ASE reads.")],
    potential: Annotated[Path, typer.Option(help="Model file, or the name of a shipped potential.")],
    output: Output = Path("md.yaml"),
) -> None:
    """Write a configuration of `eqpot md`: NVT at 300 K.

    Example: eqpot new md start.extxyz --potential silicon && eqpot md md.yaml
    """
    from eqpot.md import DynamicsConfig

    dynamics = {"ensemble": "nvt", "steps": 10_000, "timestep": 1.0, "temperature": 300.0, "seed": 1}
    given = {"potential": str(potential), "structures": str(structure), "output": "runs/md", "dynamics": dynamics}
    _write(output, DynamicsConfig, given, f"eqpot md {output}")


def _write(output: Path, model: "type[BaseModel]", given: dict[str, Any], run: str) -> None:
    from eqpot.config_template import template
    from eqpot.errors import ConfigError
    from eqpot.files import write_atomically

    if output.exists():
        raise ConfigError(f"{output} exists; remove it, or name another file with --output.")
    write_atomically(output, f"# {run}\n{template(model, given)}\n".encode())
    console.print(f"Wrote {output}; `{run}` takes it", markup=False)
