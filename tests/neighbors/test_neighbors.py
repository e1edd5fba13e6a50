"""One entrance to all builders: contract, errors, capabilities; A4, A5, A8, A10, A14."""

import importlib.util
import itertools
import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk

from eqpot.errors import ConfigError, NeighborError
from eqpot.neighbors import BUILDERS, neighbor_list, search
from eqpot.neighbors.torch_cell_list import torch_cell_list

CUTOFF = 3.0
PERIODIC = [name for name, builder in BUILDERS.items() if builder.pbc]


@pytest.mark.parametrize("pbc", list(itertools.product([False, True], repeat=3)))
def test_a4_wrapping_and_translation_change_nothing(pbc):
    random = np.random.default_rng(0)
    atoms = Atoms("H6", random.uniform(0, 4, (6, 3)), cell=[[4, 0, 0], [1, 4, 0], [0.5, -1, 4.5]], pbc=pbc)

    def distances(structure):
        (source, target), shifts = neighbor_list(structure, CUTOFF)
        vectors = structure.positions[source] + shifts @ structure.cell.array - structure.positions[target]
        return np.sort(np.linalg.norm(vectors, axis=1))

    moved = atoms.copy()
    moved.translate([17.3, -8.1, 2.2])
    shifted = moved.copy()
    shifted.positions += np.where(pbc, random.integers(-3, 4, (6, 3)), 0) @ atoms.cell.array
    for structure in (moved, shifted):
        np.testing.assert_allclose(distances(structure), distances(atoms), atol=1e-10)


def test_contract_of_the_list():
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]], cell=[2, 2, 2.5], pbc=True)
    edge_index, shifts = neighbor_list(atoms, 2.1)
    assert edge_index.dtype == shifts.dtype == np.int64
    assert edge_index.shape == (2, len(shifts))
    assert (np.diff(edge_index[1]) >= 0).all()
    reverse = sorted(zip(edge_index[1], edge_index[0], map(tuple, -shifts), strict=True))
    assert reverse == sorted(zip(edge_index[0], edge_index[1], map(tuple, shifts), strict=True))
    assert not ((edge_index[0] == edge_index[1]) & (shifts == 0).all(axis=1)).any()


@pytest.mark.parametrize("builder", ["auto", *PERIODIC])
def test_a_pair_at_the_cutoff_is_beyond_it(builder):
    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 3.0]])
    assert neighbor_list(atoms, 3.0, builder)[0].shape == (2, 0)
    assert neighbor_list(atoms, 3.0 + 1e-12, builder)[0].shape == (2, 2)


def test_edges_are_sorted_alike_whether_or_not_they_fit_into_one_number():
    random = np.random.default_rng(0)
    atoms = torch.from_numpy(random.integers(0, 5, (2, 200)))
    for largest in (3, 2**40):
        shifts = torch.from_numpy(random.integers(-largest, largest + 1, (200, 3)))
        edge_index, found = search._sorted(atoms[0], atoms[1], shifts, torch.zeros((5, 3), dtype=torch.int64))
        rows = sorted(zip(*atoms[[1, 0]].tolist(), *shifts.T.tolist(), strict=True))
        assert torch.cat([edge_index[[1, 0]].T, found], dim=1).tolist() == [list(row) for row in rows]


@pytest.mark.parametrize("builder", PERIODIC)
def test_a14_few_or_no_atoms(builder):
    for atoms in (Atoms(), Atoms("H"), Atoms("H2", [[0, 0, 0], [0, 0, 50]]), Atoms("H", cell=[9, 9, 9], pbc=True)):
        edge_index, shifts = neighbor_list(atoms, CUTOFF, builder)
        assert edge_index.shape == (2, 0)
        assert shifts.shape == (0, 3)
    edge_index, _ = neighbor_list(Atoms("H", cell=[1, 1, 1], pbc=True), 1.2, builder)
    assert edge_index.shape == (2, 6)


@pytest.mark.parametrize(
    ("atoms", "message"),
    [
        (Atoms("H", pbc=True), "lattice vector a, which is zero"),
        (Atoms("H", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True), "no volume"),
        (Atoms("H2", [[0, 0, 0], [0, 0, 0.01]]), "Atoms . and . lie on top of each other"),
        (Atoms("H", [[2.0, 0, 0]], cell=[0.05, 3, 3], pbc=True), "on top of each other"),
        (Atoms("H2", [[0, 0, 0], [0, np.nan, 0]]), "row 1"),
        (Atoms("H", cell=[np.inf, 1, 1]), "lattice vectors"),
    ],
)
def test_bad_structures_are_refused_in_one_sentence(atoms, message):
    with pytest.raises(NeighborError, match=message):
        neighbor_list(atoms, CUTOFF)


def test_numbers_whose_sum_overflows_are_finite():
    search.check_finite(torch.full((2, 3), 1e308, dtype=torch.float64), "positions")


@pytest.mark.parametrize("pbc", [False, [True, False, False], [True, True, False]])
def test_a10_fragments_far_apart_cost_nothing(pbc):
    atoms = Atoms("H4", [[0, 0, 0], [0.5, 0, 0.9], [1e5, -1e7, 1e6], [1e5, -1e7, 1e6 + 1]], cell=[5, 5, 5], pbc=pbc)
    edge_index, _ = neighbor_list(atoms, CUTOFF, "matscipy")
    assert {tuple(sorted(edge)) for edge in edge_index.T.tolist()} - {(0, 0), (1, 1)} == {(0, 1), (2, 3)}


def test_a_builder_that_fails_is_one_sentence(monkeypatch):
    def fail(*_):
        raise MemoryError("too much")

    monkeypatch.setitem(BUILDERS, "matscipy", replace(BUILDERS["matscipy"], build=fail))
    with pytest.raises(NeighborError, match="1 atoms cannot be built .too much."):
        neighbor_list(Atoms("H"), CUTOFF, "matscipy")


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="auto, vesin, matscipy, torch_cell_list, torch_cluster, brute_force"):
        neighbor_list(Atoms("H"), CUTOFF, "magic")
    with pytest.raises(ConfigError, match="must be positive"):
        neighbor_list(Atoms("H"), 0.0)


@pytest.mark.parametrize("name", ["vesin", "torch_cluster"])
def test_a_missing_package_is_named_with_the_command_that_installs_it(name, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=rf"needs {name}; install it with: pip install .*eqpot\["):
        neighbor_list(Atoms("H"), CUTOFF, name)
    # Without vesin the default still works.
    assert neighbor_list(Atoms("H", cell=[1, 1, 1], pbc=True), 1.2)[0].shape == (2, 6)


def test_a_builder_is_asked_only_for_what_it_can_do(monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    with pytest.raises(ConfigError, match="open structures alone"):
        neighbor_list(Atoms("H", cell=[9, 9, 9], pbc=[True, False, False]), CUTOFF, "torch_cluster")
    meta = torch.zeros((1, 3), device="meta")
    with pytest.raises(ConfigError, match="works on cpu, not on meta"):
        search.choose_builder("matscipy", meta.device, pbc=True)


def test_a10_density_that_no_machine_holds_is_refused_with_its_numbers():
    random = np.random.default_rng(0)
    crowd = Atoms(numbers=np.ones(30_000), positions=random.uniform(0, 10, (30_000, 3)))
    with pytest.raises(NeighborError, match=r"30000 atoms would have about .* edges within the cutoff of 6 Å, up to .* an atom"):
        neighbor_list(crowd, 6.0)
    with pytest.raises(NeighborError, match="9000 atoms would have about"):
        neighbor_list(Atoms(numbers=np.ones(9_000), positions=random.uniform(0, 4, (9_000, 3))), 5.0)
    sliver = Atoms("H", cell=[0.11, 0.11, 0.11], pbc=True)
    with pytest.raises(NeighborError, match=r"1 atoms would have .* check the units of positions and cell"):
        neighbor_list(sliver, 6.0)


def test_a10_a_crowded_corner_of_a_large_system_is_found():
    random = np.random.default_rng(0)
    positions = np.concatenate([random.uniform(0, 2000, (5_000, 3)), random.uniform(0, 2, (5_000, 3))])
    with pytest.raises(NeighborError, match="10000 atoms would have about"):
        neighbor_list(Atoms(numbers=np.ones(10_000), positions=positions), 5.0)


def test_a10_memory_is_asked_for_before_it_is_taken(monkeypatch):
    atoms = bulk("Si", cubic=True) * (11, 11, 11)
    monkeypatch.setattr(search, "_memory", lambda: 1e6)
    with pytest.raises(NeighborError, match="takes .* GiB"):
        neighbor_list(atoms, 6.0)


@pytest.mark.parametrize("pbc", [True, (True, True, False)], ids=str)
@pytest.mark.parametrize("builder", PERIODIC)
def test_a_strongly_sheared_cell_is_the_same_lattice(builder, pbc):
    atoms = bulk("Si", cubic=True)
    atoms.pbc = pbc

    def images(structure):
        (source, target), shifts = neighbor_list(structure, 4.0, builder)
        return sorted((i, j, *row) for i, j, row in zip(source, target, (shifts @ structure.cell.array).round(3), strict=True))

    sheared = atoms.copy()
    for shear in (50, 10**6):
        sheared.cell[1] = atoms.cell[1] + shear * atoms.cell[0]
        assert images(sheared) == images(atoms)


@pytest.mark.parametrize("builder", PERIODIC)
@pytest.mark.parametrize("cell", [[5, 5, 1e6], [5, 2e3, 2e3], [1e4, 1e4, 1e4]], ids=str)
def test_a10_a_cell_of_more_bins_than_a_builder_takes(builder, cell):
    """vesin 0.6 divides by zero there, which ends the process; matscipy warns and takes seconds."""
    for pbc in (True, (True, True, False)):
        edge_index, shifts = neighbor_list(Atoms("H2", [[0, 0, 0.2], [0, 0, -0.6]], cell=cell, pbc=pbc), 3.0, builder)
        assert edge_index.tolist() == [[1, 0], [0, 1]]
        assert not shifts.any()


def test_a8_torch_cluster_asks_again_where_its_search_stopped(monkeypatch):
    """The radius search of torch-cluster returns at most as many neighbours as it is told, and says nothing."""
    asked = []

    def radius(x, y, cutoff, batch_x, batch_y, max_num_neighbors):
        asked.append(max_num_neighbors)
        near = (torch.cdist(y, x) <= cutoff) & (batch_y[:, None] == batch_x)
        return torch.cat(
            [torch.stack([torch.full_like(f, i), f]) for i, row in enumerate(near) for f in [row.nonzero()[:, 0][:max_num_neighbors]]], 1
        )

    monkeypatch.setitem(__import__("sys").modules, "torch_cluster", type("torch_cluster", (), {"radius": staticmethod(radius)}))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name)
    random = np.random.default_rng(0)
    atoms = Atoms(numbers=np.ones(300), positions=random.uniform(0, 8, (300, 3)))
    try:
        expected = neighbor_list(atoms, CUTOFF, "brute_force")
    except NeighborError:
        pytest.fail("the structure of this test is not usable")
    np.testing.assert_array_equal(neighbor_list(atoms, CUTOFF, "torch_cluster")[0], expected[0])
    assert asked == [64, 256]


def test_the_torch_cell_list_can_be_scripted():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(torch_cell_list)
    atoms = bulk("Si", cubic=True)
    given = (
        torch.tensor(atoms.positions),
        torch.tensor(atoms.cell.array)[None],
        torch.ones((1, 3), dtype=torch.bool),
        torch.zeros(8, dtype=torch.int64),
    )
    for found, expected in zip(scripted(*given, 5.0), torch_cell_list(*given, 5.0), strict=True):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("pbc", [True, False, (True, False, True)], ids=str)
def test_the_torch_cell_list_searches_in_pieces_and_over_any_extent(pbc):
    atoms = bulk("Si", cubic=True) * (9, 9, 9)
    atoms.rattle(0.2, seed=0)
    atoms.positions[0, 1] += 1e9
    atoms.pbc = pbc
    found, expected = neighbor_list(atoms, 4.0, "torch_cell_list"), neighbor_list(atoms, 4.0, "matscipy")
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])
