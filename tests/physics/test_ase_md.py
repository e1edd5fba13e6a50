"""ASE's own dynamics with the calculator."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.md.langevin import Langevin
from ase.md.verlet import VelocityVerlet

import properties
from eqpot.units import GIGAPASCAL


def set_temperature(atoms):
    """Momenta of 300 K, the same at each call."""
    momenta = np.random.default_rng(0).normal(size=(len(atoms), 3)) * np.sqrt(atoms.get_masses() * units.kB * 300)[:, None]
    atoms.set_momenta(momenta - momenta.mean(axis=0))


def test_velocity_verlet_conserves_the_energy_of_ethanol():
    """Halving the step quarters the fluctuation, as the integrator's order demands; forces that are not the gradient would not."""
    calculator = properties.calculator("ethanol")
    deviations = []
    for timestep in (0.5, 0.25):
        atoms = properties.ethanol(calculator)
        set_temperature(atoms)
        energies = []
        dynamics = VelocityVerlet(atoms, timestep * units.fs)
        dynamics.attach(lambda atoms=atoms, energies=energies: energies.append(atoms.get_total_energy()))
        dynamics.run(round(100 / timestep))
        deviations.append(np.std(energies))
        assert abs(np.polyfit(np.arange(len(energies)), energies, 1)[0] * len(energies)) < 5e-3
    assert deviations[0] / 9 < 1e-3
    assert deviations[0] / deviations[1] == pytest.approx(4, rel=0.15)


def test_langevin_heats_ethanol():
    atoms = properties.ethanol(properties.calculator("ethanol"))
    Langevin(atoms, 0.5 * units.fs, temperature_K=300, friction=0.1 / units.fs, fixcm=False, rng=np.random.default_rng(0)).run(200)
    assert 100 < atoms.get_temperature() < 600
    assert np.isfinite(atoms.positions).all()


def test_constant_pressure_relaxes_a_compressed_cell():
    atoms = bulk("Si", a=5.38, cubic=True).repeat(2)
    atoms.calc = properties.calculator("silicon")
    set_temperature(atoms)
    before = atoms.get_volume()
    # Older releases of ASE have it elsewhere.
    dynamics = pytest.importorskip("ase.md.melchionna").MelchionnaNPT(
        atoms, 1 * units.fs, temperature_K=300, externalstress=0.0, ttime=25 * units.fs, pfactor=(75 * units.fs) ** 2 * 84 * GIGAPASCAL
    )
    dynamics.run(50)
    assert np.isfinite(atoms.positions).all()
    assert 1.005 < atoms.get_volume() / before < 1.1
    assert 50 < atoms.get_temperature() < 600
