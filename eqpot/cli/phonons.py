"""`eqpot phonons`: phonons of crystals, vibrations of molecules."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from eqpot.cli.console import command, console

if TYPE_CHECKING:
    from ase import Atoms


@command
def phonons(
    potential: Annotated[list[Path], typer.Option(help="Model file; several times for a committee, whose mean acts.")],
    structure: Annotated[Path, typer.Option(help="Relaxed crystal, slab, wire or molecule: anything ASE reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; it must not exist yet.")],
    length: Annotated[float | None, typer.Option(help="Å between opposite faces of the supercell, at least; by default 20.")] = None,
    displacement: Annotated[float | None, typer.Option(help="Å; by default 0.01 in crystals, 0.005 in molecules.")] = None,
    path: Annotated[str | None, typer.Option(help="Special points, such as GXWKGL or GX,UG; by default those of the lattice.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float64",
) -> None:
    """Compute the phonons of a periodic structure, in its primitive cell, or the harmonic vibrations of an open one.

    The output folder receives the frequencies as CSV (bands.csv and dos.csv, or vibrations.csv), summary.json and a figure.

    Example: eqpot phonons --potential silicon --structure relaxed.extxyz -o phonons
    """
    from eqpot import EqpotCalculator
    from eqpot.data.read import read_structure
    from eqpot.errors import ConfigError
    from eqpot.files import check_new_folder

    check_new_folder(output)
    atoms = read_structure(structure)
    if not atoms.pbc.any() and (length is not None or path is not None):
        raise ConfigError(f"{structure} is not periodic: it has vibrations, and --length and --path say nothing of them; leave them out.")
    atoms.calc = EqpotCalculator([*potential], dtype=dtype)  # type: ignore[arg-type]
    given = {"displacement": displacement, "length": length, "path": path}
    settings = {name: value for name, value in given.items() if value is not None}
    (_phonons if atoms.pbc.any() else _vibrations)(atoms, output, settings)
    console.print(f"Results are in {output}")


def _phonons(atoms: "Atoms", output: Path, settings: dict[str, Any]) -> None:
    from rich.table import Table

    from eqpot.files import whole_folder
    from eqpot.properties import phonons
    from eqpot.report.properties import plot_phonons

    result = phonons(atoms, **settings)
    with whole_folder(output) as folder:
        result.write(folder)
        plot_phonons(result, folder / "phonons.png")
    cells = " x ".join(map(str, result.supercell))
    console.print(f"Primitive cell of {len(result.atoms)} atoms, displaced by {result.displacement:g} Å in a supercell of {cells} cells")
    table = Table()
    table.add_column("point")
    table.add_column("frequencies, THz")
    for name, index in {name: index for _, name, index in result.ticks()}.items():
        table.add_row(name, ", ".join(f"{value:.3f}" for value in result.bands[index].round(3) + 0.0))
    console.print(table)
    console.print(f"Zero-point energy {1000 * result.zero_point_energy / len(result.atoms):.2f} meV/atom")


def _vibrations(atoms: "Atoms", output: Path, settings: dict[str, Any]) -> None:
    from eqpot.files import whole_folder
    from eqpot.properties import vibrations
    from eqpot.report.properties import plot_vibrations

    result = vibrations(atoms, **settings)
    with whole_folder(output) as folder:
        result.write(folder)
        plot_vibrations(result, folder / "vibrations.png")
    console.print(f"{len(result.wavenumbers)} vibrations, 1/cm: " + ", ".join(f"{value:.1f}" for value in result.wavenumbers))
    console.print(f"Zero-point energy {1000 * result.zero_point_energy:.1f} meV")
