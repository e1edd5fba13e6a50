"""torch-sim moves two silicon crystals at once, each at a temperature of its own.

Shows: a potential in torch-sim, in a batch of structures of different sizes
Takes: 500 steps of 72 atoms, some seconds
Run:   pip install 'eqpot[torchsim]' (Python 3.11); python md/engines/torchsim/silicon_nvt.py
Expect: about 300 and 900 K, give or take 100 for so few atoms
"""

import argparse
from pathlib import Path

import torch
from ase.build import bulk
from torch_sim import io
from torch_sim.integrators import nvt_langevin
from torch_sim.units import MetalUnits

from eqpot import load_potential
from eqpot.engines.torchsim import EqpotModel

MODEL = Path(__file__).parents[3] / "potentials" / "silicon" / "potential.safetensors"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=500)
    arguments = parser.parse_args()
    structures = [bulk("Si", cubic=True) * (2, 2, 2), bulk("Si", cubic=True)]
    thermal = torch.tensor([300.0, 900.0], dtype=torch.float64) * MetalUnits.temperature
    timestep = torch.tensor(0.002 * MetalUnits.time, dtype=torch.float64)
    friction = torch.tensor(10.0 / MetalUnits.time, dtype=torch.float64)
    start, update = nvt_langevin(EqpotModel(load_potential(MODEL)), dt=timestep, kT=thermal, gamma=friction)
    state = start(io.atoms_to_state(structures, torch.device("cpu"), torch.float64), seed=1)
    total, count = torch.zeros(2, dtype=torch.float64), 0
    for step in range(arguments.steps):
        state = update(state)
        if step >= arguments.steps // 2:
            kinetic = (state.momenta.square().sum(dim=1) / (2 * state.masses)).double()
            total.index_add_(0, state.system_idx, kinetic)
            count += 1
    n_atoms = torch.bincount(state.system_idx)
    temperatures = 2 * total / count / (3 * n_atoms) / MetalUnits.temperature
    print(f"{arguments.steps} steps, temperatures", " and ".join(f"{value:.0f} K" for value in temperatures.tolist()))


if __name__ == "__main__":
    main()
