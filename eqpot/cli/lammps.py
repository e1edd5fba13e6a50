"""`eqpot lammps`: the plugin of LAMMPS."""

import typer

from eqpot.cli.console import command, console

lammps = typer.Typer(help="The plugin of LAMMPS (pair_style eqpot).", no_args_is_help=True)


@lammps.command()
@command
def build() -> None:
    """Compile the plugin for the LAMMPS that is installed, which then knows pair_style eqpot.

    Example: eqpot lammps build
    """
    from eqpot.engines.lammps import build as build_plugin

    console.print(f"Built {build_plugin()}; LAMMPS started from this environment loads it.")


@lammps.callback()
def _root() -> None:
    pass
