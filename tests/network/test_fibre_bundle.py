"""Symmetry and smoothness of the network; A12, A13, A14."""

import numpy as np
import pytest
import torch
from ase import Atoms
from pydantic import ValidationError
from scipy.spatial.transform import Rotation

from eqpot.neighbors import build_graph
from eqpot.network import config as network_config
from eqpot.network.config import NetworkConfig
from helpers import SMALL, crystal, ethanol, random_potential

TWELVE = SMALL.model_copy(update={"n_orientations": 12, "feature_degree": 1, "kernel_degree": 2})
FORTY_EIGHT = SMALL.model_copy(update={"n_orientations": 48, "feature_degree": 3})
THREE_BLOCKS = SMALL.model_copy(update={"n_blocks": 3})
ONE_BLOCK = SMALL.model_copy(update={"n_blocks": 1})


def evaluate(potential, atoms):
    result = potential.evaluate(build_graph(atoms, potential.cutoff))
    return {name: value.numpy() for name, value in result.items()}


def rotation_error(potential, atoms) -> float:
    """Largest change of the network's energy and forces under rotations and reflections, relative to their size."""
    reference = evaluate(potential, atoms)
    offset = potential.reference_energies[potential.species_of_number[torch.tensor(atoms.numbers)]].sum().item()
    worst = 0.0
    for seed in range(10):
        matrix = Rotation.random(rng=np.random.default_rng(seed)).as_matrix() * (-1) ** seed
        turned = atoms.copy()
        turned.positions = atoms.positions @ matrix.T
        turned.cell = atoms.cell.array @ matrix.T
        result = evaluate(potential, turned)
        energy_error = abs(result["energy"][0] - reference["energy"][0]) / abs(reference["energy"][0] - offset)
        force_error = abs(result["forces"] - reference["forces"] @ matrix.T).max() / abs(reference["forces"]).max()
        worst = max(worst, energy_error, force_error)
    return worst


@pytest.mark.parametrize(
    "config", [SMALL, TWELVE, FORTY_EIGHT, THREE_BLOCKS, ONE_BLOCK], ids=["24", "12", "48", "three blocks", "one block"]
)
def test_a13_energy_and_forces_are_equivariant_to_rounding(config):
    potential = random_potential(config=config)
    assert rotation_error(potential, ethanol()) < 1e-10
    assert rotation_error(potential, crystal()) < 1e-10


def test_equivariance_is_lost_on_a_design_of_too_low_degree(monkeypatch):
    monkeypatch.setitem(network_config.DESIGN_DEGREES, 12, 7)
    potential = random_potential(config=SMALL.model_copy(update={"n_orientations": 12}))
    assert rotation_error(potential, ethanol()) > 1e-4


def test_a_configuration_that_is_not_equivariant_is_refused():
    with pytest.raises(ValidationError, match="design of degree 7, and 12 points have degree 5"):
        NetworkConfig(n_orientations=12)
    with pytest.raises(ValidationError, match="cannot contribute"):
        NetworkConfig(feature_degree=1, kernel_degree=3)


def test_a13_atoms_of_one_element_can_be_permuted():
    potential, atoms = random_potential(), ethanol()
    order = np.random.default_rng(0).permutation(len(atoms))
    original, permuted = evaluate(potential, atoms), evaluate(potential, atoms[order])
    assert abs(original["energy"] - permuted["energy"]) < 1e-10
    np.testing.assert_allclose(permuted["forces"], original["forces"][order], atol=1e-10)


def test_energy_is_extensive():
    potential = random_potential()
    far = ethanol()
    far.translate([100.0, 0.0, 0.0])
    pair, single = evaluate(potential, ethanol() + far), evaluate(potential, ethanol())
    assert abs(pair["energy"] - 2 * single["energy"]) < 1e-10
    cell = crystal()
    repeated = evaluate(potential, cell.repeat((2, 3, 1)))
    assert abs(repeated["energy"] - 6 * evaluate(potential, cell)["energy"]) < 1e-9


def test_a14_atom_beyond_the_cutoff_is_an_isolated_atom():
    potential = random_potential()
    alone = evaluate(potential, Atoms("O"))
    apart = evaluate(potential, Atoms("O2", [[0, 0, 0], [0, 0, 4.0]]))
    assert abs(apart["energy"] - 2 * alone["energy"]) < 1e-12
    assert not apart["forces"].any()


def test_a12_forces_and_curvature_are_continuous_at_the_cutoff():
    potential = random_potential()

    def force(distance):
        return evaluate(potential, Atoms("OHH", [[0, 0, 0], [0.9, 0.2, 0], [0, 0, distance]]))["forces"][2, 2]

    slopes = [(force(4.0 + side * 2e-4) - force(4.0 + side * 1e-4)) / 1e-4 for side in (-1, 1)]
    assert abs(force(4.0 - 1e-3)) < 1e-4
    assert abs(slopes[0]) < 1e-3
    assert slopes[1] == 0


def test_a12_forces_are_smooth_across_a_grid_direction():
    """Where an edge lines up with an orientation the paper's kernel has a cone; this one must not."""
    potential = random_potential()
    direction = potential.network.grid.exact_orientations[5].numpy()
    across = np.cross(direction, [0.3, 0.5, 0.1])
    across /= np.linalg.norm(across)

    def forces(angle):
        neighbor = 1.3 * (np.cos(angle) * direction + np.sin(angle) * across)
        return evaluate(potential, Atoms("OCH", [[0, 0, 0], neighbor, [0.5, 0.9, -0.8]]))["forces"]

    step = 1e-4
    left, middle, right = (forces(angle) for angle in (-step, 0.0, step))
    jump_of_slope = abs((right - middle) - (middle - left)).max() / step
    assert jump_of_slope < 1e-2
    assert np.isfinite(middle).all()


def test_hessian_is_finite_and_symmetric_at_collinearity():
    potential = random_potential()
    graph = build_graph(Atoms("OCO", [[0, 0, -1.2], [0, 0, 0], [0, 0, 1.2]]), potential.cutoff)
    positions = graph.positions.requires_grad_()
    forces = potential(positions, *graph.tensors()[1:], create_graph=True)["forces"].reshape(-1)
    hessian = torch.stack([torch.autograd.grad(-force, positions, retain_graph=True)[0].reshape(-1) for force in forces])
    assert torch.isfinite(hessian).all()
    assert torch.allclose(hessian, hessian.T, atol=1e-9)


def test_change_of_precision_loses_nothing():
    potential = random_potential()
    expected = evaluate(potential, ethanol())["energy"]
    exact = potential.network.grid.synthesis.clone()
    potential.float().double()
    assert torch.equal(potential.network.grid.synthesis, exact)
    assert potential.reference_energies.dtype == torch.float64
    assert rotation_error(potential, ethanol()) < 1e-10
    assert abs(evaluate(potential, ethanol())["energy"] - expected) < 1e-2
