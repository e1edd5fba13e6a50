"""`eqpot select`: which frames to label next."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def select(
    potentials: Annotated[list[Path], typer.Argument(help="Model files: a committee, or one for diversity alone.")],
    frames: Annotated[Path, typer.Argument(help="Structures to choose from, labelled or not: anything ASE reads, rMD17 npz.")],
    count: Annotated[int, typer.Option("-n", min=1, help="Frames to choose.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="extxyz file to write: bare structures, the most wanted first.")],
) -> None:
    """Choose frames by the committee's disagreement on forces and by diversity, and write them without labels.

    Among the 5 n frames of largest disagreement it takes the largest and then, one by one, the frame farthest from those taken, by
    the mean invariant features of the first potential.

    Example: eqpot select a.safetensors b.safetensors frames.extxyz -n 20 -o next.extxyz
    """
    from rich.table import Table

    from eqpot.errors import DataError
    from eqpot.files import check_writable, write_structures
    from eqpot.model_file import load_potential
    from eqpot.training import selection

    check_writable(output)
    loaded = [load_potential(path) for path in potentials]
    structures = selection.read_structures(frames)
    if count > len(structures):
        raise DataError(f"{count} frames are asked for, and {frames} holds {len(structures)}; ask for fewer.")
    graphs = selection.committee_graphs(loaded, structures, frames)
    uncertainty = selection.disagreements(loaded, graphs) if len(loaded) > 1 else None
    chosen = selection.select(count, selection.descriptors(loaded[0], graphs), uncertainty)

    table = Table(title=f"{len(chosen)} of {len(structures)} frames")
    for heading in ("frame", "disagreement, meV/Å", "distance"):
        table.add_column(heading, justify="right")
    for choice in chosen:
        atoms, disagreement = structures[choice.index], ""
        atoms.info["frame"] = choice.index
        if uncertainty is not None:
            atoms.info["disagreement"], disagreement = choice.disagreement, f"{1000 * choice.disagreement:.1f}"
        table.add_row(str(choice.index), disagreement, f"{choice.distance:.3g}")
    write_structures(output, [structures[choice.index] for choice in chosen])
    console.print(table)
    if len(chosen) < count:
        console.print(f"The other frames repeat these; {count} were asked for.")
    console.print(f"Wrote {output}")
