"""`eqpot report`: a run as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def report(
    run: Annotated[Path, typer.Argument(help="Run folder of `eqpot train` or `eqpot md`.")],
    data: Annotated[list[Path] | None, typer.Option(help="Test frames; by default the validation frames are shown.")] = None,
    potential: Annotated[Path | None, typer.Option(help="Model file of the run, such as its calibrated one; by default its own.")] = None,
    discard: Annotated[
        float | None, typer.Option(help="Dynamics: ps of equilibration that averages leave out; found from the run if not given.")
    ] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML file; by default report.html in the run folder.")] = None,
) -> None:
    """Write a run to one HTML page, anew if it exists.

    A training: learning curves, parity plots, uncertainties, worst frames, data. Dynamics: time series, averages with error bars, the
    temperatures against the canonical ensemble, structure, diffusion, vibrations and torsions; its main numbers printed. Both: settings.

    Example: eqpot report runs/first --data test.extxyz
    """
    from eqpot.errors import ConfigError

    path = output or run / "report.html"
    if path.suffix.lower() != ".html":
        # Whatever has the name is replaced: a file of the run, perhaps.
        raise ConfigError(f"The report is a page, and {path} does not end in .html; give it a name that does.")
    if not run.is_dir():
        raise ConfigError(f"There is no folder {run}; name the run folder of `eqpot train` or `eqpot md`.")
    if (run / "thermo.csv").is_file():
        from eqpot.report.dynamics import report_dynamics

        if data or potential:
            raise ConfigError(f"{run} is a dynamics run, whose report takes neither --data nor --potential; leave them out.")
        for finding in report_dynamics(run, path, discard):
            console.print(str(finding), soft_wrap=True)
    else:
        from eqpot.report.training import report_training

        if discard is not None:
            raise ConfigError(f"{run} is no dynamics run, whose averages --discard is about; leave it out.")
        report_training(run, path, data or [], potential)
    console.print(f"The report is {path}")
