"""`eqpot passport` and `eqpot info`: what a potential was measured to be."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eqpot.cli.console import command, console

if TYPE_CHECKING:
    from eqpot.passport import Passport


@command
def passport(
    potential: Annotated[Path, typer.Argument(help="Model file; its passport is written beside it, as passport.json.")],
    data: Annotated[list[Path] | None, typer.Option(help="Labelled test frames; several times for several files.")] = None,
    structure: Annotated[Path | None, typer.Option(help="Structure near equilibrium; by default structure.extxyz beside the file.")] = None,
    picoseconds: Annotated[float, typer.Option(min=0.1, help="Length of the run at constant energy.")] = 10.0,
    energy_key: Annotated[str, typer.Option(help="Name of the energy in the data.")] = "energy",
    forces_key: Annotated[str, typer.Option(help="Name of the forces in the data.")] = "forces",
    stress_key: Annotated[str, typer.Option(help="Name of the stress in the data; empty if it is not to be used.")] = "stress",
    markdown: Annotated[bool, typer.Option("--markdown", help="Print the table in Markdown.")] = False,
) -> None:
    """Measure errors, exactness, smoothness, conservation and speed of a potential, and write them beside it.

    Example: eqpot passport potentials/silicon/potential.safetensors --data Si_test.extxyz.gz
    """
    from eqpot.data import LabelKeys, read_frames
    from eqpot.data.read import read_structure
    from eqpot.files import check_replaceable
    from eqpot.model_file import load_potential
    from eqpot.passport import errors_on, issue, write_passport
    from eqpot.shipped import model_path

    potential = model_path(potential)
    check_replaceable(potential.parent / "passport.json")
    atoms = read_structure(structure or potential.parent / "structure.extxyz")
    errors = None
    if data:
        errors = errors_on(load_potential(potential), read_frames(data, LabelKeys(energy_key, forces_key, stress_key or None)), data)
    found = issue(potential, atoms, errors, picoseconds)
    write_passport(found, potential.parent / "passport.json")
    show_passport(f"{potential}", found, markdown)


@command
def info(
    potential: Annotated[Path | None, typer.Argument(help="Model file, or the name of a shipped potential; none lists these.")] = None,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write the same to this file.")] = None,
) -> None:
    """Show what a model file holds, and its passport if there is one beside it.

    Example: eqpot info silicon --json silicon.json
    """
    from eqpot.files import check_writable

    if json_file is not None:
        check_writable(json_file)
    if potential is None:
        _list_shipped(json_file)
        return
    from rich.table import Table

    from eqpot.data import file_hash
    from eqpot.model_file import read_header
    from eqpot.passport import read_passport
    from eqpot.shipped import model_path

    potential = model_path(potential)
    header = read_header(potential)
    table = Table(title=str(potential), show_header=False)
    table.add_column()
    table.add_column(overflow="fold")
    network = header.network.model_dump(exclude_defaults=True)
    facts = {
        "elements": ", ".join(header.elements),
        "cutoff": "none" if header.cutoff is None else f"{header.cutoff:g} Å",
        "architecture": header.architecture,
        "network": ", ".join(f"{key} {value}" for key, value in network.items()) or "the default one",
        "dtype": header.dtype,
        "radial functions": f"splines of {header.radial_table.n_intervals} intervals" if header.radial_table else "perceptrons",
        "uncertainty": f"calibrated on {header.uncertainty.calibration_frames} frames" if header.uncertainty else "not calibrated",
        "format version": str(header.format_version),
        **{key.replace("_", " "): str(value) for key, value in header.training.items() if not isinstance(value, dict)},
    }
    for name, value in facts.items():
        table.add_row(name, value)
    console.print(table)
    path = potential.parent / "passport.json"
    found = read_passport(path) if path.exists() else None
    if found is None:
        console.print(f"It has no passport; `eqpot passport {potential}` measures one.")
    elif found.model_sha256 != file_hash([potential]):
        found = None
        console.print(f"{path} is of another model file; `eqpot passport {potential}` measures this one.")
    else:
        show_passport(f"{path}", found)
    if json_file is not None:
        _write(json_file, {"header": header.model_dump(mode="json"), "passport": found and found.model_dump(mode="json")})


def _write(path: Path, values: Any) -> None:
    import json

    from eqpot.files import write_atomically

    write_atomically(path, (json.dumps(values, indent=1) + "\n").encode())


def _list_shipped(json_file: Path | None) -> None:
    from dataclasses import asdict

    from rich.table import Table

    from eqpot.shipped import shipped

    table = Table("name", "elements", "for", "data", title="Shipped potentials")
    for entry in shipped().values():
        table.add_row(entry.name, ", ".join(entry.elements), entry.description, f"{entry.data}; {entry.licence}; {entry.citation}")
    console.print(table)
    if json_file is not None:
        _write(json_file, [asdict(entry) | {"path": str(entry.path)} for entry in shipped().values()])


def show_passport(title: str, found: "Passport", markdown: bool = False) -> None:
    """Print what a passport says as a table."""
    from rich.table import Table

    from eqpot.passport import rows

    if markdown:
        print("| measured | value |\n| --- | --- |")
        for name, value in rows(found):
            print(f"| {name} | {value} |")
        return
    table = Table(title=title, show_header=False)
    for name, value in rows(found):
        table.add_row(name, value)
    console.print(table)
