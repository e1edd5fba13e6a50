"""Every builder against the oracle, and the oracle against ASE and pymatgen, on generated structures; A4, A5, A8."""

import numpy as np
import torch
from ase.neighborlist import primitive_neighbor_list
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pymatgen.core import Lattice, Structure

from eqpot.errors import NeighborError
from eqpot.neighbors import BUILDERS, neighbor_list
from eqpot.neighbors.search import find_pairs, within
from neighbor_zoo import CUTOFFS, EXAMPLES, structures, zoo_settings

PERIODIC = [name for name, builder in BUILDERS.items() if builder.pbc and name != "brute_force"]
ORACLE_EXAMPLES = settings(zoo_settings, max_examples=EXAMPLES // 4)


def outcome(atoms, cutoff, builder):
    """The list, or the error's text: builders agree in both."""
    try:
        return neighbor_list(atoms, cutoff, builder)
    except NeighborError as error:
        return str(error)


def pairs(atoms, cutoff):
    (source, target), shifts = neighbor_list(atoms, cutoff, "brute_force")
    return sorted(zip(target.tolist(), source.tolist(), map(tuple, shifts.tolist()), strict=True))


def is_unambiguous(atoms, cutoff):
    """Whether no atoms coincide and no distance lies within rounding of the cutoff."""
    try:
        (source, target), shifts = neighbor_list(atoms, cutoff + 1e-5, "brute_force")
    except NeighborError:
        return False
    distances = np.linalg.norm(atoms.positions[source] + shifts @ atoms.cell.array - atoms.positions[target], axis=1)
    return not (abs(distances - cutoff) < 1e-5).any()


@zoo_settings
@given(structures(), st.sampled_from(CUTOFFS))
def test_a4_every_builder_equals_brute_force(atoms, cutoff):
    before = atoms.copy()
    expected = outcome(atoms, cutoff, "brute_force")
    for builder in PERIODIC:
        found = outcome(atoms, cutoff, builder)
        assert atoms == before, builder
        if isinstance(expected, str):
            assert found == expected, builder
        else:
            np.testing.assert_array_equal(found[0], expected[0], builder)
            np.testing.assert_array_equal(found[1], expected[1], builder)


@settings(zoo_settings, max_examples=EXAMPLES // 4)
@given(st.lists(structures(), min_size=1, max_size=4), st.sampled_from(CUTOFFS))
def test_a24_a_batch_of_lists_equals_its_members(batch, cutoff):
    expected = [outcome(atoms, cutoff, "brute_force") for atoms in batch]
    assume(not any(isinstance(part, str) for part in expected))
    positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in batch]))
    cells = torch.from_numpy(np.stack([atoms.cell.array for atoms in batch]))
    pbc = torch.from_numpy(np.stack([atoms.pbc for atoms in batch]))
    number = torch.from_numpy(np.repeat(np.arange(len(batch)), [len(atoms) for atoms in batch]))
    edge_index, shifts = find_pairs(positions, cells, pbc, number, cutoff, "torch_cell_list")
    edge_index, shifts = within(positions, cells, number, edge_index, shifts, cutoff)
    starts = np.cumsum([0] + [len(atoms) for atoms in batch])
    np.testing.assert_array_equal(edge_index, np.concatenate([e + start for (e, _), start in zip(expected, starts, strict=False)], axis=1))
    np.testing.assert_array_equal(shifts, np.concatenate([s for _, s in expected]))


@ORACLE_EXAMPLES
@given(structures(), st.sampled_from(CUTOFFS))
def test_the_oracle_equals_ase(atoms, cutoff):
    assume(atoms.cell.rank == 3 and is_unambiguous(atoms, cutoff))
    target, source, shifts = primitive_neighbor_list("ijS", atoms.pbc, atoms.cell.array, atoms.positions, cutoff)
    assert pairs(atoms, cutoff) == sorted(zip(target.tolist(), source.tolist(), map(tuple, shifts.tolist()), strict=True))


@ORACLE_EXAMPLES
@given(structures(), st.sampled_from(CUTOFFS))
def test_the_oracle_equals_pymatgen(atoms, cutoff):
    assume(atoms.pbc.any() and atoms.cell.rank == 3 and is_unambiguous(atoms, cutoff))
    lattice = Lattice(atoms.cell.array, pbc=tuple(map(bool, atoms.pbc)))
    structure = Structure(lattice, atoms.symbols, atoms.positions, coords_are_cartesian=True)
    target, source, shifts, _ = structure.get_neighbor_list(cutoff)
    # Compare distances: pymatgen's translations refer to positions that it has wrapped.
    (own_source, own_target), own_shifts = neighbor_list(atoms, cutoff, "brute_force")
    own = atoms.positions[own_source] + own_shifts @ atoms.cell.array - atoms.positions[own_target]
    places = structure.cart_coords
    theirs = places[source] + shifts @ atoms.cell.array - places[target]

    def table(target, source, vectors):
        return sorted(zip(target.tolist(), source.tolist(), np.round(np.linalg.norm(vectors, axis=1), 4).tolist(), strict=True))

    assert len(own) == len(theirs)
    np.testing.assert_allclose(table(own_target, own_source, own), table(target, source, theirs), atol=2e-4)
