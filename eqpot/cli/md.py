"""`eqpot md`: run molecular dynamics."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


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
    import json
    import sys

    from eqpot.cli.md_view import DynamicsView
    from eqpot.cli.signals import exit_code, on_stop
    from eqpot.config_file import load_config
    from eqpot.data.read import read_structure
    from eqpot.errors import ConfigError
    from eqpot.md import DynamicsConfig, Simulation, resume_run, start_run
    from eqpot.model_file import load_potential, load_uncertainty

    if (config is None) == (resume is None):
        raise ConfigError("Give a configuration file, or --resume with a run folder.")
    if resume is not None:
        if overrides:
            raise ConfigError("A run that goes on has the settings it was started with; only --steps can be given beside --resume.")
        settings = load_config(DynamicsConfig, resume / "config.yaml", [f"output={json.dumps(str(resume))}"])
    else:
        assert config is not None
        if steps is not None:
            raise ConfigError("--steps goes with --resume; a new run takes dynamics.steps.")
        settings = load_config(DynamicsConfig, config, overrides or [])
        if settings.output.exists():
            raise ConfigError(f"The output folder {settings.output} exists; choose another, remove it, or continue it with --resume.")
    potential, *committee = (
        load_potential(path, dtype=settings.dtype, device=settings.device) for path in (settings.potential, *settings.committee)
    )
    uncertainty = load_uncertainty(settings.potential)
    if resume is not None:
        dynamics = settings.dynamics if steps is None else settings.dynamics.model_copy(update={"steps": steps})
        run = resume_run(resume, potential, dynamics, uncertainty, committee)
        asked = run.simulation.settings.steps
        if steps is not None and steps < asked:
            raise ConfigError(f"--steps is {steps}, and the run has been asked for {asked}; give more, or leave it out.")
    else:
        structures = [read_structure(path) for path in settings.structures for _ in range(settings.replicas)]
        brings = [path for path, atoms in zip(settings.structures, structures[:: settings.replicas], strict=True) if atoms.has("momenta")]
        if settings.replicas > 1 and brings and not settings.dynamics.is_stochastic:
            raise ConfigError(
                f"The {settings.replicas} replicas of {brings[0]} would all be the same run, as it brings velocities and "
                f"{settings.dynamics.integrator} draws no random numbers; take its momenta out, or use nvt with langevin."
            )
        simulation = Simulation(structures, potential, settings.dynamics, uncertainty, committee)
        record = json.loads(settings.model_dump_json())
        run = start_run(simulation, settings.output, settings.trajectory, settings.restart_minutes, record)
    with on_stop(lambda: setattr(run, "stop_requested", True)) as received, DynamicsView(run.simulation, console) as view:
        summary = run.run(view.show)
    if summary is None:
        step = run.simulation.state.step
        console.print(f"Stopped at step {step}, and a restart file is written; eqpot md --resume {run.folder} goes on from there.")
        sys.exit(exit_code(received))
    view.conclude(summary)
    console.print(f"Results are in {run.folder}")
