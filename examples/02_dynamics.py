"""
Dynamics of a molecule
======================

Ethanol with the shipped potential: 2 ps of NVT at 300 K, then 2 ps of NVE, and a figure of both. The same from the command line:
`eqpot md md/protocols/ethanol_nvt.yaml`.
"""

import argparse
from pathlib import Path

import ase.io
import torch

from eqpot import load_potential
from eqpot.md import Settings, Simulation, start_run
from eqpot.report.dynamics import plot_dynamics

ETHANOL = Path(__file__).parents[1] / "potentials" / "ethanol"


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("runs/dynamics"))
    parser.add_argument("--steps", type=int, default=4000, help="steps of 0.5 fs in each ensemble")
    arguments = parser.parse_args()

    torch.set_num_threads(1)  # nine atoms gain nothing from more
    potential = load_potential(ETHANOL / "potential.safetensors")
    atoms = ase.io.read(ETHANOL / "structure.extxyz")
    runs = {}
    for ensemble in ("nvt", "nve"):
        settings = Settings(ensemble=ensemble, timestep=0.5, temperature=300.0, steps=arguments.steps)
        simulation = Simulation(atoms, potential, settings)
        runs[ensemble.upper()] = arguments.output / ensemble
        summary = start_run(simulation, arguments.output / ensemble).run()
        print(
            f"{ensemble.upper()}: {summary['time_ps']:g} ps, mean temperature {summary['mean_temperature_k']:.0f} K, "
            f"drift of the conserved energy {summary['energy_drift_mev_per_atom_per_ps']:.3f} meV/atom/ps"
        )
        atoms = simulation.current_atoms()
    figure = arguments.output / "dynamics.png"
    plot_dynamics(runs, len(atoms), figure)
    print(f"The figure is {figure.resolve()}")


if __name__ == "__main__":
    main()
