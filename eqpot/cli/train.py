"""`eqpot train`: fit a potential."""

from pathlib import Path
from typing import Annotated

import typer

from eqpot.cli.console import command, console


@command
def train(
    config: Annotated[Path, typer.Argument(help="YAML file; the keys are those of eqpot.training.TrainConfig.")],
    overrides: Annotated[list[str] | None, typer.Argument(metavar="[KEY=VALUE]...", help="Such as training.epochs=100.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue the run in the output folder from its checkpoint.")] = False,
    passport: Annotated[bool, typer.Option(help="Measure the finished potential, as eqpot passport does.")] = True,
) -> None:
    """Fit a potential to DFT data; the run folder receives potential.safetensors, metrics.csv, a checkpoint and a passport.

    Example: eqpot train examples/01_fit.yaml output=runs/second training.epochs=20

    `torchrun --nproc-per-node N -m eqpot train ...` divides the work among N processes.
    """
    import contextlib
    import sys

    from eqpot.cli.passport import show_passport
    from eqpot.cli.signals import exit_code, on_stop
    from eqpot.cli.training_view import TrainingView
    from eqpot.config_file import load_config
    from eqpot.errors import ConfigError
    from eqpot.passport import issue_of_run
    from eqpot.training import TrainConfig, Trainer

    if "=" in config.name and not config.is_file():
        raise ConfigError(f"The configuration file comes first, and {config} is none; give it before its changes.")
    trainer = Trainer(load_config(TrainConfig, config, overrides or []), resume=resume)
    console.quiet = not trainer.processes.is_first
    n_edges = sum(sample.edge_index.shape[1] for sample in trainer.samples) / len(trainer.samples)
    console.print(
        f"{len(trainer.samples)} training and {len(trainer.valid)} validation frames, {n_edges:.0f} edges a frame, "
        f"{trainer.n_parameters} parameters"
    )
    stopping = on_stop(lambda: setattr(trainer, "stop_requested", True))
    with contextlib.closing(trainer.processes), stopping as received, TrainingView(trainer) as view:
        finished = trainer.run(view.report)
    if not finished:
        console.print(f"Stopped at step {trainer.step}, and a checkpoint is written; the same command with --resume goes on from there.")
        sys.exit(exit_code(received))
    console.print(f"The potential is {trainer.folder / 'potential.safetensors'}")
    if passport and trainer.processes.is_first:
        console.print("It is measured now; --no-passport leaves that out.")
        show_passport(f"{trainer.folder / 'passport.json'}", issue_of_run(trainer.folder))
