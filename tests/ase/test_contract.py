"""ASE's contract, checked by ASE's own functions and tests where they can be imported; A1, A3."""

import importlib
from types import SimpleNamespace

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.calculators.fd import FiniteDifferenceCalculator
from ase.calculators.singlepoint import SinglePointCalculator
from ase.calculators.test import gradient_test
from ase.outputs import Properties, all_outputs

from eqpot import EqpotCalculator
from eqpot.model_file import save_potential
from helpers import ROOT, crystal, ethanol, random_potential


def of_ase(module):
    """A module of ASE's test suite, where this ASE has it."""
    return pytest.importorskip(f"ase.test.{module}", exc_type=ImportError)


@pytest.fixture(autouse=True, scope="module")
def marks_of_ase(pytestconfig):
    """Unknown marks are errors here, and ASE's modules set theirs when they are imported."""
    for mark in ("calculator", "calculator_lite", "optimize"):
        pytestconfig.addinivalue_line("markers", f"{mark}: of ASE's tests")


@pytest.fixture
def calculator(model_path):
    return EqpotCalculator(model_path, dtype="float64")


@pytest.fixture(scope="module")
def metals(tmp_path_factory):
    """For the elements of ASE's tests, which use EMT."""
    path = tmp_path_factory.mktemp("metals") / "metals.safetensors"
    save_potential(random_potential(elements=(1, 28, 29)), path)
    return EqpotCalculator(path, dtype="float64")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("atoms", [crystal(), crystal(pbc=[True, True, False]), Atoms("O", cell=[9, 9, 9]), Atoms()], ids=len)
def test_a1_ase_accepts_all_results(model_path, dtype, atoms):
    calculator = EqpotCalculator(model_path, dtype=dtype)
    names = ["energy", "free_energy", "energies", "forces"] + (["stress", "stresses"] if atoms.cell.volume else [])
    atoms.calc = calculator
    properties = atoms.get_properties(names)
    assert set(properties) == {*names, "natoms"}
    assert properties["natoms"] == len(atoms)
    for name in names:
        np.testing.assert_array_equal(properties[name], calculator.results[name])
        assert np.asarray(calculator.results[name]).dtype == all_outputs[name].dtype
    assert isinstance(calculator.export_properties(), Properties)
    assert len(Properties(calculator.results)) == len(properties)


@pytest.mark.parametrize(
    "atoms", [ethanol(), crystal().repeat((2, 1, 1)), crystal(pbc=[True, True, False])], ids=["molecule", "triclinic crystal", "slab"]
)
def test_a3_forces_and_stress_equal_ases_finite_differences(calculator, atoms):
    has_volume = atoms.cell.volume > 0
    atoms.rattle(0.05, seed=0)
    numerical = FiniteDifferenceCalculator(calculator, eps_disp=1e-4, eps_strain=1e-5 if has_volume else None)
    if has_volume:
        stress = calculator.get_stress(atoms)
        np.testing.assert_allclose(numerical.get_stress(atoms), stress, rtol=0, atol=1e-6 * abs(stress).max())
    else:
        # It asks for the stress in any case; a molecule in a box has one.
        atoms.center(vacuum=5.0)
    forces = calculator.get_forces(atoms)
    np.testing.assert_allclose(numerical.get_forces(atoms), forces, rtol=0, atol=1e-6 * abs(forces).max())
    assert numerical.get_potential_energy(atoms) == calculator.get_potential_energy(atoms)


@pytest.mark.parametrize("name", ["ethanol", "silicon"])
def test_a3_shipped_potentials_equal_ases_finite_differences(name):
    atoms = ase.io.read(ROOT / "potentials" / name / "structure.extxyz")
    if name == "silicon":
        atoms = bulk("Si", cubic=True)
        atoms.set_cell(atoms.cell @ [[1.02, 0.05, 0], [0, 0.97, 0.03], [0.01, 0, 1.0]], scale_atoms=True)
    else:
        atoms.center(vacuum=4.0)
    atoms.rattle(0.05, seed=0)
    calculator = EqpotCalculator(ROOT / "potentials" / name / "potential.safetensors", dtype="float64")
    numerical = FiniteDifferenceCalculator(calculator, eps_disp=1e-4, eps_strain=1e-5)
    for result in ("forces", "stress"):
        expected = calculator.get_property(result, atoms)
        np.testing.assert_allclose(numerical.get_property(result, atoms), expected, rtol=0, atol=1e-6 * abs(expected).max())


def test_a11_ases_gradient_test_prints_a_floor(calculator, capsys):
    atoms = ethanol()
    atoms.calc = calculator
    gradient_test(atoms, indices=[0, 3])
    errors = [float(line.split()[1]) for line in capsys.readouterr().out.splitlines()[1:]]
    floor = int(np.argmin(errors))
    assert len(errors) == 8
    assert errors[floor] < 1e-8
    assert 2 <= floor <= 6
    assert errors[1] / errors[2] > 50


def test_a1_compressed_matter_has_the_sign_and_size_of_dft():
    """Silicon with one lattice vector shortened by 15 %, beside the consensus of DFT codes that ASE's tests hold."""
    reference = of_ase("calculator.test_si_stress").ref_stress
    atoms = bulk("Si")
    atoms.calc = EqpotCalculator(ROOT / "potentials" / "silicon" / "potential.safetensors")
    atoms.cell[0] *= 0.85
    stress = atoms.get_stress()
    assert stress == pytest.approx(reference, rel=0.25)
    assert stress[1] == pytest.approx(stress[2], rel=0.01)
    assert stress[4] == pytest.approx(stress[5], rel=0.01)


def test_get_property_and_calculation_required(calculator):
    atoms = crystal()
    assert calculator.calculation_required(atoms, ["energy"])
    assert calculator.get_property("energy", atoms, allow_calculation=False) is None
    energy = calculator.get_property("energy", atoms)
    assert calculator.get_property("energy", atoms, allow_calculation=False) == energy
    assert not calculator.calculation_required(atoms, ["energy", "energies"])
    assert calculator.calculation_required(atoms, ["energy", "forces"])
    assert calculator.get_property("forces", atoms, allow_calculation=False) is None
    # Without atoms, those of the last calculation.
    assert calculator.get_property("forces").shape == (2, 3)
    assert calculator.get_atoms() == atoms
    for name in ("dipole", "charges", "magmoms"):
        with pytest.raises(PropertyNotImplementedError):
            calculator.get_property(name, atoms, allow_calculation=False)
    calculator.calculate(atoms, ["energy"], all_changes)
    assert calculator.results["energy"] == energy


def test_results_survive_in_a_single_point_calculator(calculator):
    atoms = crystal()
    atoms.calc = calculator
    atoms.get_stresses()
    frozen = atoms.copy()
    frozen.calc = SinglePointCalculator(atoms, **calculator.results)
    for name, value in calculator.results.items():
        np.testing.assert_array_equal(frozen.calc.get_property(name, frozen), value)
    frozen.positions += 0.1
    with pytest.raises(PropertyNotImplementedError):
        frozen.get_forces()


def test_constraints_and_ideal_gas_are_ases_business(calculator):
    of_ase("test_stress").test_stress_voigt_shape(crystal_with(calculator))


def crystal_with(calculator):
    atoms = crystal()
    atoms.set_momenta(np.ones((2, 3)))
    atoms.calc = calculator
    return atoms


@pytest.mark.parametrize(
    ("module", "name"),
    [
        ("test_potential_energies", "test_potential_energies"),
        ("test_singlepointcalc", "test_singlepointcalc"),
        ("calculator.test_fd", "test_analytical_forces"),
        ("calculator.test_fd", "test_analytical_stress"),
    ],
)
def test_ases_tests_of_emt_pass(metals, tmp_path, monkeypatch, module, name):
    monkeypatch.chdir(tmp_path)
    tests = of_ase(module)
    monkeypatch.setattr(tests, "EMT", lambda: metals)
    atoms = bulk("Cu", cubic=True)
    atoms.rattle(0.1)
    function = getattr(tests, name)
    known = {"atoms": atoms, "testdir": tmp_path}
    function(**{argument: known[argument] for argument in function.__code__.co_varnames[: function.__code__.co_argcount]})


def test_ases_tests_of_trajectories_and_checkpoints_pass(calculator, metals, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    of_ase("calculator.test_traj").test_h2_traj(SimpleNamespace(calc=lambda: calculator), tmp_path)
    of_ase("test_checkpoint").rattle_calc(bulk("Cu"), metals)


def test_ase_knows_no_option_that_the_calculator_does_not(model_path):
    """Options of other calculators must not pass in silence."""
    for option in ("restart", "label", "atoms", "directory", "cutoff"):
        with pytest.raises(TypeError):
            EqpotCalculator(model_path, **{option: None})
    assert importlib.import_module("eqpot").EqpotCalculator(model_path).name == "eqpot"
