"""OpenMM itself with a potential, against the ASE calculator; A41."""

from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk

from eqpot import EqpotCalculator

openmm = pytest.importorskip("openmm", reason="OpenMM is not installed; pip install 'eqpot[openmm]'")
from openmm import app, unit  # noqa: E402

from eqpot.engines.openmm import make_force  # noqa: E402

POTENTIALS = Path(__file__).parents[2] / "potentials"
SILICON, ETHANOL = (POTENTIALS / name / "potential.safetensors" for name in ("silicon", "ethanol"))
CONVERT = units.kJ / units.mol


def crystal():
    atoms = bulk("Si", cubic=True)
    # OpenMM wants its box in reduced form, lower triangular.
    atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.1, 1, 0], [-0.05, 0.12, 1]], scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    return atoms


def molecule():
    atoms = ase.io.read(POTENTIALS / "ethanol" / "structure.extxyz")
    atoms.calc = None
    atoms.set_cell(None)
    atoms.pbc = False
    return atoms


def topology(atoms):
    made = app.Topology()
    residue = made.addResidue("ALL", made.addChain())
    for symbol in atoms.symbols:
        made.addAtom(symbol, app.Element.getBySymbol(symbol), residue)
    if atoms.pbc.any():
        made.setPeriodicBoxVectors(atoms.cell.array * 0.1 * unit.nanometer)
    return made


def simulation(atoms, system, timestep=0.5, platform="Reference"):
    integrator = openmm.VerletIntegrator(timestep * unit.femtosecond)
    made = app.Simulation(topology(atoms), system, integrator, openmm.Platform.getPlatformByName(platform))
    made.context.setPositions(atoms.positions * 0.1)
    return made


def system_of(atoms, model, dtype="float64"):
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    if atoms.pbc.any():
        system.setDefaultPeriodicBoxVectors(*(atoms.cell.array * 0.1))
    system.addForce(make_force(model, atoms.numbers, bool(atoms.pbc.any()), dtype))
    return system


def energy_and_forces(context):
    state = context.getState(energy=True, forces=True)
    energy = state.getPotentialEnergy().value_in_unit(unit.kilojoule_per_mole) * CONVERT
    return energy, state.getForces(asNumpy=True).value_in_unit(unit.kilojoule_per_mole / unit.nanometer) * CONVERT / units.nm


@pytest.mark.parametrize(("atoms", "model"), [(crystal(), SILICON), (molecule(), ETHANOL)], ids=["crystal", "molecule"])
def test_a41_equals_the_calculator(atoms, model):
    system = system_of(atoms, model)
    again = openmm.XmlSerializer.deserialize(openmm.XmlSerializer.serialize(system))
    atoms.calc = EqpotCalculator(model, dtype="float64")
    for one in (system, again):
        energy, forces = energy_and_forces(simulation(atoms, one).context)
        assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
        np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-10)


def test_a26_energy_is_conserved():
    atoms = molecule()
    running = simulation(atoms, system_of(atoms, ETHANOL), timestep=0.25)
    running.context.setVelocitiesToTemperature(300 * unit.kelvin, 1)
    totals = []
    for _ in range(10):
        running.step(10)
        state = running.context.getState(energy=True)
        totals.append((state.getPotentialEnergy() + state.getKineticEnergy()).value_in_unit(unit.kilojoule_per_mole) * CONVERT)
    assert np.ptp(totals) / len(atoms) < 1e-3


def test_constant_pressure():
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    system = system_of(atoms, SILICON, "float32")
    system.addForce(openmm.MonteCarloBarostat(1 * unit.bar, 600 * unit.kelvin, 2))
    running = simulation(atoms, system)
    running.context.setVelocitiesToTemperature(600 * unit.kelvin, 1)
    before = running.context.getState().getPeriodicBoxVolume()
    running.step(10)
    assert running.context.getState().getPeriodicBoxVolume() != before


def test_by_name_in_openmm_ml():
    openmmml = pytest.importorskip("openmmml")
    atoms = molecule()
    system = openmmml.MLPotential("eqpot").createSystem(topology(atoms), model=str(ETHANOL), dtype="float64")
    energy, _ = energy_and_forces(simulation(atoms, system).context)
    atoms.calc = EqpotCalculator(ETHANOL, dtype="float64")
    assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    with pytest.raises(ValueError, match="Give the model file"):
        openmmml.MLPotential("eqpot").createSystem(topology(atoms))


def test_some_particles_of_a_system():
    openmmml = pytest.importorskip("openmmml")
    atoms = molecule()
    whole = atoms + Atoms("Ar", [[50.0, 0, 0]])
    system = openmm.System()
    for mass in whole.get_masses():
        system.addParticle(mass)
    implementation = openmmml.MLPotential._implFactories["eqpot"].createImpl("eqpot")
    implementation.addForces(topology(whole), system, range(9), 3, model=str(ETHANOL), dtype="float64")
    assert system.getForce(0).getForceGroup() == 3
    energy, forces = energy_and_forces(simulation(whole, system).context)
    atoms.calc = EqpotCalculator(ETHANOL, dtype="float64")
    assert energy == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    assert (forces[9] == 0).all()


@pytest.mark.parametrize("where", ["topology", "system"])
def test_beside_a_force_field(where):
    """createMixedSystem in a periodic box, which may be that of the system alone."""
    openmmml = pytest.importorskip("openmmml")
    atoms = crystal() + Atoms("Ar", [[2.0, 2.0, 2.0]])
    box = atoms.cell.array * 0.1
    system = openmm.System()
    for mass in atoms.get_masses():
        system.addParticle(mass)
    system.setDefaultPeriodicBoxVectors(*box)
    lennard_jones = openmm.NonbondedForce()
    lennard_jones.setNonbondedMethod(openmm.NonbondedForce.CutoffPeriodic)
    lennard_jones.setCutoffDistance(0.2)
    for _ in atoms:
        lennard_jones.addParticle(0.0, 0.3, 0.0)
    system.addForce(lennard_jones)
    whole = topology(atoms)
    if where == "system":
        whole.setPeriodicBoxVectors(None)
    mixed = openmmml.MLPotential("eqpot").createMixedSystem(whole, system, list(range(8)), model=str(SILICON), dtype="float64")
    energy, _ = energy_and_forces(simulation(atoms, mixed).context)
    alone = atoms[:8]
    alone.calc = EqpotCalculator(SILICON, dtype="float64")
    assert energy == pytest.approx(alone.get_potential_energy(), rel=1e-9)
