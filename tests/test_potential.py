"""Energies, forces and stress; A2, A3, A6, A11, A15, A20, A24, A25."""

import numpy as np
import pytest
import torch
from ase import Atoms

from eqpot.errors import ConfigError, UnknownElementError
from eqpot.graph import collate, edge_vectors
from eqpot.neighbors import build_graph
from eqpot.potential import Potential
from helpers import crystal, ethanol, random_potential


def evaluate(potential, atoms):
    return {name: value.numpy() for name, value in potential.evaluate(build_graph(atoms, potential.cutoff)).items()}


def energy_of(potential, atoms) -> float:
    return float(evaluate(potential, atoms)["energy"][0])


STRUCTURES = {
    "molecule": ethanol(),
    "crystal": crystal(),
    "slab": crystal(pbc=[True, True, False]),
    "wire": crystal(pbc=[False, False, True]),
}


@pytest.mark.parametrize("atoms", STRUCTURES.values(), ids=STRUCTURES)
def test_a11_force_is_minus_the_gradient_of_the_energy(atoms):
    """The error of central differences falls as h^2 and then rises as 1 / h; its floor is rounding."""
    potential = random_potential()
    forces = evaluate(potential, atoms)["forces"]
    direction = np.random.default_rng(0).normal(size=forces.shape)
    direction /= np.linalg.norm(direction)
    expected = -(forces * direction).sum()
    errors = []
    for h in 10.0 ** np.arange(-1, -9, -1):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions += sign * h * direction
            energies.append(energy_of(potential, moved))
        errors.append(abs((energies[0] - energies[1]) / (2 * h) - expected))
    floor = int(np.argmin(errors))
    assert errors[floor] < 1e-8
    assert 2 <= floor <= 6
    assert errors[1] / errors[2] > 50
    assert errors[-1] > errors[floor]


@pytest.mark.parametrize("name", ["crystal", "slab", "wire"])
def test_a3_stress_is_the_strain_derivative_of_the_energy(name):
    potential, atoms = random_potential(), STRUCTURES[name]
    stress = evaluate(potential, atoms)["stress"][0]
    assert np.array_equal(stress, stress.T)
    h = 1e-5
    for i in range(3):
        for j in range(3):
            energies = []
            for sign in (1, -1):
                strain = np.eye(3)
                strain[i, j] += sign * h / 2
                strain[j, i] += sign * h / 2
                strained = atoms.copy()
                strained.set_cell(atoms.cell.array @ strain, scale_atoms=False)
                strained.positions = atoms.positions @ strain
                energies.append(energy_of(potential, strained))
            numerical = (energies[0] - energies[1]) / (2 * h) / atoms.get_volume()
            assert stress[i, j] == pytest.approx(numerical, rel=1e-6, abs=1e-6 * abs(stress).max())


def test_a6_a_structure_without_volume_has_zero_stress_in_the_tensor_and_open_directions_do_not_matter():
    potential = random_potential()
    assert not evaluate(potential, ethanol())["stress"].any()
    boxed = ethanol()
    boxed.set_cell([30, 30, 30])
    assert evaluate(potential, boxed)["energy"] == pytest.approx(evaluate(potential, ethanol())["energy"], abs=1e-12)


def test_a2_energies_sum_to_the_energy_and_hold_the_reference_energies_once():
    potential = random_potential()
    result = evaluate(potential, ethanol())
    assert result["energies"].sum() == pytest.approx(result["energy"][0], abs=1e-10)
    shifted = Potential(potential.network, potential.elements, potential.reference_energies + 1.0, 1.2)
    assert energy_of(shifted, ethanol()) == pytest.approx(result["energy"][0] + 9, abs=1e-10)


def test_net_force_and_torque_vanish():
    potential, atoms = random_potential(), ethanol()
    forces = evaluate(potential, atoms)["forces"]
    assert abs(forces.sum(axis=0)).max() < 1e-12
    assert abs(np.cross(atoms.positions, forces).sum(axis=0)).max() < 1e-11


def test_a24_a_batch_equals_its_members_whatever_the_order():
    potential = random_potential()
    members = [*STRUCTURES.values(), Atoms("O"), Atoms("CC", [[0, 0, 0], [0, 0, 9]])]
    for order in (range(6), [3, 5, 0, 4, 2, 1]):
        chosen = [members[i] for i in order]
        batch = collate([build_graph(atoms, potential.cutoff) for atoms in chosen])
        together = potential.evaluate(batch)
        alone = [potential.evaluate(build_graph(atoms, potential.cutoff)) for atoms in chosen]
        for name in ("energy", "energies", "forces", "stress"):
            torch.testing.assert_close(together[name], torch.cat([result[name] for result in alone]), rtol=0, atol=1e-10)


def test_a20_float32_differs_by_rounding_only_and_changes_no_global_state():
    default, threads, state = torch.get_default_dtype(), torch.get_num_threads(), torch.random.get_rng_state()
    double = random_potential()
    torch.random.set_rng_state(state)
    single = random_potential(dtype=torch.float32)
    torch.random.set_rng_state(state)
    a, b = evaluate(double, ethanol()), evaluate(single, ethanol())
    assert b["forces"].dtype == np.float64
    assert 0 < abs(a["forces"] - b["forces"]).max() < 1e-4 * abs(a["forces"]).max()
    # A25: both live in one process.
    np.testing.assert_array_equal(evaluate(double, ethanol())["forces"], a["forces"])
    assert torch.get_default_dtype() == default
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.random.get_rng_state(), state)


def test_a15_unknown_elements_are_named():
    with pytest.raises(UnknownElementError, match="holds N, Fe,.*knows H, C, O"):
        random_potential().evaluate(build_graph(Atoms("NFeO", [[0, 0, 0], [0, 0, 2], [0, 2, 0]]), 4.0))


def test_empty_structure_has_zero_energy():
    result = evaluate(random_potential(), Atoms())
    assert result["energy"] == [0.0]
    assert result["forces"].shape == (0, 3)


def test_parts_that_do_not_fit_are_refused():
    network = random_potential().network
    with pytest.raises(ConfigError, match="2 elements, 3 reference energies and a network for 3"):
        Potential(network, [1, 6], torch.zeros(3), 1.0)


def test_batches_of_batches_are_batches():
    graphs = [build_graph(atoms, 4.0) for atoms in STRUCTURES.values()]
    for nested, flat in zip(collate([collate(graphs[:3]), *graphs[3:]]).tensors(), collate(graphs).tensors(), strict=True):
        assert torch.equal(nested, flat)


def test_what_the_caller_gives_stays_the_callers():
    references = torch.tensor([-1.0, -2.0, -3.0], dtype=torch.float64)
    potential, graph = Potential(random_potential().network, [1, 6, 8], references, 1.2), build_graph(ethanol(), 4.0)
    references.zero_()
    assert potential.reference_energies.tolist() == [-1, -2, -3]
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
    potential.energies_and_gradient(vectors, graph.numbers, graph.edge_index)
    assert not vectors.requires_grad
