"""Second derivatives; A12."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.vibrations.data import VibrationsData

from eqpot import EqpotCalculator, hessian
from eqpot.compress import compress
from eqpot.model_file import save_potential
from eqpot.neighbors import build_graph
from eqpot.network.orientations import spherical_design
from helpers import NETWORKS, ROOT, crystal, ethanol, random_potential

STRUCTURES = {
    "molecule": ethanol(),
    "crystal smaller than the cutoff": crystal(),
    "slab": crystal(pbc=[True, True, False]).repeat((2, 1, 1)),
}


@pytest.fixture
def calculator(model_path):
    return EqpotCalculator(model_path, dtype="float64")


def numerical_hessian(calculator, atoms, step=1e-3):
    """Fourth-order central differences of the forces."""
    result = np.zeros((len(atoms), 3, len(atoms), 3))
    for index in np.ndindex(len(atoms), 3):
        for weight, shift in ((-8, 1), (8, -1), (1, 2), (-1, -2)):
            moved = atoms.copy()
            moved.positions[index] += shift * step
            result[index] += weight * calculator.get_forces(moved) / (12 * step)
    return result


def check(calculator, atoms, tolerance=1e-6):
    analytic, numerical = calculator.get_hessian(atoms), numerical_hessian(calculator, atoms)
    np.testing.assert_allclose(analytic, numerical, rtol=0, atol=tolerance * abs(numerical).max())


@pytest.mark.parametrize("name", STRUCTURES)
def test_hessian_is_the_derivative_of_the_forces(calculator, name):
    check(calculator, STRUCTURES[name])


@pytest.mark.parametrize("name", NETWORKS)
def test_every_network_has_one(tmp_path, name):
    save_potential(random_potential(config=NETWORKS[name]), tmp_path / "p.safetensors")
    check(EqpotCalculator(tmp_path / "p.safetensors", dtype="float64"), crystal())


def test_a_compressed_potential_has_one(tmp_path, model_path):
    compress(model_path, tmp_path / "c.safetensors", [build_graph(ethanol(), 4.0)])
    check(EqpotCalculator(tmp_path / "c.safetensors", dtype="float64"), ethanol())


@pytest.mark.parametrize("name", ["ethanol", "silicon"])
def test_shipped_potentials_have_one(name):
    atoms = ase.io.read(ROOT / "potentials" / name / "structure.extxyz")
    if name == "silicon":
        atoms = Atoms("Si2", scaled_positions=[[0, 0, 0], [0.26, 0.24, 0.25]], cell=2.75 * (1 - np.eye(3)), pbc=True)
    calculator = EqpotCalculator(ROOT / "potentials" / name / "potential.safetensors", dtype="float64")
    check(calculator, atoms)
    single = EqpotCalculator(ROOT / "potentials" / name / "potential.safetensors")
    hessian = calculator.get_hessian(atoms)
    assert single.get_hessian(atoms).dtype == np.float64
    assert 0 < abs(single.get_hessian(atoms) - hessian).max() < 1e-4 * abs(hessian).max()


@pytest.mark.parametrize("name", STRUCTURES)
def test_symmetry_and_acoustic_sum_rule(calculator, name):
    hessian = calculator.get_hessian(STRUCTURES[name])
    np.testing.assert_array_equal(hessian, hessian.transpose(2, 3, 0, 1))
    assert abs(hessian.sum(axis=2)).max() < 1e-12 * abs(hessian).max()


def test_rotation_rule_of_an_open_structure(calculator):
    """Turning a molecule turns its forces: H (n x r) = - n x F for every axis n."""
    atoms = ethanol()
    hessian, forces = calculator.get_hessian(atoms), calculator.get_forces(atoms)
    for axis in np.eye(3):
        turned = np.einsum("iajb,jb->ia", hessian, np.cross(axis, atoms.positions))
        np.testing.assert_allclose(turned, -np.cross(axis, forces), atol=1e-10)


def test_memory_bound_changes_nothing_but_rounding(calculator, monkeypatch):
    """A vector at a time, or all at once."""
    matrices = []
    for limit in (1, 1 << 40):
        monkeypatch.setattr(hessian, "_BATCH_BYTES", limit)
        matrices.append(calculator.get_hessian(ethanol()))
    np.testing.assert_allclose(*matrices, rtol=0, atol=1e-12)


def test_vectors_go_together_only_as_far_as_memory_allows(calculator, monkeypatch):
    sizes = []
    grad = torch.autograd.grad

    def spy(outputs, inputs, grad_outputs=None, **options):
        sizes.append(len(grad_outputs) if grad_outputs is not None else 0)
        return grad(outputs, inputs, grad_outputs, **options)

    calculator.get_forces(ethanol())
    monkeypatch.setattr(torch.autograd, "grad", spy)
    for limit, largest in ((1, 1), (1 << 40, 27)):
        monkeypatch.setattr(hessian, "_BATCH_BYTES", limit)
        sizes.clear()
        calculator.get_hessian(ethanol())
        assert max(sizes) == largest
        assert sum(sizes) == 27


def test_grad_mode_results_and_later_calls_are_untouched(calculator):
    atoms, potential = ethanol(), calculator.potentials[0]
    energy, expected = calculator.get_potential_energy(atoms), calculator.get_hessian(atoms)
    for mode in (torch.no_grad(), torch.inference_mode()):
        with mode:
            np.testing.assert_array_equal(calculator.get_hessian(), expected)
    with torch.no_grad():
        np.testing.assert_array_equal(hessian.hessian(potential, build_graph(atoms, potential.cutoff)).numpy(), expected)
    assert set(calculator.results) == {"energy", "free_energy", "energies"}
    assert calculator.get_potential_energy(atoms) == energy


def test_vibrations_data_takes_it(calculator):
    atoms = ethanol()
    data = VibrationsData(atoms, calculator.get_hessian(atoms))
    assert len(data.get_energies()) == 27
    np.testing.assert_array_equal(data.get_hessian(), calculator.get_hessian(atoms))


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-4])
def test_a12_forces_are_continuous_and_the_hessian_finite_at_collinearity(calculator, angle):
    def structure(angle):
        return Atoms("OCO", [[0, 0, -1.2], [0, 0, 0], [0, 1.2 * np.sin(angle), 1.2 * np.cos(angle)]])

    straight = calculator.get_forces(structure(0.0))
    hessian = calculator.get_hessian(structure(angle))
    assert np.isfinite(hessian).all()
    largest = abs(hessian).max()
    assert abs(calculator.get_forces(structure(angle)) - straight).max() <= 3 * largest * 1.2 * angle
    np.testing.assert_allclose(hessian, calculator.get_hessian(structure(0.0)), atol=30 * largest * angle + 1e-10)


def test_a12_hessian_is_continuous_across_every_grid_direction(calculator):
    for direction in spherical_design(24).numpy():
        across = np.cross(direction, [0.3, 0.5, 0.1])
        across /= np.linalg.norm(across)

        def structure(angle, direction=direction, across=across):
            return Atoms("OCH", [[0, 0, 0], 1.3 * (np.cos(angle) * direction + np.sin(angle) * across), [0.5, 0.9, -2.8]])

        left, middle, right = (calculator.get_hessian(structure(angle)) for angle in (-1e-6, 0.0, 1e-6))
        assert np.isfinite(middle).all()
        assert max(abs(left - middle).max(), abs(right - middle).max()) < 1e-4 * abs(middle).max()


def test_a12_hessian_is_continuous_at_the_cutoff(calculator):
    """The window vanishes with two derivatives there."""
    inside, outside = (calculator.get_hessian(Atoms("OHH", [[0, 0, 0], [0.9, 0.2, 0], [0, 0, 4.0 + shift]])) for shift in (-1e-6, 1e-6))
    np.testing.assert_allclose(inside, outside, atol=1e-5 * abs(outside).max())
    assert not outside[2].any()
