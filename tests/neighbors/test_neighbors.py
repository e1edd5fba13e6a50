"""Neighbour lists; A4, A5, A14."""

import itertools

import numpy as np
import pytest
from ase import Atoms
from ase.neighborlist import primitive_neighbor_list
from hypothesis import given, settings
from hypothesis import strategies as st

from eqpot.errors import ConfigError, NeighborError
from eqpot.neighbors import BUILDERS, neighbor_list

CUTOFF = 3.0


def pairs(atoms, builder, cutoff=CUTOFF):
    (source, target), shifts = neighbor_list(atoms, cutoff, builder)
    return sorted(zip(target.tolist(), source.tolist(), map(tuple, shifts.tolist()), strict=True))


@st.composite
def structures(draw):
    """Any pbc mask; triclinic, left-handed, needle and flat cells; atoms inside, on faces, outside, all negative."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    pbc = draw(st.tuples(st.booleans(), st.booleans(), st.booleans()))
    lengths = [draw(st.sampled_from([1.1, 2.0, 3.7, 9.0])) for _ in range(3)]
    cell = np.diag(lengths) @ (np.eye(3) + draw(st.sampled_from([0.0, 0.3, 0.6])) * random.uniform(-1, 1, (3, 3)))
    rotation = np.linalg.qr(random.normal(size=(3, 3)))[0]
    cell = cell @ rotation
    if abs(np.linalg.det(cell)) < 0.1 * np.prod(lengths):
        cell = np.diag(lengths) @ rotation
    n_atoms = draw(st.integers(1, 8))
    scaled = random.uniform(0, 1, (n_atoms, 3))
    if draw(st.booleans()):
        scaled = np.round(scaled * 2) / 2  # on faces, edges and corners
    scaled += draw(st.sampled_from([0.0, -1.0, 0.5, 2.25]))
    if draw(st.booleans()):
        scaled += random.integers(-2, 3, (n_atoms, 3))
    atoms = Atoms(numbers=np.ones(n_atoms), positions=scaled @ cell, cell=cell, pbc=pbc)
    if not any(pbc) and draw(st.booleans()):
        atoms.cell = None
    return atoms


def is_unambiguous(atoms):
    """Whether no distance lies within rounding of the cutoff and no two atoms coincide."""
    reach = Atoms(atoms)
    try:
        edge_index, shifts = neighbor_list(reach, CUTOFF + 1e-6, "brute_force")
    except NeighborError:
        return False
    source, target = edge_index
    distances = np.linalg.norm(atoms.positions[source] + shifts @ atoms.cell.array - atoms.positions[target], axis=1)
    return not (abs(distances - CUTOFF) < 1e-6).any()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(structures())
def test_a4_matscipy_equals_brute_force(atoms):
    if is_unambiguous(atoms):
        before = atoms.copy()
        assert pairs(atoms, "matscipy") == pairs(atoms, "brute_force")
        assert atoms == before


@settings(max_examples=100, deadline=None, derandomize=True)
@given(structures())
def test_brute_force_equals_ase(atoms):
    if is_unambiguous(atoms) and atoms.cell.rank == 3:
        target, source, shifts = primitive_neighbor_list("ijS", atoms.pbc, atoms.cell.array, atoms.positions, CUTOFF)
        expected = sorted(zip(target.tolist(), source.tolist(), map(tuple, shifts.tolist()), strict=True))
        assert pairs(atoms, "brute_force") == expected


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


@pytest.mark.parametrize("builder", ["matscipy", "brute_force"])
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


@pytest.mark.parametrize("pbc", [False, [True, False, False], [True, True, False]])
def test_a10_fragments_far_apart_cost_nothing(pbc):
    atoms = Atoms("H4", [[0, 0, 0], [0.5, 0, 0.9], [1e5, -1e7, 1e6], [1e5, -1e7, 1e6 + 1]], cell=[5, 5, 5], pbc=pbc)
    edge_index, _ = neighbor_list(atoms, CUTOFF, "matscipy")
    assert {tuple(sorted(edge)) for edge in edge_index.T.tolist()} - {(0, 0), (1, 1)} == {(0, 1), (2, 3)}


def test_a_builder_that_fails_is_one_sentence(monkeypatch):
    def fail(*_):
        raise MemoryError("too much")

    monkeypatch.setitem(BUILDERS, "matscipy", fail)
    with pytest.raises(NeighborError, match="1 atoms cannot be built .too much."):
        neighbor_list(Atoms("H"), CUTOFF, "matscipy")


def test_bad_arguments_are_refused():
    with pytest.raises(ConfigError, match="auto, matscipy, brute_force"):
        neighbor_list(Atoms("H"), CUTOFF, "magic")
    with pytest.raises(ConfigError, match="must be positive"):
        neighbor_list(Atoms("H"), 0.0)
