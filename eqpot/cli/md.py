"""`eqpot md`: run molecular dynamics."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def md(
    potential: Annotated[Path, typer.Option(help="Model file.")],
    structure: Annotated[Path, typer.Option(help="Starting structure, anything ASE reads; its velocities are used if it has any.")],
    steps: Annotated[int, typer.Option(help="Time steps.")],
    output: Annotated[Path, typer.Option(help="Folder for the results; it must not exist yet.")],
    ensemble: Annotated[str, typer.Option(help="nve or nvt (Langevin).")] = "nve",
    temperature: Annotated[float, typer.Option(help="K; of the thermostat, and of drawn velocities.")] = 300.0,
    timestep: Annotated[float, typer.Option(help="fs.")] = 0.5,
    friction: Annotated[float, typer.Option(help="1/ps, of the Langevin thermostat.")] = 10.0,
    seed: Annotated[
        int | None, typer.Option(help="Seed of velocities and thermostat; drawn, and recorded in the summary, if not given.")
    ] = None,
    interval: Annotated[int, typer.Option(help="Steps between written frames.")] = 10,
    dtype: Annotated[str | None, typer.Option(help="float32 or float64; by default that of the model file.")] = None,
) -> None:
    """Run NVE or NVT dynamics; the output folder receives thermo.csv, trajectory.extxyz, final.extxyz and summary.json."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

    from eqpot.data.read import read_structure
    from eqpot.md import Settings, Simulation
    from eqpot.model_file import load_potential

    given = {} if seed is None else {"seed": seed}
    settings = Settings(ensemble, timestep, temperature, friction, interval=interval, **given)  # type: ignore[arg-type]
    simulation = Simulation(read_structure(structure), load_potential(potential, dtype=dtype), settings)
    columns = (
        TextColumn("step {task.completed}"),
        BarColumn(),
        TextColumn("{task.fields[state]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("dynamics", total=steps, state="")

        def show(thermo: dict[str, float]) -> None:
            state = f"{thermo['temperature_k']:6.1f} K  {thermo['conserved_energy_ev']:.6f} eV"
            progress.update(task, completed=int(thermo["step"]), state=state)

        summary = simulation.run(steps, output, show)
    console.print(
        f"{summary['time_ps']:g} ps {ensemble.upper()} of {summary['atoms']} atoms: mean temperature "
        f"{summary['mean_temperature_k']:.1f} K, conserved energy drifts by {summary['energy_drift_mev_per_atom_per_ps']:.2g} "
        f"meV/atom/ps and fluctuates by {summary['energy_fluctuation_mev_per_atom']:.2g} meV/atom"
    )
    if summary["skin_angstrom"]:
        builds, skin = summary["neighbor_list_builds"], summary["skin_angstrom"]
        console.print(f"The neighbour list was searched {builds} times, at last with a skin of {skin:.2f} Å")
    console.print(f"Results are in {output}")
