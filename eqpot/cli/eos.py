"""`eqpot eos`: energy against volume."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console, errors


@command
def eos(
    potential: Annotated[list[Path], typer.Option(help="Model file; several times for a committee, whose mean acts.")],
    structure: Annotated[Path, typer.Option(help="Crystal, relaxed or nearly so: anything ASE reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; it must not exist yet.")],
    span: Annotated[float, typer.Option(help="Volumes reach from 1 - span to 1 + span times that of the structure.")] = 0.06,
    points: Annotated[int, typer.Option(help="Volumes.")] = 9,
    relax: Annotated[str, typer.Option(help="At each volume: none, atoms, or shape (atoms and shape of the cell).")] = "none",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float64",
) -> None:
    """Fit Birch and Murnaghan's equation of state; the output folder receives eos.csv, eos.png and summary.json.

    Example: eqpot eos --potential silicon --structure silicon.extxyz -o eos
    """
    from eqpot import EqpotCalculator
    from eqpot.data.read import read_structure
    from eqpot.files import check_new_folder, whole_folder
    from eqpot.properties import equation_of_state
    from eqpot.report.properties import plot_equation_of_state

    check_new_folder(output)
    atoms = read_structure(structure)
    atoms.calc = EqpotCalculator([*potential], dtype=dtype)  # type: ignore[arg-type]
    result = equation_of_state(atoms, span, points, relax)
    with whole_folder(output) as folder:
        result.write(folder)
        plot_equation_of_state(result, atoms.get_chemical_formula("metal", empirical=True), folder / "eos.png")
    console.print(f"V0 = {result.volume:.4f} Å^3 ({result.volume / len(atoms):.4f} an atom)")
    console.print(f"E0 = {result.energy:.6f} eV ({result.energy / len(atoms):.6f} an atom)")
    console.print(f"B  = {result.bulk_modulus:.2f} GPa, B' = {result.derivative:.2f}")
    console.print(f"The fit misses the energies by {1000 * result.misfit:.2g} meV/atom, root mean square")
    if relax == "none" and result.largest_force > 0.01:
        errors.print(
            f"At these volumes forces of up to {result.largest_force:.2g} eV/Å act on the atoms; --relax atoms, or shape, takes them along."
        )
    console.print(f"Results are in {output}")
