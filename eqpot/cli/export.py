"""`eqpot export`: write a potential for engines."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def export(
    potential: Annotated[Path, typer.Argument(help="Model file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write.")],
    format: Annotated[str, typer.Option(help="torchscript, gromacs, metatomic, aoti or library.")] = "torchscript",
    dtype: Annotated[str | None, typer.Option(help="float32 or float64; by default that of the model file.")] = None,
) -> None:
    """Write the potential for other programs, compared with eager before it is written.

    torchscript: a scripted module that plain torch loads; it finds neighbours itself. gromacs: the same in the form of NNPot models.
    metatomic: a model for engines with that interface. aoti: a compiled package for this version of torch and processors like this one,
    which takes edge vectors. library: a shared library for processors like this one, with the interface of eqpot.h and no other
    dependency, which LAMMPS takes (eqpot lammps build) and any program in C can call.

    Example: eqpot export silicon --format library -o silicon.so
    """
    from eqpot.errors import ConfigError
    from eqpot.files import check_replaceable, check_writable

    formats = ("torchscript", "gromacs", "metatomic", "aoti", "library")
    if format not in formats:
        raise ConfigError(f"The export format {format!r} is unknown; use one of {', '.join(formats)}.")
    check_writable(output)
    check_replaceable(output)
    if format == "library":
        from eqpot.export.library import export_library

        deviation = export_library(potential, output, dtype)
    else:
        from eqpot.export.aoti import export_aoti
        from eqpot.export.torchscript import export_torchscript
        from eqpot.model_file import load_potential, read_header

        loaded, header = load_potential(potential, dtype=dtype), read_header(potential).model_dump_json()
        if format == "metatomic":
            try:
                from eqpot.engines.metatomic import export_metatomic
            except ModuleNotFoundError as error:
                raise ConfigError(f"{error.name} is not installed; pip install 'eqpot[metatomic]'.") from error
            deviation = export_metatomic(loaded, output, header)
        elif format == "aoti":
            deviation = export_aoti(loaded, output, header)
        else:
            deviation = export_torchscript(loaded, output, header, gromacs=format == "gromacs")
    console.print(f"Wrote {output}; largest relative deviation from eager {deviation:.1e}")
