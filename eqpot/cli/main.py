"""The `eqpot` command. Heavy imports stay inside the commands, so that --help answers at once."""

from importlib.metadata import version
from typing import Annotated

import typer

from eqpot.cli.calibrate import calibrate
from eqpot.cli.compress import compress
from eqpot.cli.convert import convert
from eqpot.cli.doctor import doctor
from eqpot.cli.elastic import elastic
from eqpot.cli.eos import eos
from eqpot.cli.evaluate import evaluate
from eqpot.cli.export import export
from eqpot.cli.ipi import ipi_driver_path
from eqpot.cli.lammps import lammps
from eqpot.cli.md import md
from eqpot.cli.new import new
from eqpot.cli.passport import info, passport
from eqpot.cli.phonons import phonons
from eqpot.cli.relax import relax
from eqpot.cli.report import report
from eqpot.cli.select import select
from eqpot.cli.train import train

app = typer.Typer(
    name="eqpot",
    help="Interatomic potentials on position-orientation space: fit, report, calibrate, run, export and more.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
for function in (
    train, evaluate, report, calibrate, info, passport, select, md, relax, eos, elastic, phonons, export, compress, convert,
    ipi_driver_path,
):  # fmt: skip
    app.command()(function)
app.add_typer(new, name="new")
app.add_typer(doctor, name="doctor")
app.add_typer(lammps, name="lammps")


def _show_version(is_asked: bool) -> None:
    if is_asked:
        typer.echo(f"eqpot {version('eqpot')}")
        raise typer.Exit


@app.callback()
def _root(
    _: Annotated[bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Print the version and exit.")] = False,
) -> None:
    pass
