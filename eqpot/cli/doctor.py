"""`eqpot doctor`: what is wrong with data, a model file or this machine, before it costs a day."""

import re
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eqpot.cli.console import command, console

if TYPE_CHECKING:
    from eqpot.data.doctor import Finding

doctor = typer.Typer(help="Examine data, a model file, or this machine.", no_args_is_help=True)

_COLORS = {"error": "red", "warning": "yellow", "note": "dim"}


def _writable(path: Path | None) -> Path | None:
    from eqpot.errors import ConfigError
    from eqpot.files import check_writable

    try:
        if path is not None:
            check_writable(path)
    except ConfigError as error:
        raise typer.BadParameter(str(error)) from error
    return path


JsonFile = Annotated[Path | None, typer.Option("--json", callback=_writable, help="Write what was found to this file, which is new.")]


@doctor.command()
@command
def data(
    files: Annotated[list[Path], typer.Argument(help="Data files, or the YAML file of a fit, whose files, keys and units are taken.")],
    against: Annotated[list[Path] | None, typer.Option(help="Test files, whose frames should not be among the others.")] = None,
    cutoff: Annotated[float, typer.Option(min=0.5, help="Cutoff of the potential to be fitted, Å.")] = 5.0,
    energy_key: Annotated[str, typer.Option(help="Name of the energy in the data.")] = "energy",
    forces_key: Annotated[str, typer.Option(help="Name of the forces in the data.")] = "forces",
    stress_key: Annotated[str, typer.Option(help="Name of the stress in the data.")] = "stress",
    virial_key: Annotated[str | None, typer.Option(help="Name of the virial, -V stress, instead of a stress.")] = None,
    json_file: JsonFile = None,
) -> None:
    """Look for duplicates, leaks, wrong labels, units and signs, outliers and odd cells; exit code 1 if there are errors.

    Example: eqpot doctor data train.extxyz --against test.extxyz
    """
    from eqpot.config_file import load_config
    from eqpot.data import LabelKeys
    from eqpot.data.doctor import examine
    from eqpot.data.frames import elements_of
    from eqpot.elements import symbols_of
    from eqpot.training import TrainConfig

    keys = LabelKeys(energy_key, forces_key, stress_key, virial_key)
    sources: list[Any] = []
    tests: list[Any] = list(against or [])
    for file in files:
        if file.suffix not in (".yaml", ".yml"):
            sources.append(file)
            continue
        config = load_config(TrainConfig, file)
        sources += [entry.source() for entry in config.data.train]
        tests += [entry.source() for entry in (*(config.data.valid or []), *(config.data.test or []))]
    frames, findings = examine(sources, tests, keys, cutoff)
    title = (
        f"{len(frames)} frames, {sum(len(frame.atoms) for frame in frames)} atoms, {', '.join(symbols_of(elements_of(frames))) or 'none'}"
    )
    _report(title, findings, {"frames": len(frames)}, json_file)


@doctor.command()
@command
def model(
    potential: Annotated[Path, typer.Argument(help="Model file.")],
    json_file: JsonFile = None,
) -> None:
    """Check a model file: that it loads, that forces are derivatives, that rotations change nothing, and what makes it fast.

    Example: eqpot doctor model silicon
    """
    from eqpot.doctor import examine_model

    facts, findings = examine_model(potential)
    _facts(str(potential), facts)
    _report("Checks", findings, facts, json_file)


@doctor.command()
@command
def env(json_file: JsonFile = None) -> None:
    """Show versions, compiler, threads, optional packages and the cache of this machine.

    Example: eqpot doctor env
    """
    from eqpot.doctor import examine_environment

    facts, findings = examine_environment()
    _facts("This machine", facts)
    _report("Checks", findings, facts, json_file)


def _facts(title: str, facts: dict[str, Any]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, show_header=False)
    for name, value in facts.items():
        table.add_row(name, Text(str(value)))
    console.print(table)


def _report(title: str, findings: "list[Finding]", facts: dict[str, Any], json_file: Path | None) -> None:
    import json

    from rich.table import Table
    from rich.text import Text

    from eqpot.files import write_atomically

    table = Table(title=title, show_lines=True)
    for heading in ("level", "check", "finding"):
        table.add_column(heading)
    for finding in findings:
        text = Text(finding.message)
        if finding.frames:
            # The file's name tells enough; the folder stays in the JSON.
            text.append("\n" + re.sub(r"[^\s=]*/", "", "\n".join(finding.frames)), style="dim")
        table.add_row(Text(finding.level, style=_COLORS[finding.level]), finding.check, text)
    if findings:
        console.print(table)
    n_errors = sum(finding.level == "error" for finding in findings)
    n_warnings = sum(finding.level == "warning" for finding in findings)
    console.print(f"errors: {n_errors}, warnings: {n_warnings}")
    if json_file is not None:
        content = {**facts, "errors": n_errors, "warnings": n_warnings, "findings": [asdict(finding) for finding in findings]}
        write_atomically(json_file, (json.dumps(content, indent=2) + "\n").encode())
    if n_errors:
        raise typer.Exit(1)
