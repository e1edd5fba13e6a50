"""OpenMM moves ethanol by its own Langevin integrator.

Shows: a potential in OpenMM; energy in its reports is that of the potential
Takes: 2,000 steps of 9 atoms, some seconds
Run:   pip install 'eqpot[openmm]'; python md/engines/openmm/ethanol_langevin.py
Expect: a temperature of 300 K, give or take 80: nine atoms fluctuate
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
import openmm
from openmm import unit

from eqpot.engines.openmm import make_force

FOLDER = Path(__file__).parents[3] / "potentials" / "ethanol"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=2000)
    arguments = parser.parse_args()
    atoms = ase.io.read(FOLDER / "structure.extxyz")
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.addForce(make_force(FOLDER / "potential.safetensors", atoms.numbers, periodic=False))
    integrator = openmm.LangevinMiddleIntegrator(300 * unit.kelvin, 10 / unit.picosecond, 0.5 * unit.femtosecond)
    integrator.setRandomNumberSeed(1)
    context = openmm.Context(system, integrator)
    context.setPositions(atoms.positions * 0.1)
    context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    seen = []
    for _ in range(arguments.steps // 20):
        integrator.step(20)
        kinetic = context.getState(energy=True).getKineticEnergy()
        seen.append(2 * kinetic / (3 * len(atoms) * unit.MOLAR_GAS_CONSTANT_R) / unit.kelvin)
    print(f"{arguments.steps} steps, temperature {np.mean(seen):.0f} K")


if __name__ == "__main__":
    main()
