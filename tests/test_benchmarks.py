"""The speed benchmark runs, eqpot alone, and its arithmetic is right."""

import re

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

import contest
import speed
from eqpot.neighbors import build_graph
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre_bundle import FibreBundleNetwork
from flops import _per_atom, _per_edge
from structures import make_structure


@pytest.fixture(autouse=True)
def no_peers(monkeypatch, tmp_path):
    monkeypatch.setattr(contest, "PEERS", tmp_path)


@pytest.mark.parametrize(
    "config", [NetworkConfig(), NetworkConfig(n_blocks=3, n_channels=8, n_orientations=12, feature_degree=1, kernel_degree=2)]
)
def test_the_count_of_linear_maps_is_that_of_the_network(config):
    graph = build_graph(make_structure("aspirin"), config.cutoff)
    vectors = torch.randn(graph.edge_index.shape[1], 3, requires_grad=True)
    network = FibreBundleNetwork(config, 100, 1.0).requires_grad_(False)
    expected = 2 * (len(vectors) * _per_edge(config)[0] + graph.n_atoms * _per_atom(config)[0])
    with FlopCounterMode(display=False) as energy:
        energies = network(vectors, graph.numbers, graph.edge_index)
    assert energy.get_total_flops() == expected
    with FlopCounterMode(display=False) as forces:
        energies.sum().backward()
    assert forces.get_total_flops() == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(("name", "n_atoms", "density"), [("water64", 192, 1.0), ("si64", 64, 2.33), ("cu1000", 1000, 8.93)])
def test_structures(name, n_atoms, density):
    atoms = make_structure(name)
    assert len(atoms) == n_atoms
    assert atoms.get_masses().sum() * 1.66054 / atoms.get_volume() == pytest.approx(density, rel=2e-3)
    assert (make_structure(name).positions == atoms.positions).all()


def test_table_without_peers(capsys):
    speed.single_point_tables(["aspirin"], rounds=2, dtype="float32", threads=1)
    printed = capsys.readouterr()
    assert re.search(r"\| eqpot, default \| [\d.]+ \([\d.]+ to [\d.]+\) \| [\d.]+ \([\d.]+ to [\d.]+\) \| 1 \(1 to 1\) \|", printed.out)
    assert re.search(r"\| aspirin, 21 atoms \| 5.06 \| [\d.]+ \(", printed.out)
    assert "of the rate of a product of matrices, %" in printed.out
    assert "PaiNN" not in printed.out
    assert "`make peers` installs it" in printed.err


def test_training(capsys):
    speed.training_table(rounds=2, dtype="float32", threads=1, compiled=False)
    assert "\n| eqpot, default | " in capsys.readouterr().out


@pytest.mark.slow
def test_scaling_and_threads(capsys):
    speed.scaling_table(["si64"], rounds=2, dtype="float32", threads=1, largest="si64")
    speed.thread_table(["si64"], rounds=2, dtype="float32")
    assert len(re.findall(r"^\| 64(, first call)? \| [\d.]+", capsys.readouterr().out, re.MULTILINE)) == 3


def test_a_contestant_that_fails_says_why():
    with pytest.raises(contest.WorkerError, match="KeyError: 'no such system'"):
        contest.Worker(speed.EQPOT, system="no such system")
