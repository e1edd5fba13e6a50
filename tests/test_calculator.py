"""The ASE contract; A1, A5, A6, A15."""

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.lj import LennardJones
from ase.optimize import BFGS
from ase.outputs import all_outputs

from eqpot import EqpotCalculator
from eqpot.errors import ConfigError, UnknownElementError
from helpers import crystal, ethanol


@pytest.fixture
def calculator(model_path):
    return EqpotCalculator(model_path, dtype="float64")


def test_a1_results_have_the_types_and_shapes_of_ase(model_path):
    shapes = {"energy": (), "free_energy": (), "energies": (2,), "forces": (2, 3), "stress": (6,)}
    for dtype in ("float32", "float64"):
        atoms = crystal()
        atoms.calc = EqpotCalculator(str(model_path), dtype=dtype)
        atoms.get_stress()
        assert set(atoms.calc.results) == {"energy", "free_energy", "energies", "forces", "stress"}
        for name, value in atoms.calc.results.items():
            assert name in all_outputs
            assert np.shape(value) == shapes[name]
            assert np.asarray(value).dtype == np.float64
        assert atoms.get_potential_energy(force_consistent=True) == atoms.get_potential_energy()


def test_forces_and_stress_equal_ase_finite_differences(calculator):
    molecule, solid = ethanol(), crystal().repeat((2, 1, 1))
    solid.rattle(0.05, seed=0)
    molecule.calc = solid.calc = calculator
    for atoms in (molecule, solid):
        np.testing.assert_allclose(atoms.get_forces(), calculate_numerical_forces(atoms, 1e-4), atol=1e-6 * abs(atoms.get_forces()).max())
    stress = solid.get_stress()
    np.testing.assert_allclose(stress, calculate_numerical_stress(solid, 1e-5), atol=1e-6 * abs(stress).max())


def test_a3_stress_has_the_sign_of_ase_calculators(calculator):
    """Atoms pressed together push outwards; in ASE that is negative stress."""
    dense = Atoms("C", cell=[1.1, 1.1, 1.1], pbc=True)
    dense.calc = LennardJones(sigma=1.5, rc=4.0)
    assert dense.get_stress()[0] < 0
    for calc in (LennardJones(sigma=1.5, rc=4.0), calculator):
        dense.calc = calc
        numerical = calculate_numerical_stress(dense, 1e-5)
        assert np.sign(dense.get_stress()[0]) == np.sign(numerical[0])


def test_a6_stress_exists_where_the_cell_has_a_volume(calculator):
    molecule = ethanol()
    molecule.calc = calculator
    molecule.get_forces()
    with pytest.raises(PropertyNotImplementedError, match="no stress"):
        molecule.get_stress()
    slab = crystal(pbc=[True, True, False])
    slab.calc = calculator
    assert slab.get_stress().shape == (6,)
    slab.cell[2] = 0
    with pytest.raises(PropertyNotImplementedError):
        slab.get_stress()


def test_results_follow_the_structure(calculator):
    atoms = crystal()
    atoms.calc = calculator
    energies = [atoms.get_potential_energy()]
    atoms.positions[0, 0] += 0.1
    energies.append(atoms.get_potential_energy())
    atoms.set_cell(atoms.cell * 1.01)
    energies.append(atoms.get_potential_energy())
    atoms.pbc = [True, False, True]
    energies.append(atoms.get_potential_energy())
    atoms.numbers[0] = 1
    energies.append(atoms.get_potential_energy())
    assert len(set(energies)) == 5


def test_a5_the_structure_is_not_changed_and_needs_no_cell(calculator):
    atoms = ethanol()
    before = atoms.copy()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    assert atoms == before
    atoms.translate([100.0, -50.0, 3.0])
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-9)


def test_arguments_are_json_and_kept(model_path):
    calc = EqpotCalculator(str(model_path), device="cpu", dtype="float64")
    assert calc.todict() == {"model": str(model_path), "device": "cpu", "dtype": "float64"}


def test_parameters_that_do_not_exist_are_refused_and_changed_ones_are_used(model_path):
    with pytest.raises(TypeError):
        EqpotCalculator(model_path, dtyp="float64")
    calc = EqpotCalculator(model_path)
    with pytest.raises(ConfigError, match="no parameter skin"):
        calc.set(skin=1.0)
    atoms = ethanol()
    atoms.calc = calc
    single = atoms.get_potential_energy()
    calc.set(dtype="float64")
    assert calc.potentials[0].dtype == torch.float64
    assert 0 < abs(atoms.get_potential_energy() - single) < 1e-4


def test_forces_do_not_depend_on_the_callers_grad_mode(calculator):
    atoms = ethanol()
    atoms.calc = calculator
    expected = atoms.get_forces()
    for mode in (torch.no_grad(), torch.inference_mode()):
        calculator.reset()
        with mode:
            np.testing.assert_array_equal(atoms.get_forces(), expected)


def test_a15_unknown_element(calculator):
    atoms = Atoms("Au")
    atoms.calc = calculator
    with pytest.raises(UnknownElementError, match="Au"):
        atoms.get_potential_energy()


def test_an_optimizer_finds_a_minimum(calculator):
    atoms = ethanol()
    atoms.calc = calculator
    start = atoms.get_potential_energy()
    BFGS(atoms, logfile=None).run(fmax=1e-3, steps=20)
    assert atoms.get_potential_energy() < start


def test_a19b_energies_alone_leave_the_forces_for_later(calculator):
    atoms = crystal()
    atoms.calc = calculator
    energy = atoms.get_potential_energy()
    assert set(calculator.results) == {"energy", "free_energy", "energies"}
    forces, stress = atoms.get_forces(), atoms.get_stress()
    assert forces.shape == (2, 3)
    assert stress.shape == (6,)
    assert atoms.get_potential_energy() == pytest.approx(energy, abs=1e-10)
