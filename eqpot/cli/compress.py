"""`eqpot compress`: radial functions as tables."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def compress(
    potential: Annotated[Path, typer.Argument(help="Model file.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="Model file to write.")],
    spacing: Annotated[float, typer.Option(help="Distance between the knots of the splines, Å.")] = 0.02,
    data: Annotated[Path | None, typer.Option(help="Labelled frames to measure the deviation on; by default built-in ones.")] = None,
) -> None:
    """Write a potential whose radial functions are splines; the deviation is measured, printed and kept in the file.

    Example: eqpot compress silicon -o splines.safetensors
    """
    from eqpot.compress import compress as compress_potential
    from eqpot.data import read_frames
    from eqpot.export.torchscript import check_structures
    from eqpot.files import check_writable
    from eqpot.model_file import load_potential
    from eqpot.neighbors import build_graph

    check_writable(output)
    loaded = load_potential(potential)
    structures = check_structures(loaded) if data is None else [frame.atoms for frame in read_frames(data)]
    table = compress_potential(potential, output, [build_graph(atoms, loaded.cutoff) for atoms in structures], spacing)
    console.print(f"Wrote {output}; {table.n_intervals} intervals; largest deviations on {len(structures)} structures:")
    for name, value in table.deviations.items():
        console.print(f"  {name} {value:.1e}")
