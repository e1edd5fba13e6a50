"""A28: where ASE integrates the same equations in the same parts, trajectories agree to rounding."""

import numpy as np
import pytest
import torch
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.stress import voigt_6_to_full_3x3_stress

from eqpot.md import martyna_tobias_klein, nose_hoover
from eqpot.units import BOLTZMANN, FEMTOSECOND, GIGAPASCAL
from md_toys import conditions, make_state

pytest.importorskip("ase", minversion="3.26")  # what is compared with
from ase.md.nose_hoover_chain import IsotropicMTKNPT, NoseHooverChainNVT

TIMESTEP, TEMPERATURE, TAU, TAU_P, PRESSURE = 4.0, 600.0, 60.0, 300.0, 2.0
STEPS = 60


@pytest.fixture
def copper():
    """Hot and under pressure, so that chains and cell have much to do."""
    atoms = bulk("Cu", cubic=True) * 2
    atoms.rattle(0.05, seed=0)
    atoms.set_velocities(np.random.default_rng(0).normal(size=(32, 3)) * np.sqrt(BOLTZMANN * 900.0 / atoms.get_masses()[:, None]))
    atoms.calc = EMT()
    return atoms


def forces_of(atoms):
    atoms = atoms.copy()
    atoms.calc = EMT()

    def function(positions, cells):
        atoms.set_cell(cells[0].numpy())
        atoms.positions = positions.numpy()
        stress = voigt_6_to_full_3x3_stress(atoms.get_stress())
        energy = torch.tensor([atoms.get_potential_energy()], dtype=torch.float64)
        return energy, torch.tensor(atoms.get_forces()), torch.tensor(stress).unsqueeze(0)

    return function


def run(module, atoms, **settings):
    """Integrate with all 3 N degrees of freedom, as ASE counts them."""
    function = forces_of(atoms)
    given = (torch.tensor(values) for values in (atoms.positions, atoms.get_velocities(), atoms.get_masses()[:, None]))
    held = conditions(3 * len(atoms), TEMPERATURE, PRESSURE * GIGAPASCAL)
    state = module.init(make_state(*given, function, torch.tensor(atoms.cell.array).unsqueeze(0)), held)
    for _ in range(STEPS):
        state = module.step(state, function, TIMESTEP * FEMTOSECOND, held, TAU * FEMTOSECOND, **settings)
    return state


def test_nose_hoover_chains(copper):
    state = run(nose_hoover, copper)
    dynamics = NoseHooverChainNVT(copper, TIMESTEP * units.fs, temperature_K=TEMPERATURE, tdamp=TAU * units.fs)
    dynamics.run(STEPS)
    np.testing.assert_allclose(state.positions.numpy(), copper.positions, atol=1e-9)
    np.testing.assert_allclose(state.velocities.numpy(), copper.get_velocities(), atol=1e-9)
    assert abs(float(state.temperature(torch.tensor([3 * len(copper)]))[0]) - 900) > 20


def test_martyna_tobias_klein(copper):
    start = copper.get_volume()
    state = run(martyna_tobias_klein, copper, pressure_time=TAU_P * FEMTOSECOND, isotropic=True)
    times = {"tdamp": TAU * units.fs, "pdamp": TAU_P * units.fs}
    dynamics = IsotropicMTKNPT(copper, TIMESTEP * units.fs, temperature_K=TEMPERATURE, pressure_au=PRESSURE * units.GPa, **times)
    # The mass of the first link of the cell's chain is free to choose; ASE's is nine times ours, as if the cell had nine freedoms.
    dynamics._barostat._R[0] /= 9
    dynamics.run(STEPS)
    assert abs(copper.get_volume() / start - 1) > 0.01
    np.testing.assert_allclose(state.cells[0].numpy(), copper.cell.array, atol=1e-9)
    np.testing.assert_allclose(state.positions.numpy(), copper.positions, atol=1e-9)
    np.testing.assert_allclose(state.velocities.numpy(), copper.get_velocities(), atol=1e-9)
