"""`eqpot select`."""

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from scipy.spatial.transform import Rotation
from typer.testing import CliRunner

from eqpot import EqpotCalculator
from eqpot.cli.main import app
from eqpot.errors import ConfigError, DataError
from eqpot.model_file import save_potential
from eqpot.neighbors import build_graph
from eqpot.training.selection import committee_graphs, descriptors, disagreements, read_structures, select
from helpers import ETHANOL, NETWORKS, ethanol, random_potential


def rattled(n, amplitude=0.1):
    structures = []
    for seed in range(n):
        atoms = ethanol()
        atoms.rattle(amplitude, seed=seed)
        structures.append(atoms)
    return structures


@pytest.mark.parametrize("kind", NETWORKS)
def test_descriptors_are_invariant_and_tell_structures_apart(kind):
    potential = random_potential(config=NETWORKS[kind])
    first, second = rattled(2)
    turned = first.copy()
    turned.positions = turned.positions @ Rotation.random(rng=np.random.default_rng(0)).as_matrix().T
    rows = descriptors(potential, [build_graph(atoms, potential.cutoff) for atoms in (first, turned[::-1], second)])
    assert rows.shape[0] == 3
    change = abs(rows[0] - rows[2]).max()
    assert change > 0
    assert abs(rows[0] - rows[1]).max() < (0.3 * change if "pointwise" in kind else 1e-9)


def test_disagreement_is_the_largest_deviation_of_a_force(tmp_path):
    potentials = [random_potential(seed=seed) for seed in range(3)]
    structures = rattled(2)
    for index, potential in enumerate(potentials):
        save_potential(potential, tmp_path / f"{index}.safetensors")
    calculator = EqpotCalculator([tmp_path / f"{index}.safetensors" for index in range(3)], dtype="float64")
    expected = []
    for atoms in structures:
        calculator.calculate(atoms)
        expected.append(np.sqrt((calculator.results["forces_std"] ** 2).sum(axis=1).max()))
    graphs = committee_graphs(potentials, structures, tmp_path)
    np.testing.assert_allclose(disagreements(potentials, graphs), expected, rtol=1e-6)


def test_the_most_uncertain_comes_first_and_then_what_is_far_from_all():
    features = np.array([[0.0], [0.1], [5.0], [9.0], [9.1], [4.0]])
    uncertainty = np.array([1.0, 3.0, 1.0, 1.0, 1.0, 1.0])
    assert [choice.index for choice in select(3, features, uncertainty)] == [1, 4, 2]
    assert [choice.distance for choice in select(3, features, uncertainty)] == [np.inf, pytest.approx(9.0), pytest.approx(4.1)]
    assert [choice.index for choice in select(2, features)] == [4, 0]
    assert [choice.index for choice in select(2, features - 100.0)] == [4, 0]
    # The pool is five times what is asked for: the farthest frame is too certain to be in it.
    features = np.array([[0.0], [0.2], [0.1], [0.3], [0.2], [100.0]])
    assert [choice.index for choice in select(1, features, np.array([5.0, 4, 4, 4, 4, 1]))] == [0]
    many = np.vstack([features[:5], features[:5] + 1.0, features[5:]])
    assert 10 not in {choice.index for choice in select(2, many, np.array([5.0, *[4.0] * 9, 1.0]))}


def test_repeated_frames_are_chosen_once():
    assert [choice.index for choice in select(3, np.array([[0.0], [1.0], [1.0], [0.0]]), np.array([1.0, 2.0, 2.0, 1.0]))] == [1, 0]


def run(*arguments):
    return CliRunner().invoke(app, ["select", *map(str, arguments)])


def test_a_committee_chooses_frames_without_labels(tmp_path):
    for seed in range(2):
        save_potential(random_potential(seed=seed), tmp_path / f"{seed}.safetensors")
    ase.io.write(tmp_path / "frames.extxyz", rattled(12))
    committee = [tmp_path / f"{seed}.safetensors" for seed in range(2)]
    outputs = []
    for name in ("a.extxyz", "b.extxyz"):
        result = run(*committee, tmp_path / "frames.extxyz", "-n", 4, "-o", tmp_path / name)
        assert result.exit_code == 0, result.output
        assert "4 of 12 frames" in result.output
        outputs.append((tmp_path / name).read_bytes())
    assert outputs[0] == outputs[1]
    chosen, frames = ase.io.read(tmp_path / "a.extxyz", ":"), ase.io.read(tmp_path / "frames.extxyz", ":")
    assert len({atoms.info["frame"] for atoms in chosen}) == 4
    for atoms in chosen:
        np.testing.assert_allclose(atoms.positions, frames[atoms.info["frame"]].positions)
        assert atoms.calc is None
    potentials = [random_potential(seed=seed) for seed in range(2)]
    expected = disagreements(potentials, committee_graphs(potentials, frames, tmp_path))
    assert chosen[0].info["frame"] == np.argmax(expected)
    assert chosen[0].info["disagreement"] == pytest.approx(expected.max())
    alone = run(committee[0], ETHANOL, "-n", 3, "-o", tmp_path / "c.extxyz")
    assert alone.exit_code == 0, alone.output
    assert len(ase.io.read(tmp_path / "c.extxyz", ":")) == 3


def test_what_cannot_be_chosen_from_is_refused(tmp_path):
    potential = random_potential()
    with pytest.raises(DataError, match="f.xyz, frame 1: The structure holds Si"):
        committee_graphs([potential], [ethanol(), Atoms("Si")], "f.xyz")
    other = random_potential(config=potential.network.config.model_copy(update={"cutoff": 3.0}))
    with pytest.raises(ConfigError, match="different cutoffs"):
        committee_graphs([potential, other], [ethanol()], "f.xyz")
    with pytest.raises(DataError, match="no file"):
        read_structures(tmp_path / "none.xyz")
    (tmp_path / "bad.extxyz").write_text("no\n")
    with pytest.raises(DataError, match="cannot be read by ASE"):
        read_structures(tmp_path / "bad.extxyz")
    torch.manual_seed(0)
    save_potential(potential, tmp_path / "p.safetensors")
    result = run(tmp_path / "p.safetensors", ETHANOL, "-n", 1000, "-o", tmp_path / "o.extxyz")
    assert result.exit_code == 1
    assert not (tmp_path / "o.extxyz").exists()
