"""What every network of every geometry and block must fulfil; A3, A11, A12, A13, A14, A21, A24."""

import numpy as np
import pytest
import torch
from ase import Atoms

from eqpot import load_potential, save_potential
from eqpot.data.batches import LabelledGraph
from eqpot.export.torchscript import export_torchscript
from eqpot.graph import collate
from eqpot.neighbors import build_graph
from eqpot.network.orientations import spherical_design
from eqpot.training.config import OptimizationConfig
from eqpot.training.loss import collate_samples, make_sample, make_step
from helpers import NETWORKS, crystal, ethanol, evaluate, random_potential, rotation_error

MOVED = ethanol()
MOVED.translate([100.0, 0.0, 0.0])


@pytest.fixture(params=NETWORKS.values(), ids=list(NETWORKS))
def potential(request):
    return random_potential(config=request.param)


@pytest.fixture(params=[name for name in NETWORKS if "pointwise" not in name])
def equivariant(request):
    return random_potential(config=NETWORKS[request.param])


def energy_of(potential, atoms) -> float:
    return float(evaluate(potential, atoms)["energy"][0])


def test_the_network_feels_the_structure(potential):
    """Or everything below would hold for a network that returns zero."""
    forces = evaluate(potential, ethanol())["forces"]
    assert abs(forces).max() > 0.05
    assert abs(forces).max(axis=1).min() > 1e-3


def test_a13_atoms_can_be_permuted(potential):
    atoms = ethanol()
    order = np.random.default_rng(0).permutation(len(atoms))
    original, permuted = evaluate(potential, atoms), evaluate(potential, atoms[order])
    assert abs(original["energy"] - permuted["energy"]) < 1e-10
    np.testing.assert_allclose(permuted["forces"], original["forces"][order], atol=1e-10)


def test_a13_structures_can_be_translated_and_wrapped(potential):
    for original in (ethanol(), crystal()):
        moved = original.copy()
        moved.translate([1.3, -0.7, 0.4])
        moved.wrap()
        a, b = evaluate(potential, original), evaluate(potential, moved)
        assert abs(a["energy"] - b["energy"]) < 1e-10
        np.testing.assert_allclose(b["forces"], a["forces"], atol=1e-10)


def test_a13_exact_networks_are_equivariant_to_rounding(equivariant):
    assert rotation_error(equivariant, ethanol()) < 1e-10
    assert rotation_error(equivariant, crystal()) < 1e-10


def test_two_blocks_see_neighbors_of_neighbors(potential):
    chain = [evaluate(potential, Atoms("OCH", [[0, 0, 0], [3, 0, 0], [x, 0, 0]]))["energies"][0] for x in (4.5, 5.0, 20.0)]
    assert min(abs(chain[0] - chain[1]), abs(chain[0] - chain[2])) > 1e-8


def test_energy_is_extensive(potential):
    assert energy_of(potential, ethanol() + MOVED) == pytest.approx(2 * energy_of(potential, ethanol()), abs=1e-10)
    assert energy_of(potential, crystal().repeat((2, 3, 1))) == pytest.approx(6 * energy_of(potential, crystal()), abs=1e-9)


def test_a14_atoms_without_neighbors(potential):
    alone = energy_of(potential, Atoms("O"))
    apart = evaluate(potential, Atoms("O2", [[0, 0, 0], [0, 0, 4.0]]))
    assert np.isfinite(alone)
    assert abs(apart["energy"] - 2 * alone) < 1e-12
    assert not apart["forces"].any()
    crowd = evaluate(potential, ethanol() + Atoms("O", [[50.0, 0, 0]]))
    assert crowd["energy"][0] == pytest.approx(energy_of(potential, ethanol()) + alone, abs=1e-10)
    assert evaluate(potential, Atoms())["energy"] == [0.0]


def test_a12_forces_and_curvature_are_continuous_at_the_cutoff(potential):
    def force(distance):
        return evaluate(potential, Atoms("OHH", [[0, 0, 0], [0.9, 0.2, 0], [0, 0, distance]]))["forces"][2, 2]

    slopes = [(force(4.0 + side * 2e-4) - force(4.0 + side * 1e-4)) / 1e-4 for side in (-1, 1)]
    assert abs(force(4.0 - 1e-3)) < 1e-4
    assert abs(slopes[0]) < 1e-3
    assert slopes[1] == 0


def test_a12_forces_are_smooth_across_a_grid_direction(potential):
    """Where an edge lines up with an orientation the paper's kernel has a cone; these must not."""
    direction = spherical_design(24)[5].numpy()
    across = np.cross(direction, [0.3, 0.5, 0.1])
    across /= np.linalg.norm(across)

    def structure(angle):
        neighbor = 1.3 * (np.cos(angle) * direction + np.sin(angle) * across)
        return Atoms("OCH", [[0, 0, 0], neighbor, [0.5, 0.9, -0.8]])

    step = 1e-4
    left, middle, right = (evaluate(potential, structure(angle))["forces"] for angle in (-step, 0.0, step))
    jump_of_slope = abs((right - middle) - (middle - left)).max() / step
    assert jump_of_slope < 1e-2 * abs(middle).max()
    check_hessian(potential, structure(0.0))


def test_a12_hessian_is_finite_and_symmetric_at_collinearity(potential):
    check_hessian(potential, Atoms("OCO", [[0, 0, -1.2], [0, 0, 0], [0, 0, 1.2]]))


def check_hessian(potential, atoms):
    graph = build_graph(atoms, potential.cutoff)
    positions = graph.positions.requires_grad_()
    forces = potential(positions, *graph.tensors()[1:], create_graph=True)["forces"].reshape(-1)
    hessian = torch.stack([torch.autograd.grad(-force, positions, retain_graph=True)[0].reshape(-1) for force in forces])
    assert torch.isfinite(hessian).all()
    assert torch.allclose(hessian, hessian.T, atol=1e-9)


def test_a11_forces_are_central_differences(potential):
    atoms = ethanol()
    forces = evaluate(potential, atoms)["forces"]
    numerical = np.zeros_like(forces)
    h = 1e-4
    for index in np.ndindex(forces.shape):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index] += sign * h
            energies.append(energy_of(potential, moved))
        numerical[index] = (energies[1] - energies[0]) / (2 * h)
    np.testing.assert_allclose(numerical, forces, rtol=0, atol=1e-6 * abs(forces).max())


def test_a3_stress_is_the_strain_derivative_of_the_energy(potential):
    atoms = crystal()
    stress = evaluate(potential, atoms)["stress"][0]
    strain_direction = np.random.default_rng(1).normal(size=(3, 3))
    strain_direction += strain_direction.T
    h = 1e-6
    energies = []
    for sign in (1, -1):
        strain = np.eye(3) + sign * h * strain_direction
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ strain, scale_atoms=True)
        energies.append(energy_of(potential, strained))
    numerical = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
    assert (stress * strain_direction).sum() == pytest.approx(numerical, rel=1e-6)


def test_a24_a_batch_equals_its_members(potential):
    members = [ethanol(), crystal(), Atoms("O"), crystal(pbc=[True, False, True]), Atoms("CC", [[0, 0, 0], [0, 0, 9]])]
    graphs = [build_graph(atoms, potential.cutoff) for atoms in members]
    together, alone = potential.evaluate(collate(graphs)), [potential.evaluate(graph) for graph in graphs]
    for name in ("energy", "energies", "forces", "stress"):
        torch.testing.assert_close(together[name], torch.cat([result[name] for result in alone]), rtol=0, atol=1e-10)


def test_torchscript_computes_the_same(potential, tmp_path):
    assert export_torchscript(potential, tmp_path / "p.pt") < 1e-10


def test_a21_a_file_gives_the_same_bits(potential, tmp_path):
    save_potential(potential, tmp_path / "p.safetensors")
    loaded = load_potential(tmp_path / "p.safetensors")
    potential.fuse()
    assert loaded.network.config == potential.network.config
    for name, value in evaluate(potential, ethanol()).items():
        np.testing.assert_array_equal(evaluate(loaded, ethanol())[name], value)


def test_float32_differs_by_rounding_and_a_round_trip_by_nothing_but_the_weights(potential):
    expected = evaluate(potential, ethanol())["forces"]
    single = evaluate(potential.float(), ethanol())["forces"]
    assert 0 < abs(single - expected).max() < 1e-4 * abs(expected).max()
    constants = dict(potential.double().network.named_buffers())
    for name, value in random_potential(config=potential.network.config).network.named_buffers():
        assert torch.equal(constants[name], value)


def test_the_gradient_of_the_training_loss_is_its_derivative(potential):
    """The loss holds forces and virials, so this differentiates twice."""
    samples = []
    for seed, atoms in enumerate((ethanol(), crystal(), Atoms("O"))):
        graph = build_graph(atoms, potential.cutoff)
        generator = torch.Generator().manual_seed(seed)
        labels = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in ((1,), (graph.n_atoms, 3), (1, 3, 3))]
        samples.append(
            make_sample(
                LabelledGraph(graph, *labels, *3 * [torch.ones(1, dtype=torch.bool)], torch.ones(1, dtype=torch.float64)), potential
            )
        )
    arguments = [torch.tensor([10.0, 1.0, 1.0]), *collate_samples(samples).tensors()]
    step = make_step(potential.network, OptimizationConfig(), with_stress=True)
    parameters = list(potential.network.parameters())
    generator = torch.Generator().manual_seed(9)
    direction = [torch.randn(parameter.shape, generator=generator, dtype=torch.float64) for parameter in parameters]
    gradient = step(parameters, *arguments)[1:]
    h = 1e-6
    losses = [float(step([a + sign * h * b for a, b in zip(parameters, direction, strict=True)], *arguments)[0]) for sign in (1, -1)]
    slope = float(sum((a * b).sum() for a, b in zip(gradient, direction, strict=True)))
    assert slope == pytest.approx((losses[0] - losses[1]) / (2 * h), rel=1e-6)
    assert all(part.abs().max() > 0 for part in gradient)
