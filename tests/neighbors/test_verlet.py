"""Skin lists; A7."""

import os
import pickle

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from eqpot.errors import ConfigError, NeighborError
from eqpot.graph import collate
from eqpot.neighbors import VerletList, build_graph, neighbor_list
from eqpot.neighbors import verlet as verlet_module

STEPS = int(os.environ.get("EQPOT_STEPS", "2000"))
"""Steps of the random walks; `make zoo` runs many more."""
CUTOFF = 3.0


def silicon(n=2, seed=0):
    atoms = bulk("Si", cubic=True) * (n, n, n)
    atoms.rattle(0.1, seed=seed)
    return atoms


def assert_fresh(verlet, atoms):
    (edge_index, shifts), graph = neighbor_list(atoms, verlet.cutoff), verlet.graph(atoms)
    np.testing.assert_array_equal(graph.edge_index, edge_index)
    np.testing.assert_array_equal(graph.shifts, shifts)


def step(atoms, random, size):
    """Move every atom, some of them by lattice vectors too, and now and then shear the cell with or without its atoms."""
    atoms.positions += random.normal(size=atoms.positions.shape) * size
    kind = random.integers(0, 12)
    if kind == 0:
        atoms.positions += (random.integers(-2, 3, (len(atoms), 3)) * (random.uniform(size=(len(atoms), 1)) < 0.2) * atoms.pbc) @ atoms.cell
    elif kind == 1:
        atoms.wrap()
    elif kind < 5:
        shear = np.eye(3) + random.normal(size=(3, 3)) * size / 20
        atoms.set_cell(atoms.cell.array @ shear, scale_atoms=kind < 4)


@pytest.mark.parametrize("pbc", [True, (True, True, False), (False, True, False), False], ids=str)
def test_a7_a_skin_list_equals_a_fresh_one_on_a_random_walk(pbc):
    random = np.random.default_rng(0)
    atoms = Atoms("H12", random.uniform(0, 6, (12, 3)), cell=[[5, 0, 0], [1, 5.5, 0], [-0.5, 1, 6]], pbc=pbc)
    start = atoms.copy()
    verlet = VerletList(CUTOFF, builder="matscipy")
    reused = 0
    for number in range(STEPS):
        step(atoms, random, 0.002 if number % 400 else 0.5)
        before = verlet.n_builds
        try:
            assert_fresh(verlet, atoms)
        except NeighborError:
            atoms = start.copy()
        reused += verlet.n_builds == before
        if number % 1000 == 999:
            atoms = start.copy()
    assert reused > 0.5 * STEPS


def test_a7_systems_of_a_batch_move_at_their_own_pace():
    random = np.random.default_rng(1)
    batch = [silicon(1), Atoms("H3", random.uniform(0, 4, (3, 3))), silicon(1, seed=5), silicon(2)[:20]]
    batch[3].pbc = (True, False, True)
    sizes = [0.003, 0.05, 0.0003, 0.01]
    verlet = VerletList(CUTOFF)
    number = torch.from_numpy(np.repeat(np.arange(4), [len(atoms) for atoms in batch]))
    builds = []
    for _ in range(max(STEPS // 4, 300)):
        for atoms, size in zip(batch, sizes, strict=True):
            step(atoms, random, size)
        positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in batch]))
        cells = torch.from_numpy(np.stack([atoms.cell.array for atoms in batch]))
        try:
            expected = [build_graph(atoms, CUTOFF) for atoms in batch]
        except NeighborError:
            batch = [silicon(1), Atoms("H3", random.uniform(0, 4, (3, 3))), silicon(1, seed=5), silicon(2)[:20]]
            batch[3].pbc = (True, False, True)
            continue
        pbc = torch.from_numpy(np.stack([atoms.pbc for atoms in batch]))
        edge_index, shifts = verlet.update(positions, cells, pbc, number)
        starts = np.cumsum([0] + [len(atoms) for atoms in batch])
        np.testing.assert_array_equal(
            edge_index, np.concatenate([graph.edge_index + start for graph, start in zip(expected, starts, strict=False)], axis=1)
        )
        np.testing.assert_array_equal(shifts, np.concatenate([graph.shifts for graph in expected]))
        builds.append(verlet._reference.ages.clone())
    ages = torch.stack(builds)
    # The quick structure was searched often, the slow one seldom, the molecule never again.
    assert (ages[:, 3] == 0).sum() > 3 * (ages[:, 2] == 0).sum()
    assert (ages[:, 1] == 0).sum() < 5


@pytest.mark.parametrize("skin", [0.0, 0.3, 1.5, np.float32(0.25), np.int64(1), "auto"])
def test_the_list_is_the_same_whatever_the_skin(skin):
    random = np.random.default_rng(2)
    atoms = silicon()
    verlet = VerletList(5.0, skin)
    for _ in range(20):
        assert_fresh(verlet, atoms)
        atoms.positions += random.normal(size=atoms.positions.shape) * 0.02
    assert verlet.n_calls == 20
    assert (verlet.n_builds == 20) == (skin == 0.0)
    assert verlet.skin == skin or skin == "auto"


def test_wrapping_and_rigid_lattice_translations_reuse_the_list():
    atoms = silicon()
    verlet = VerletList(5.0, 0.5)
    assert_fresh(verlet, atoms)
    atoms.positions += np.arange(3 * len(atoms)).reshape(-1, 3) % 5 @ atoms.cell.array
    assert_fresh(verlet, atoms)
    atoms.wrap()
    assert_fresh(verlet, atoms)
    assert verlet.n_builds == 1


@pytest.mark.parametrize("strain", [0.05, -0.05])
def test_a_cell_that_changes_with_its_atoms_reuses_the_list_as_far_as_the_skin_allows(strain):
    atoms = silicon()
    cell = atoms.cell.array.copy()
    verlet = VerletList(5.0, 0.5)
    for part in np.linspace(0, 1, 11):
        atoms.set_cell(cell * (1 + part * strain), scale_atoms=True)
        assert_fresh(verlet, atoms)
    # An expanding cell brings no new pairs; a shrinking one is searched anew when 5 / (1 + strain) leaves the skin, which it does not here.
    assert verlet.n_builds == 1
    atoms.set_cell(cell * 0.8, scale_atoms=True)
    assert_fresh(verlet, atoms)
    assert verlet.n_builds == 2


def test_other_atoms_or_boundaries_start_anew():
    verlet = VerletList(5.0, 1.0)
    for atoms in (silicon(1), silicon(2), silicon(1), Atoms("H"), Atoms()):
        for pbc in (True, False, (True, False, True)):
            atoms.pbc = pbc
            if len(atoms) > 1 or not atoms.pbc.any():
                assert_fresh(verlet, atoms)


def test_no_skin_without_motion_that_would_use_it():
    verlet = VerletList(5.0)
    random = np.random.default_rng(3)
    atoms = silicon(2)
    for _ in range(4):
        atoms.positions = atoms.positions[random.permutation(len(atoms))]
        verlet.graph(atoms)
        assert verlet.skin == 0.0
    for _ in range(30):
        atoms.positions += random.normal(size=atoms.positions.shape) * 0.003
        verlet.graph(atoms)
    assert 0.1 < verlet.skin < 2.0
    assert verlet.n_builds < 20


def test_all_pairs_of_small_molecules_in_a_batch_are_kept():
    verlet = VerletList(CUTOFF)
    random = np.random.default_rng(4)
    molecules = [Atoms("H5", random.uniform(0, 5, (5, 3))), Atoms("H3", random.uniform(0, 5, (3, 3)))]
    number, cells, pbc = torch.tensor([0] * 5 + [1] * 3), torch.zeros((2, 3, 3), dtype=torch.float64), torch.zeros((2, 3), dtype=torch.bool)
    for _ in range(5):
        positions = torch.from_numpy(np.concatenate([molecule.positions for molecule in molecules]))
        edge_index, _ = verlet.update(positions, cells, pbc, number)
        expected = [neighbor_list(molecule, CUTOFF)[0] + start for molecule, start in zip(molecules, (0, 5), strict=True)]
        np.testing.assert_array_equal(edge_index, np.concatenate(expected, axis=1))
        for molecule in molecules:
            molecule.positions += random.normal(size=molecule.positions.shape)
    assert verlet.n_builds == 1
    assert verlet.skin == np.inf


def test_a_list_survives_bad_steps():
    atoms = silicon()
    verlet = VerletList(5.0, 0.5)
    verlet.graph(atoms)
    for wrong in (np.nan, np.inf):
        broken = atoms.copy()
        broken.positions[3, 1] = wrong
        with pytest.raises(NeighborError, match="row 3"):
            verlet.graph(broken)
        broken = atoms.copy()
        broken.cell[0, 0] = wrong
        with pytest.raises(NeighborError, match="lattice vectors"):
            verlet.graph(broken)
    near = atoms.copy()
    near.positions[1] = near.positions[0] + 0.01
    with pytest.raises(NeighborError, match="on top of each other"):
        verlet.graph(near)
    assert_fresh(verlet, atoms)


def test_the_callers_arrays_may_change_in_place():
    atoms = silicon()
    verlet = VerletList(5.0, 0.5)
    positions, cells = torch.from_numpy(atoms.positions), torch.from_numpy(atoms.cell.array)[None]
    pbc, batch = torch.ones((1, 3), dtype=torch.bool), torch.zeros(len(atoms), dtype=torch.int64)
    verlet.update(positions, cells, pbc, batch)
    positions += 3.0 * torch.rand_like(positions)
    cells *= 1.5
    edge_index, _ = verlet.update(positions, cells, pbc, batch)
    np.testing.assert_array_equal(edge_index, neighbor_list(Atoms(positions=positions.numpy(), cell=cells[0].numpy(), pbc=True), 5.0)[0])


def test_a_callers_autograd_inference_mode_and_precision_do_not_matter():
    atoms = silicon()
    cells, pbc, batch = (
        torch.from_numpy(atoms.cell.array)[None],
        torch.ones((1, 3), dtype=torch.bool),
        torch.zeros(len(atoms), dtype=torch.int64),
    )
    verlet = VerletList(5.0, 0.5)
    with torch.inference_mode():
        verlet.update(torch.from_numpy(atoms.positions), cells, pbc, batch)
    atoms.positions += np.random.default_rng(0).normal(size=atoms.positions.shape)
    atoms.positions = atoms.positions.astype(np.float32)
    for dtype in (torch.float64, torch.float32):
        positions = torch.tensor(atoms.positions, dtype=dtype, requires_grad=True)
        edge_index, shifts = verlet.update(positions, cells.clone().requires_grad_(), pbc, batch)
        np.testing.assert_array_equal(edge_index, neighbor_list(atoms, 5.0)[0])
        np.testing.assert_array_equal(shifts, neighbor_list(atoms, 5.0)[1])
    assert not verlet._reference.positions.requires_grad
    assert verlet.n_builds == 2


def test_a_small_molecule_is_counted_and_leaves_no_skin_behind():
    verlet = VerletList(5.0, 0.5)
    verlet.graph(silicon())
    verlet.graph(Atoms("H2", [[0, 0, 0], [0, 0, 1]]))
    assert (verlet.n_calls, verlet.n_builds, verlet.skin) == (2, 2, 0.0)


def test_a_batch_of_nothing():
    verlet = VerletList(5.0)
    nothing = torch.zeros((0, 3), dtype=torch.float64)
    for n_structures in (0, 2):
        cells, pbc = torch.zeros((n_structures, 3, 3), dtype=torch.float64), torch.zeros((n_structures, 3), dtype=torch.bool)
        edge_index, _ = verlet.update(nothing, cells, pbc, torch.zeros(0, dtype=torch.int64))
        assert edge_index.shape == (2, 0)
    assert verlet.skin in {0.0, np.inf}


@pytest.mark.parametrize("builder", ["auto", "matscipy", "torch_cell_list"])
def test_a24_structures_without_atoms_may_stand_in_a_batch(builder):
    members = [Atoms(cell=[3, 3, 3], pbc=True), silicon(1), Atoms(), Atoms(cell=[3, 3, 3], pbc=True), silicon(2), Atoms()]
    verlet = VerletList(CUTOFF, 0.3, builder)
    random = np.random.default_rng(5)
    for _ in range(4):
        for atoms in members:
            atoms.positions += random.normal(size=atoms.positions.shape) * (0.1 if len(atoms) > 8 else 0.01)
        expected = [build_graph(atoms, CUTOFF) for atoms in members]
        batch = collate(expected)
        pbc = torch.from_numpy(np.stack([atoms.pbc for atoms in members]))
        edge_index, shifts = verlet.update(batch.positions, batch.cells, pbc, batch.batch)
        assert torch.equal(edge_index, batch.edge_index)
        assert torch.equal(shifts, batch.shifts)


def test_pickles_are_small_and_search_anew():
    verlet = VerletList(5.0, 0.7)
    verlet.graph(silicon(3))
    data = pickle.dumps(verlet)
    assert len(data) < 1000
    assert_fresh(pickle.loads(data), silicon(3))


@pytest.mark.parametrize("arguments", [(0.0,), (np.nan,), (5.0, -0.1), (5.0, np.inf), (5.0, "much")])
def test_arguments_that_cannot_be_meant_are_refused(arguments):
    with pytest.raises(ConfigError, match="cutoff|skin"):
        VerletList(*arguments)


@pytest.mark.parametrize(("distance", "skin", "scale", "move"), [(3.58, 0.55, 1.0, 0.3), (3.5, 0.45, 0.85, 0.0), (4.12, 1.1, 0.8, 0.15)])
def test_a7_a_pair_just_beyond_the_skin_comes_in(distance, skin, scale, move):
    """By motion, by a cell that shrinks along one direction, and by both."""
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, distance]], cell=[20, 20, 20], pbc=True)
    verlet = VerletList(CUTOFF, skin)
    assert verlet.graph(atoms).edge_index.shape[1] == 0
    atoms.set_cell([20, 20, 20 * scale], scale_atoms=True)
    atoms.positions[:, 2] += [move, -move]
    assert_fresh(verlet, atoms)
    assert verlet.graph(atoms).edge_index.shape[1] == 2


def test_a7_the_same_atoms_with_other_boundaries_or_shared_out_otherwise_start_anew():
    verlet = VerletList(CUTOFF, 0.5, "matscipy")
    atoms = silicon(1)
    for pbc in (True, False, (True, True, False), True):
        atoms.pbc = pbc
        assert_fresh(verlet, atoms)
    parts = [Atoms("H2", [[0, 0, 0], [0, 0, 1]], cell=[9, 9, 9], pbc=True), Atoms("H4", np.eye(4, 3) * 2 + 0.5, cell=[9, 9, 9], pbc=True)]
    batch = collate([build_graph(atoms, CUTOFF) for atoms in parts])
    for number in (torch.tensor([0, 0, 1, 1, 1, 1]), torch.tensor([0, 0, 0, 0, 1, 1])):
        edge_index, _ = verlet.update(batch.positions, batch.cells, torch.ones((2, 3), dtype=torch.bool), number)
        fresh, _ = VerletList(CUTOFF, 0.0).update(batch.positions, batch.cells, torch.ones((2, 3), dtype=torch.bool), number)
        assert torch.equal(edge_index, fresh)
        assert torch.equal(number[edge_index[0]], number[edge_index[1]])


def test_the_condition_is_sharp(monkeypatch):
    """With half the displacement in the condition, pairs are missed: the walk above would see it."""
    motion = verlet_module._motion
    monkeypatch.setattr(verlet_module, "_motion", lambda *given: (motion(*given)[0] / 2, motion(*given)[1]))
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 3.5]], cell=[20, 20, 20], pbc=True)
    verlet = VerletList(CUTOFF, 0.4)
    verlet.graph(atoms)
    atoms.positions[:, 2] += [0.3, -0.3]
    assert verlet.graph(atoms).edge_index.shape[1] == 0
    assert neighbor_list(atoms, CUTOFF)[0].shape[1] == 2


def as_batch(structures):
    positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in structures]))
    cells = torch.from_numpy(np.stack([atoms.cell.array for atoms in structures]))
    pbc = torch.from_numpy(np.stack([atoms.pbc for atoms in structures]))
    return positions, cells, pbc, torch.from_numpy(np.repeat(np.arange(len(structures)), [len(atoms) for atoms in structures]))


def test_a10_many_structures_at_the_same_place_are_not_a_crowd():
    given = as_batch([silicon(1)] * 400)
    edge_index, _ = VerletList(5.0, 0.0).update(*given)
    assert edge_index.shape[1] == 400 * neighbor_list(silicon(1), 5.0)[0].shape[1]


def test_a7_a_reference_stays_while_others_of_the_batch_are_searched():
    slow, fast = silicon(2), silicon(1)
    verlet = VerletList(5.0, 0.4)
    random = np.random.default_rng(5)
    for _ in range(40):
        slow.set_cell(slow.cell.array * 0.998)
        fast.positions = fast.positions[random.permutation(len(fast))]
        edge_index, _ = verlet.update(*as_batch([slow, fast]))
        expected = [neighbor_list(slow, 5.0)[0], neighbor_list(fast, 5.0)[0] + len(slow)]
        np.testing.assert_array_equal(edge_index, np.concatenate(expected, axis=1))


def test_structures_that_started_at_different_times_come_to_be_searched_together():
    structures = [bulk("Ar", "fcc", a=5.3, cubic=True) * 2 for _ in range(4)]
    graph = collate([build_graph(atoms, 4.0) for atoms in structures])
    pbc = torch.ones(4, 3, dtype=torch.bool)
    verlet = VerletList(4.0, skin=0.4)
    positions = graph.positions.clone()
    for step in range(100):
        # 0.04 Å of the skin a step, from steps 0, 3, 6 and 9 on: ten steps between searches of one structure.
        for structure in range(4):
            positions[32 * structure, 0] += 0.02 * (step >= 3 * structure)
        verlet.update(positions, graph.cells, pbc, graph.batch)
    assert 10 <= verlet.n_builds < 16


def test_boundaries_that_change_in_place_are_seen():
    atoms = silicon(1)
    positions, cells, pbc, batch = as_batch([atoms])
    verlet = VerletList(5.0, 0.4)
    verlet.update(positions, cells, pbc, batch)
    pbc[0, 1] = False
    atoms.pbc = (True, False, True)
    np.testing.assert_array_equal(verlet.update(positions, cells, pbc, batch)[0], neighbor_list(atoms, 5.0)[0])


def test_a24_a_batch_draws_the_line_where_its_members_do():
    """Cutoffs that are the length of an edge to the last bit: rounding must not depend on what else is in the batch."""
    random = np.random.default_rng(6)
    for _ in range(50):
        cell = np.eye(3) * 2.3 + random.normal(scale=0.3, size=(3, 3))
        atoms = Atoms("H3", random.uniform(0, 2.3, (3, 3)) @ cell, cell=cell, pbc=True)
        (source, target), shifts = neighbor_list(atoms, 9.0)
        chosen = int(np.argmax(abs(shifts).sum(axis=1)))
        cutoff = float(np.linalg.norm(atoms.positions[source] + shifts @ cell - atoms.positions[target], axis=1)[chosen])
        alone = neighbor_list(atoms, cutoff)[0]
        both, _ = VerletList(cutoff, 0.0).update(*as_batch([atoms, silicon(1)]))
        assert (both[1] < 3).sum() == alone.shape[1]
