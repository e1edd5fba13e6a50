"""Drift of the energy in NVE, in each engine: 64 silicon atoms, float64, time steps of 1 fs from 600 K, of which 300 K remain.

python benchmarks/engine_drift.py [--picoseconds 10] [--engines ...] [--keep]

Every engine moves the crystal by its own integrator and says itself what the energy is. What is not installed is left out; torch-sim is
where `make ecosystem` puts it: .ecosystem/bin/python benchmarks/engine_drift.py --engines torch-sim
"""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk

from eqpot import load_potential
from eqpot.md import Settings, Simulation
from eqpot.observables.series import drift
from measured import Table, with_error

MODEL = Path(__file__).resolve().parents[1] / "potentials" / "silicon" / "potential.safetensors"
BIN = Path(sys.executable).parent
EVERY = 10
"""Steps of 1 fs between energies."""

LAMMPS = """
units metal
atom_style atomic
newton on
read_data start.data
mass 1 28.085
pair_style eqpot silicon.so
pair_coeff * * Si
fix 1 all nve
timestep 0.001
thermo_style custom step etotal
thermo_modify format float %.12f
thermo {every}
run {steps}
"""

IPI = """
<simulation verbosity='low'>
 <output prefix='out'> <properties stride='{every}' filename='energies'> [ step, conserved{{electronvolt}} ] </properties> </output>
 <total_steps>{steps}</total_steps> <prng> <seed>1</seed> </prng>
 <ffdirect name='eqpot'>
  <pes>custom</pes> <pes_path>{driver}</pes_path> <parameters>{{template:start.xyz, model:{model}}}</parameters>
 </ffdirect>
 <system>
  <initialize nbeads='1'> <file mode='ase'>start.xyz</file> <velocities mode='thermal' units='kelvin'>600</velocities> </initialize>
  <forces> <force forcefield='eqpot'/> </forces>
  <ensemble> <temperature units='kelvin'>300</temperature> </ensemble>
  <motion mode='dynamics'> <dynamics mode='nve'> <timestep units='femtosecond'>1</timestep> </dynamics> </motion>
 </system>
</simulation>
"""


def with_eqpot(atoms: Atoms, steps: int, _: Path) -> list[float]:
    simulation = Simulation(atoms, load_potential(MODEL, dtype="float64"), Settings(timestep=1.0))
    energies = []
    for _ in range(steps // EVERY):
        energies.append(float(simulation.state.total_energy))
        for _ in range(EVERY):
            simulation.step()
    return energies


def with_lammps(atoms: Atoms, steps: int, folder: Path) -> list[float]:
    from eqpot.engines import lammps
    from eqpot.export.library import export_library

    lammps.build()
    export_library(MODEL, folder / "silicon.so", "float64")
    ase.io.write(folder / "start.data", atoms, format="lammps-data", units="metal", velocities=True)
    (folder / "in.lammps").write_text(LAMMPS.format(steps=steps, every=EVERY))
    command = [BIN / "mpirun", "-n", "1", BIN / "lmp", "-log", "none", "-in", "in.lammps"]
    said = subprocess.run(command, check=True, cwd=folder, capture_output=True, text=True).stdout
    rows = said.split("TotEng")[1].split("Loop time")[0].split()
    return [float(energy) for energy in rows[1::2]]


def with_openmm(atoms: Atoms, steps: int, _: Path) -> list[float]:
    import openmm
    from openmm import unit

    from eqpot.engines.openmm import make_force

    system = openmm.System()
    system.setDefaultPeriodicBoxVectors(*atoms.cell.array / 10)
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.addForce(make_force(MODEL, atoms.numbers, periodic=True, dtype="float64"))
    integrator = openmm.VerletIntegrator(1.0 * unit.femtosecond)
    context = openmm.Context(system, integrator, openmm.Platform.getPlatformByName("Reference"))
    context.setPositions(atoms.positions / 10)
    context.setVelocities(atoms.get_velocities() / 10 * (1000 * units.fs))
    energies = []
    for _ in range(steps // EVERY):
        state = context.getState(energy=True)
        energies.append((state.getKineticEnergy() + state.getPotentialEnergy()) / unit.kilojoule_per_mole * (units.kJ / units.mol))
        integrator.step(EVERY)
    return energies


def with_ipi(atoms: Atoms, steps: int, folder: Path) -> list[float]:
    from eqpot.engines import ipi_driver

    ase.io.write(folder / "start.xyz", atoms, format="extxyz", columns=["symbols", "positions"])
    (folder / "input.xml").write_text(IPI.format(steps=steps, every=EVERY, driver=ipi_driver.__file__, model=MODEL))
    subprocess.run([BIN / "i-pi", "input.xml"], check=True, cwd=folder, capture_output=True)
    return np.loadtxt(folder / "out.energies")[:, 1].tolist()


def with_torch_sim(atoms: Atoms, steps: int, _: Path) -> list[float]:
    from torch_sim import io
    from torch_sim.integrators import nve
    from torch_sim.units import MetalUnits

    from eqpot.engines.torchsim import EqpotModel

    def tensor(value: float) -> torch.Tensor:
        return torch.tensor(value, dtype=torch.float64)

    model = EqpotModel(load_potential(MODEL, dtype="float64"))
    start, update = nve(model, dt=tensor(1e-3 * MetalUnits.time), kT=tensor(600 * MetalUnits.temperature))
    state, energies = start(io.atoms_to_state([atoms], torch.device("cpu"), torch.float64), seed=1), []
    for _ in range(steps // EVERY):
        energies.append(float(state.energy.sum() + (state.momenta.square().sum(dim=1) / (2 * state.masses)).sum()))
        for _ in range(EVERY):
            state = update(state)
    return energies


ENGINES: dict[str, Callable[[Atoms, int, Path], list[float]]] = {
    "eqpot": with_eqpot,
    "LAMMPS": with_lammps,
    "OpenMM": with_openmm,
    "i-PI": with_ipi,
    "torch-sim": with_torch_sim,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--picoseconds", type=float, default=10.0)
    parser.add_argument("--engines", nargs="+", choices=ENGINES, default=list(ENGINES))
    parser.add_argument("--keep", action="store_true", help="put the rows into docs/measured.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    crystal = bulk("Si", a=5.469, cubic=True) * (2, 2, 2)
    first = Simulation(crystal, load_potential(MODEL), Settings(temperature=600.0, seed=1)).current_atoms()
    table = Table("engine drift", arguments.keep)
    for name in arguments.engines:
        with tempfile.TemporaryDirectory() as folder:
            try:
                energies = ENGINES[name](first.copy(), round(1000 * arguments.picoseconds), Path(folder))
            except ModuleNotFoundError as error:
                print(f"left out: {name}: {error}", file=sys.stderr)
                continue
        # The first half picosecond, in which half of the kinetic energy becomes potential energy, is not counted.
        values = 1000 * np.array(energies[50:]) / len(first)
        times = EVERY / 1000 * np.arange(len(values))
        fit = drift(times, values)
        rest = float(np.std(values - fit.slope * times))
        table.add({"engine": name}, {"drift, meV/atom/ps": with_error(fit.slope, fit.error), "fluctuation, meV/atom": rest})


if __name__ == "__main__":
    main()
