"""Starting from a potential, adding elements, freezing."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.singlepoint import SinglePointCalculator

from eqpot import load_potential
from eqpot.compress import compress
from eqpot.errors import ConfigError, DataError
from eqpot.model_file import save_potential
from eqpot.neighbors import build_graph
from eqpot.training import TrainConfig, Trainer
from eqpot.training.start import trained_names
from helpers import NETWORKS, SMALL, ethanol, random_potential
from training_runs import settings

MOLECULES = ("H2O", "CO2", "CH4", "SH2", "CS2", "SO2", "OCS", "CH3SH")
"""Compositions that determine the energies of H, C, O and S."""


@pytest.fixture
def frames(tmp_path):
    """Molecules with labels that mean nothing, written to a file."""
    random = np.random.default_rng(0)
    structures = []
    for name in MOLECULES:
        atoms = molecule(name)
        atoms.rattle(0.05, seed=1)
        energy = -20.0 * len(atoms) - 7 * np.count_nonzero(atoms.numbers == 16) + random.normal()
        atoms.calc = SinglePointCalculator(atoms, energy=energy, forces=random.normal(size=(len(atoms), 3)))
        structures.append(atoms)
    ase.io.write(tmp_path / "frames.extxyz", structures)
    return tmp_path / "frames.extxyz"


def trainer(tmp_path, frames, name="run", network=None, **changes) -> Trainer:
    values = settings(tmp_path / name, init=str(tmp_path / "start.safetensors"), dtype="float64", network=network or {}, **changes)
    values["data"] = {
        "train": str(frames),
        "n_train": 6,
        "n_valid": 2,
        "split": "ordered",
        "reference_energies": "keep",
        **changes.get("data", {}),
    }
    if network is None:
        del values["network"]
    return Trainer(TrainConfig.model_validate(values))


@pytest.mark.parametrize("kind", NETWORKS)
def test_new_elements_leave_old_energies_as_they_were(tmp_path, frames, kind):
    start = random_potential((1, 8, 6), config=NETWORKS[kind])
    save_potential(start, tmp_path / "start.safetensors")
    run = trainer(tmp_path, frames)
    assert run.potential.elements == [1, 8, 6, 16]
    assert run.config.network == start.network.config
    graph = build_graph(ethanol(), start.cutoff)
    before, after = start.evaluate(graph), run.potential.evaluate(graph)
    assert torch.equal(before["energies"], after["energies"])
    assert torch.equal(before["forces"], after["forces"])
    sulphur = [build_graph(Atoms(f"{symbol}2", positions=[[0, 0, 0], [0, 0, 1.5]]), start.cutoff) for symbol in "SO"]
    forces = [float(run.potential.evaluate(item)["forces"].abs().max()) for item in sulphur]
    assert forces[0] != forces[1]
    run.run()
    trained = load_potential(tmp_path / "run" / "potential.safetensors")
    assert trained.elements == [1, 8, 6, 16]
    assert not torch.equal(trained.evaluate(graph)["forces"], before["forces"])


def test_distances_of_earlier_data_stay_known(tmp_path, frames):
    start = random_potential((1, 6, 8))
    save_potential(start, tmp_path / "start.safetensors")
    assert trainer(tmp_path, frames, "unknown").potential.shortest_distances == {}
    start.shortest_distances = {"O-O": 2.5, "H-O": 0.5, "H-C": 2.0}
    save_potential(start, tmp_path / "start.safetensors")
    known = trainer(tmp_path, frames, "known").potential.shortest_distances
    assert known["H-O"] == 0.5
    assert known["H-C"] < 1.2
    assert "O-S" in known


def test_reference_energies_are_kept_or_fitted_anew(tmp_path, frames):
    start = random_potential((1, 6, 8))
    save_potential(start, tmp_path / "start.safetensors")
    kept = trainer(tmp_path, frames, "kept").potential
    assert torch.equal(kept.reference_energies[:3], start.reference_energies)
    fitted = trainer(tmp_path, frames, "fitted", data={"reference_energies": "mean"}).potential
    assert len(set(fitted.reference_energies.tolist())) == 1
    assert float(fitted.reference_energies[0]) < -18
    assert float(fitted.scale) == float(kept.scale) == float(start.scale)
    # The new element's energy is what the old ones leave to it.
    read = ase.io.read(frames, ":6")
    rest = [atoms.get_potential_energy() + sum({1: 1, 6: 2, 8: 3}.get(n, 0) for n in atoms.numbers) for atoms in read]
    counts = np.array([np.count_nonzero(atoms.numbers == 16) for atoms in read])
    assert float(kept.reference_energies[3]) == pytest.approx(counts @ rest / (counts @ counts))


def test_elements_that_the_data_lack_stay_in_the_potential(tmp_path, frames):
    start = random_potential((1, 6, 8, 9, 16))
    save_potential(start, tmp_path / "start.safetensors")
    potential = trainer(tmp_path, frames, data={"reference_energies": "least_squares"}).potential
    assert potential.elements == [1, 6, 8, 9, 16]
    assert float(potential.reference_energies[3]) == -4


def test_what_is_frozen_keeps_its_values_and_the_rest_moves(tmp_path, frames):
    start = random_potential((1, 6, 8, 16))
    save_potential(start, tmp_path / "start.safetensors")
    run = trainer(tmp_path, frames, training={"freeze": ["*", "!*readout*"], "epochs": 2, "compile": False})
    assert run.names
    assert all("readout" in name for name in run.names)
    assert run.n_parameters == sum(value.numel() for name, value in start.network.named_parameters() if "readout" in name)
    run.run()
    before, after = start.network.state_dict(), load_potential(tmp_path / "run" / "potential.safetensors").network.state_dict()
    assert {name for name in before if not torch.equal(before[name], after[name])} == set(run.names)


def test_patterns_are_applied_in_their_order():
    network = random_potential().network
    names = [name for name, _ in network.named_parameters()]
    assert trained_names(network, []) == names
    assert trained_names(network, ["radial.*"]) == [name for name in names if not name.startswith("radial.")]
    assert trained_names(network, ["*", "!embedding.weight"]) == ["embedding.weight"]
    with pytest.raises(ConfigError, match="no parameter matches 'radail.\\*'; the network's parts are embedding, radial"):
        trained_names(network, ["radail.*"])
    with pytest.raises(ConfigError, match="nothing to train"):
        trained_names(network, ["!embedding.weight", "*"])


def test_a39_another_network_than_that_of_the_file_is_refused(tmp_path, frames):
    save_potential(random_potential((1, 6, 8, 16)), tmp_path / "start.safetensors")
    with pytest.raises(ConfigError, match=r"network.cutoff: 4.0 -> 5.0; network.n_channels: 8 -> 16"):
        trainer(tmp_path, frames, network={"cutoff": 5.0, "n_channels": 16, "n_bessel": SMALL.n_bessel})
    assert not (tmp_path / "run").exists()


def test_what_cannot_be_continued_is_refused(tmp_path, frames):
    start = random_potential((1, 6, 8))
    save_potential(start, tmp_path / "start.safetensors")
    pair = Atoms("SCl", positions=[[0, 0, 0], [0, 0, 2.0]])
    pair.calc = SinglePointCalculator(pair, energy=0.0, forces=np.ones((2, 3)))
    ase.io.write(tmp_path / "pair.extxyz", [pair] * 8)
    with pytest.raises(DataError, match="new elements S, Cl; give"):
        trainer(tmp_path, tmp_path / "pair.extxyz")
    with pytest.raises(ConfigError, match="no init"):
        Trainer(TrainConfig.model_validate(settings(tmp_path / "run", data={"reference_energies": "keep"})))
    far = [molecule("H2O") for _ in range(8)]
    for atoms in far:
        atoms.calc = SinglePointCalculator(atoms, energy=-45000.0, forces=np.ones((3, 3)))
    ase.io.write(tmp_path / "far.extxyz", far)
    with pytest.raises(DataError, match="The reference energies leave -1499.* eV/atom"):
        trainer(tmp_path, tmp_path / "far.extxyz")
    compress(tmp_path / "start.safetensors", tmp_path / "table.safetensors", [build_graph(ethanol(), start.cutoff)], 0.05)
    (tmp_path / "table.safetensors").replace(tmp_path / "start.safetensors")
    with pytest.raises(ConfigError, match="tables for radial functions and cannot be trained"):
        trainer(tmp_path, frames)


def test_a39_a_run_from_another_potential_is_not_resumed(tmp_path, frames):
    save_potential(random_potential((1, 6, 8, 16)), tmp_path / "start.safetensors")
    run = trainer(tmp_path, frames)
    save_potential(random_potential((1, 6, 8, 16), seed=1), tmp_path / "start.safetensors")
    with pytest.raises(ConfigError, match="init_sha256: .* -> "):
        Trainer(run.config, resume=True)
