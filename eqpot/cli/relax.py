"""`eqpot relax`: the minimum of energy near a structure."""

from contextlib import closing, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eqpot.cli.console import command, console

if TYPE_CHECKING:
    from eqpot.properties.relaxation import State

_WIDTHS = (5, 16, 15, 14, 15)


@command
def relax(
    potential: Annotated[list[Path], typer.Option(help="Model file; several times for a committee, whose mean acts.")],
    structure: Annotated[Path, typer.Option(help="Starting structure, anything ASE reads; its constraints are kept to.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="File to write, .extxyz or .xyz, with energy, forces and stress.")],
    fmax: Annotated[
        float, typer.Option(help="Largest force left, eV/Å; of a cell that relaxes also its stress times the volume of an atom, eV.")
    ] = 0.01,
    cell: Annotated[
        str, typer.Option(help="none, full (of slabs and wires the periodic directions), isotropic, or shape (at constant volume).")
    ] = "none",
    pressure: Annotated[float, typer.Option(help="GPa, positive compresses; with --cell full or isotropic.")] = 0.0,
    optimizer: Annotated[str, typer.Option(help="lbfgs or fire.")] = "lbfgs",
    steps: Annotated[int, typer.Option(help="Steps at most.")] = 500,
    trajectory: Annotated[Path | None, typer.Option(help="File, .extxyz or .xyz, that receives every step.")] = None,
    dtype: Annotated[str, typer.Option(help="float32 or float64.")] = "float64",
) -> None:
    """Relax the atoms, and the cell if asked; the structure is written even where the steps do not suffice (exit code 1).

    Example: eqpot relax --potential silicon --structure start.cif --cell full --fmax 0.001 -o relaxed.extxyz
    """
    from eqpot import EqpotCalculator
    from eqpot.data.read import read_structure
    from eqpot.errors import ConfigError, SimulationError
    from eqpot.files import AppendedFile, check_writable, extxyz, told, write_structures
    from eqpot.properties import relax as relax_atoms
    from eqpot.properties.relaxation import with_results
    from eqpot.properties.symmetry import space_group

    for path in (output, trajectory or output):
        check_writable(path)
        if path.suffix.lower() not in (".extxyz", ".xyz"):
            raise ConfigError(f"Extended XYZ is what is written, and {path} is no name for it; let the name end in .extxyz or .xyz.")
    if trajectory is not None and trajectory.absolute() == output.absolute():
        raise ConfigError(f"Structure and trajectory are both to become {output}; name two files.")
    atoms = read_structure(structure)
    before = space_group(atoms)
    atoms.calc = EqpotCalculator([*potential], dtype=dtype)  # type: ignore[arg-type]

    def show(state: "State") -> None:
        if state.step <= 10 or state.step % 10 == 0:
            _print_state(state)
        if trajectory is not None and frames is not None:
            with told(trajectory):
                frames.append(extxyz([with_results(atoms)]))

    with closing(AppendedFile(trajectory)) if trajectory else nullcontext() as frames:
        result = relax_atoms(atoms, fmax, steps, cell, pressure, optimizer, show)
    write_structures(output, [with_results(atoms)])
    end = result.end
    if end.step > 10 and end.step % 10:
        _print_state(end)
    change = 1000 * (end.enthalpy - result.start.enthalpy) / len(atoms)
    console.print(f"The {'enthalpy' if pressure else 'energy'} has changed by {change:.3f} meV/atom")
    if before is not None:
        console.print(f"Space group {before} before, {space_group(atoms) or 'none that spglib finds'} after")
    console.print(f"Wrote {output}" + (f" and {trajectory}" if trajectory else ""))
    if not result.converged:
        raise SimulationError(
            f"{structure} has not relaxed to {fmax:g} eV/Å in {steps} steps, the largest force is {end.largest_force:.2g} eV/Å; "
            f"allow more steps (--steps), or go on from {output}."
        )


def _print_state(state: "State") -> None:
    cells = [("step", str(state.step)), ("energy, eV", f"{state.energy:.6f}"), ("force, eV/Å", f"{state.largest_force:.5f}")]
    if state.volume is not None and state.pressure is not None:
        cells += [("volume, Å^3", f"{state.volume:.3f}"), ("pressure, GPa", f"{state.pressure:.3f}")]
    for row in zip(*cells, strict=True) if state.step == 0 else [[shown for _, shown in cells]]:
        console.print("".join(text.rjust(width) for text, width in zip(row, _WIDTHS, strict=False)), soft_wrap=True)
