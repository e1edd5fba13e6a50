"""`eqpot report`: a run as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def report(
    run: Annotated[Path, typer.Argument(help="Run folder of `eqpot train`.")],
    data: Annotated[list[Path] | None, typer.Option(help="Test frames; by default the validation frames are shown.")] = None,
    potential: Annotated[Path | None, typer.Option(help="Model file of the run, such as its calibrated one; by default its own.")] = None,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="HTML file; by default report.html in the run folder.")] = None,
) -> None:
    """Write learning curves, parity plots, uncertainties, worst frames, data and settings of a run to one HTML page, anew if it exists."""
    from eqpot.report.training import report_training

    path = output or run / "report.html"
    report_training(run, path, data or [], potential)
    console.print(f"The report is {path}")
