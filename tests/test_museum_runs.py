"""Runs that older releases began keep going on."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from eqpot import load_potential
from eqpot.checkpoint import parse_checkpoint, write_checkpoint
from eqpot.config_file import load_config
from eqpot.errors import ConfigError
from eqpot.md import resume_run
from eqpot.md.run import RESTART
from eqpot.observables import read_thermo, read_trajectories
from eqpot.training import TrainConfig, Trainer
from helpers import ROOT

MUSEUM = ROOT / "tests" / "museum"


def test_dynamics(tmp_path):
    shutil.copytree(MUSEUM / "dynamics", tmp_path / "run")
    potential = load_potential(MUSEUM / "format_2_position.safetensors", dtype="float64")
    run = resume_run(tmp_path / "run", potential)
    assert run.simulation.state.step == 5
    summary = run.run()
    assert (summary["steps"], summary["systems"]) == (8, 2)
    table = read_thermo(tmp_path / "run")
    assert table["step"][0].tolist() == [0, 2, 4, 6, 8]
    # What the release that began the run gave at its end.
    expected = json.loads((MUSEUM / "dynamics.json").read_text())
    np.testing.assert_allclose(table["conserved_energy_ev"][:, -1], expected["conserved_energy_ev"], atol=1e-9)
    np.testing.assert_allclose(run.simulation.state.positions, expected["positions"], atol=1e-9)
    assert [len(trajectory.times) for trajectory in read_trajectories(tmp_path / "run")] == [5, 5]


def test_training(tmp_path, monkeypatch):
    shutil.copytree(MUSEUM / "training", tmp_path / "training")
    monkeypatch.chdir(tmp_path / "training")
    trainer = Trainer(load_config(TrainConfig, "config.yaml"), resume=True)
    assert (trainer.epoch, trainer.step) == (2, 5)
    assert trainer.run()
    assert trainer.epoch == 4
    expected = json.loads((MUSEUM / "training.json").read_text())
    assert trainer.errors["energy_rmse_mev"] == pytest.approx(expected["energy_rmse_mev"], rel=1e-3)
    assert load_potential("run/potential.safetensors").elements == [1]


def test_a_key_that_came_later_has_had_its_default(tmp_path, monkeypatch):
    shutil.copytree(MUSEUM / "training", tmp_path / "training")
    monkeypatch.chdir(tmp_path / "training")
    path = Path("run/checkpoint.safetensors")
    state, tensors = parse_checkpoint(path.read_bytes(), path)
    del state["config"]["training"]["threads"], state["data"]["validation_frames"]
    write_checkpoint(path, state, tensors)
    Trainer(load_config(TrainConfig, "config.yaml"), resume=True)
    with pytest.raises(ConfigError, match="training.threads: 1 -> 2"):
        Trainer(load_config(TrainConfig, "config.yaml", ["training.threads=2"]), resume=True)


def test_a_restart_file_of_before_has_no_hash():
    assert b"sha256" not in (MUSEUM / "dynamics" / RESTART).read_bytes()
