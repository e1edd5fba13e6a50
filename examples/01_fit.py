"""
A first fit
===========

A small potential fitted to a few frames of ethanol, and its errors: under a minute. The same from the command line:
`eqpot train examples/01_fit.yaml`, then `eqpot evaluate runs/first/potential.safetensors DATA`.
"""

import argparse
from pathlib import Path

from eqpot import load_potential
from eqpot.config_file import load_config
from eqpot.data import label_graphs, read_frames
from eqpot.training import TrainConfig, Trainer, evaluate

HERE = Path(__file__).parent


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("runs/first"))
    arguments = parser.parse_args()

    data = HERE / "data" / "ethanol.npz"
    config = load_config(TrainConfig, HERE / "01_fit.yaml", [f"output={arguments.output}", f"data.train={data}"])
    Trainer(config).run(lambda report: print(f"epoch {report['epoch']:3d}  loss {report['loss']:.4f}"))

    potential = load_potential(arguments.output / "potential.safetensors")
    errors = evaluate(potential, label_graphs(read_frames(data), potential.cutoff))
    print(f"mean absolute error of the forces: {errors['force_mae_mev_per_ang']:.0f} meV/Å")


if __name__ == "__main__":
    main()
