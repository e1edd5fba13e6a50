"""torch-cluster's radius search against the oracle, where it is installed: `make cluster`; A4, A8."""

import numpy as np
import pytest
import torch
from ase import Atoms
from hypothesis import given
from hypothesis import strategies as st

from eqpot.errors import NeighborError
from eqpot.neighbors import BUILDERS, VerletList, neighbor_list
from neighbor_zoo import CUTOFFS, structures, zoo_settings

pytestmark = pytest.mark.cluster


def test_it_is_installed():
    assert BUILDERS["torch_cluster"].is_installed()


@zoo_settings
@given(structures(), st.sampled_from(CUTOFFS))
def test_a4_torch_cluster_equals_brute_force(atoms, cutoff):
    atoms.pbc = False
    try:
        expected = neighbor_list(atoms, cutoff, "brute_force")
    except NeighborError as error:
        with pytest.raises(NeighborError) as found:
            neighbor_list(atoms, cutoff, "torch_cluster")
        assert str(found.value) == str(error)  # noqa: PT017
        return
    np.testing.assert_array_equal(neighbor_list(atoms, cutoff, "torch_cluster")[0], expected[0])


def test_a8_many_neighbors_are_not_cut_off():
    positions = np.stack(np.meshgrid(*[np.arange(7.0)] * 3), axis=-1).reshape(-1, 3) * 0.5
    atoms = Atoms(numbers=np.ones(len(positions)), positions=positions)
    edge_index, _ = neighbor_list(atoms, 3.3, "torch_cluster")
    np.testing.assert_array_equal(edge_index, neighbor_list(atoms, 3.3, "brute_force")[0])
    assert np.bincount(edge_index[1]).max() > 64


def test_a24_a_batch_equals_its_members():
    random = np.random.default_rng(0)
    batch = [Atoms(numbers=np.ones(n), positions=random.uniform(0, 6, (n, 3))) for n in (9, 1, 5)]
    positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in batch]))
    number = torch.from_numpy(np.repeat(np.arange(3), [len(atoms) for atoms in batch]))
    cells, pbc = torch.zeros((3, 3, 3), dtype=torch.float64), torch.zeros((3, 3), dtype=torch.bool)
    edge_index, _ = VerletList(3.0, 0.0, "torch_cluster").update(positions, cells, pbc, number)
    starts = np.cumsum([0] + [len(atoms) for atoms in batch])
    expected = [neighbor_list(atoms, 3.0)[0] + start for atoms, start in zip(batch, starts, strict=False)]
    np.testing.assert_array_equal(edge_index, np.concatenate(expected, axis=1))
