"""`eqpot md`: run molecular dynamics."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from eqpot.cli.console import command, console

if TYPE_CHECKING:
    from eqpot.md import DynamicsConfig
    from eqpot.md.run import Run
    from eqpot.potential import Potential


@command
def md(
    config: Annotated[Path | None, typer.Argument(help="YAML file; the keys are those of eqpot.md.DynamicsConfig.")] = None,
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as dynamics.temperature=500.")] = None,
    resume: Annotated[Path | None, typer.Option(help="Run folder to go on with, from its restart file.")] = None,
    steps: Annotated[int | None, typer.Option(help="With --resume: go on to this step, beyond the one that was asked for.")] = None,
) -> None:
    """Run NVE, NVT or NPT dynamics of one structure or many: eqpot md config.yaml, or eqpot md --resume FOLDER.

    The run folder receives config.yaml, thermo.csv, trajectories, a restart file, final.extxyz and summary.json.

    Example: eqpot md md/protocols/ethanol_nvt.yaml dynamics.temperature=350 output=nvt
    """
    import sys

    from eqpot.cli.md_view import DynamicsView
    from eqpot.cli.signals import exit_code, on_stop
    from eqpot.errors import ConfigError

    # The first argument is the file, whatever it is.
    is_override = config is not None and "=" in config.name and not config.is_file()
    if resume is not None and (is_override or overrides):
        raise ConfigError("A run that goes on has the settings it was started with; only --steps can be given beside --resume.")
    if is_override:
        raise ConfigError(f"The configuration file comes first, and {config} is none; give it before its changes.")
    if (config is None) == (resume is None):
        raise ConfigError("Give a configuration file, or --resume with a run folder.")
    if resume is not None:
        run = _go_on(resume, steps)
    else:
        assert config is not None
        if steps is not None:
            raise ConfigError("--steps goes with --resume; a new run takes dynamics.steps.")
        run = _start(config, overrides or [])
    was_finished = run.is_finished
    with on_stop(lambda: setattr(run, "stop_requested", True)) as received, DynamicsView(run.simulation, console) as view:
        summary = run.run(view.show)
    step = run.simulation.state.step
    if summary is None:
        console.print(f"Stopped at step {step}, and a restart file is written; eqpot md --resume {run.folder} goes on from there.")
        sys.exit(exit_code(received))
    if was_finished:
        console.print(f"The run is finished, at step {step}; --steps with a larger number makes it longer.")
    else:
        view.conclude(summary)
    console.print(f"Results are in {run.folder}")


def _start(config: Path, overrides: list[str]) -> "Run":
    """Return a new run of the configuration."""
    import json

    from eqpot.config_file import load_config
    from eqpot.data.read import read_structure
    from eqpot.errors import ConfigError
    from eqpot.md import DynamicsConfig, Simulation, start_run
    from eqpot.model_file import load_uncertainty

    settings = load_config(DynamicsConfig, config, overrides)
    if settings.output.exists():
        raise ConfigError(f"The output folder {settings.output} exists; choose another, remove it, or continue it with --resume.")
    potential, *committee = _load_potentials(settings)
    structures = [atoms for path in settings.structures for atoms in [read_structure(path)] * settings.replicas]
    brings = [path for path, atoms in zip(settings.structures, structures[:: settings.replicas], strict=True) if atoms.has("momenta")]
    if settings.replicas > 1 and brings and not settings.dynamics.is_stochastic:
        raise ConfigError(
            f"The {settings.replicas} replicas of {brings[0]} would all be the same run, as it brings velocities and "
            f"{settings.dynamics.integrator} draws no random numbers; take its momenta out, or use nvt with langevin."
        )
    simulation = Simulation(structures, potential, settings.dynamics, load_uncertainty(settings.potential), committee)
    record = json.loads(settings.model_dump_json())
    return start_run(simulation, settings.output, settings.trajectory, settings.restart_minutes, record)


def _go_on(folder: Path, steps: int | None) -> "Run":
    """Return the run of a folder, to the step it was asked for or beyond."""
    import json

    from eqpot.config_file import load_config
    from eqpot.errors import ConfigError
    from eqpot.md import DynamicsConfig, resume_run
    from eqpot.model_file import load_uncertainty

    if not folder.is_dir():
        raise ConfigError(f"There is no run folder {folder}; check the path.")
    settings = load_config(DynamicsConfig, folder / "config.yaml", [f"output={json.dumps(str(folder))}"])
    potential, *committee = _load_potentials(settings)
    dynamics = settings.dynamics if steps is None else settings.dynamics.model_copy(update={"steps": steps})
    run = resume_run(folder, potential, dynamics, load_uncertainty(settings.potential), committee)
    asked = run.simulation.settings.steps
    if steps is not None and steps < asked:
        raise ConfigError(f"--steps is {steps}, and the run has been asked for {asked}; give more, or leave it out.")
    return run


def _load_potentials(settings: "DynamicsConfig") -> list["Potential"]:
    """Return the potential, and those of the committee."""
    from eqpot.model_file import load_potential

    paths = (settings.potential, *settings.committee)
    return [load_potential(path, dtype=settings.dtype, device=settings.device) for path in paths]
