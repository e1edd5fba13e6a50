"""`eqpot elastic`: elastic constants and moduli."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def elastic(
    potential: Annotated[list[Path], typer.Option(help="Model file; several times for a committee, whose mean acts.")],
    structure: Annotated[Path, typer.Option(help="Relaxed crystal: anything ASE reads.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder for the results; it must not exist yet.")],
    strain: Annotated[float, typer.Option(help="Size of the strains, of either sign.")] = 0.005,
    relax: Annotated[str, typer.Option(help="At each strain: atoms, or none (clamped ions).")] = "atoms",
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float64",
) -> None:
    """Compute elastic constants and moduli of a crystal; the output folder receives elastic.csv and summary.json.

    Example: eqpot elastic --potential silicon --structure relaxed.extxyz -o elastic
    """
    from rich.table import Table

    from eqpot import EqpotCalculator
    from eqpot.data.read import read_structure
    from eqpot.files import check_new_folder, whole_folder
    from eqpot.properties import elastic_constants
    from eqpot.properties.elastic import COMPONENTS
    from eqpot.properties.symmetry import space_group

    check_new_folder(output)
    atoms = read_structure(structure)
    atoms.calc = EqpotCalculator([*potential], dtype=dtype)  # type: ignore[arg-type]
    result = elastic_constants(atoms, strain, relax)
    with whole_folder(output) as folder:
        result.write(folder)
    table = Table("GPa", *COMPONENTS)
    for name, row in zip(COMPONENTS, result.tensor, strict=True):
        table.add_row(name, *(f"{value:.2f}" for value in row.round(2) + 0.0))
    console.print(table)
    console.print(f"Space group {space_group(result.atoms) or 'none that spglib finds'}")
    if result.cubic is not None:
        c11, c12, c44 = result.cubic
        console.print(f"C11 = {c11:.2f}, C12 = {c12:.2f}, C44 = {c44:.2f} GPa; Zener anisotropy {result.cubic.anisotropy:.3f}")
    for name, modulus in (("Bulk", result.bulk_modulus), ("Shear", result.shear_modulus)):
        console.print(f"{name} modulus {modulus.hill:.2f} GPa (Voigt {modulus.voigt:.2f}, Reuss {modulus.reuss:.2f})")
    console.print(f"Young modulus {result.young_modulus:.2f} GPa, Poisson ratio {result.poisson_ratio:.3f}")
    console.print(f"Results are in {output}")
