"""`eqpot export`: write a potential for engines."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def export(
    potential: Annotated[Path, typer.Argument(help="Model file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    format: Annotated[str, typer.Option(help="torchscript.")] = "torchscript",
    dtype: Annotated[str | None, typer.Option(help="float32 or float64; by default that of the model file.")] = None,
) -> None:
    """Write the potential as a scripted module that plain torch loads; compared with eager before it is written."""
    from eqpot.errors import ConfigError
    from eqpot.export.torchscript import export_torchscript
    from eqpot.files import check_writable
    from eqpot.model_file import load_potential

    if format != "torchscript":
        raise ConfigError(f"The export format {format!r} is unknown; use torchscript.")
    check_writable(output)
    deviation = export_torchscript(load_potential(potential, dtype=dtype), output)
    console.print(f"Wrote {output}; largest relative deviation from eager {deviation:.1e}")
