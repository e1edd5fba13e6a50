"""The benchmark of accuracy: budgets are kept, runs go on, peers learn, and the tables hold what was measured."""

import json
from dataclasses import replace

import accuracy
import numpy as np
import pytest
import torch
from accuracy import run_budget, run_recipes
from tasks import TASKS, Task

import published
from accuracy_tables import tables
from eqpot.network.config import NetworkConfig
from eqpot.training import TrainConfig
from helpers import DATA
from workers import learner as learning
from workers import ponita

SMALL = {"network": {"n_channels": 4, "radial_width": 8, "cutoff": 3.0}, "training": {"compile": False}}
TASK = Task("ethanol.npz", {"": "ethanol.npz"}, {"n_train": 20, "n_valid": 10, "reference_energies": "mean"})


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setitem(TASKS, "small", TASK)
    monkeypatch.setitem(accuracy.BUDGET_RECIPES, "small", SMALL)
    epochs = {"network": SMALL["network"], "training": {"compile": False, "epochs": 3}}
    monkeypatch.setitem(accuracy.RECIPES, "small", epochs)


def test_recipes_are_configurations(tmp_path):
    for name, recipe in {**accuracy.RECIPES, **accuracy.BUDGET_RECIPES}.items():
        settings = TASKS[name].config(tmp_path, tmp_path / "run", recipe.get("network", {}), recipe.get("training", {}))
        assert TrainConfig.model_validate(settings).network == NetworkConfig(**recipe.get("network", {}))


def test_budget_and_recipe_are_kept_and_not_done_again(small, tmp_path):
    path = tmp_path / "results.json"
    run_budget(["small"], ["eqpot"], DATA, tmp_path, 0.5, 0, path)
    run_recipes(["small"], DATA, tmp_path / "runs", 0, path)
    results = json.loads(path.read_text())
    row = results["budget"]["small, eqpot"]
    assert 0.5 <= row["seconds"] < 2
    assert row["steps"] > 4
    assert results["recipes"]["small"]["steps"] == 12
    assert {"force_mae", "energy_rmse", "energy_per_atom_mae", "machine", "torch"} <= set(row)
    run_budget(["small"], ["eqpot"], DATA, tmp_path, 0.5, 0, path)
    run_recipes(["small"], DATA, tmp_path / "runs", 0, path)
    assert json.loads(path.read_text()) == results
    table = tables(results)[0]
    assert f"| eqpot | {row['force_mae']:.2f} |" in table
    assert len({line.count("|") for line in table.splitlines()}) == 1


def test_a_task_of_several_tests_has_a_row_for_each(small, tmp_path, monkeypatch):
    monkeypatch.setitem(TASKS, "small", replace(TASK, tests={"first": "ethanol.npz", "second": "ethanol.npz"}))
    run_recipes(["small"], DATA, tmp_path / "runs", 0, tmp_path / "results.json")
    rows = json.loads((tmp_path / "results.json").read_text())["recipes"]
    assert list(rows) == ["small, first", "small, second"]
    assert rows["small, first"]["force_mae"] == rows["small, second"]["force_mae"]


def test_recipes_stand_beside_what_is_published():
    row = {"energy_mae": 0.5, "force_mae": 2.25, "steps": 1000, "seconds": 3600.0}
    metal = {"energy_per_atom_mae": 0.5, "force_mae": 22.5, "stress_mae": 0.0123, "steps": 1000, "seconds": 1800.0}
    molecules, crystals = (
        table.replace("\u00a0", " ") for table in tables({"recipes": {"ethanol": row, "copper": metal, "MoNbTaW, Mo": metal}})
    )
    assert "| ethanol | 0.500 / 2.25 | 0.4 / 2.1 | 0.4 / 2.1 | 0.4 / 2.8 | 2.7 / 10.0 | 0.4 / 2.5 | 1,000 | 1.0 |" in molecules
    assert "| MoNbTaW, Mo | 0.500 / 22.5 / 0.0123 | 2.48 / 126 / 0.853 |  | 1,000 | 0.5 |" in crystals
    for table in (molecules, crystals):
        assert len({line.count("|") for line in table.splitlines()}) == 1


def test_every_recipe_has_published_errors_beside_it():
    known = {**published.MOLECULES, **published.TOGETHER, **published.ACETYLACETONE, **published.CRYSTALS}
    rows = {f"{name}, {test}" if test else name for name, task in TASKS.items() for test in task.tests}
    assert rows == set(known)
    assert set(accuracy.RECIPES) == set(TASKS)


def test_a_peer_that_is_not_installed_is_left_out(small, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("contest.PEERS", tmp_path)
    run_budget(["small"], ["PaiNN, 128, 3 layers"], DATA, tmp_path, 0.5, 0, tmp_path / "results.json")
    assert "left out: small, PaiNN, 128, 3 layers: schnetpack is not installed" in capsys.readouterr().err


def test_official_ponita_learns(monkeypatch):
    torch.manual_seed(0)
    frames = learning.read_rmd17(DATA / "ethanol.npz")[:10]
    small = {"hidden_dim": 16, "basis_dim": 16, "num_layers": 2, "num_ori": 6}
    monkeypatch.setattr(ponita, "CONFIG", ponita.CONFIG.model_copy(update=small))
    learner = ponita.PonitaLearner(frames)
    learner.optimizer.param_groups[0]["lr"] = 0.005
    before = learning.errors(learner, frames)["force_mae"]
    items = learner.prepare(frames)
    for _ in range(150):
        learner.step(items)
    assert learning.errors(learner, frames)["force_mae"] < 0.85 * before


def test_turned_structures_have_turned_forces():
    torch.manual_seed(1)
    rotations = ponita.random_rotations(4).double()
    assert torch.allclose(rotations @ rotations.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(4, 3, 3), atol=1e-6)
    assert torch.allclose(torch.linalg.det(rotations), torch.ones(4, dtype=torch.float64), atol=1e-6)
    # Neighbours on a grid of 20 are far apart: 0.5 rad would be a random one.
    points = ponita.repelled(20)
    angles = torch.acos((points @ points.t()).clamp(-1, 1)) + 10 * torch.eye(20)
    assert angles.min() > 0.6


def test_rates_fall_with_the_budget(monkeypatch):
    clock = iter(np.arange(0, 1000, 0.5))
    monkeypatch.setattr(learning, "errors", lambda learner, frames, *_: {"energy_mean": 0.0})
    monkeypatch.setattr(learning.time, "process_time", lambda: float(next(clock)))
    learner = Constant()
    learning.fit(learner, [], [], seconds=10)
    assert learner.rates[0] == pytest.approx(1.0, abs=0.01)
    assert learner.rates == sorted(learner.rates, reverse=True)
    assert learner.rates[-1] < 0.05


def test_a_peer_that_was_stopped_goes_on(monkeypatch, tmp_path):
    monkeypatch.setattr(learning, "errors", lambda learner, frames, *_: {"energy_mean": 0.0})
    monkeypatch.setattr(learning, "SAVED_EVERY", 0.0)
    steps = []
    monkeypatch.setattr(learning.time, "process_time", lambda: 0.5 * len(steps))

    def run(checkpoint, stop_at=None):
        torch.manual_seed(0)
        learner = Constant()
        learner.ema_decay = 0.9
        learner.loss = lambda items: stopped(learner, stop_at)
        return learner, learning.fit(learner, [], [], 10.0, checkpoint)

    def stopped(learner, stop_at):
        if len(steps) == stop_at:
            raise KeyboardInterrupt
        steps.append(learner.optimizer.param_groups[0]["lr"])
        return learner.model.weight.square().sum()

    whole, found = run(None)
    rates, steps[:] = list(steps), []
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run.pt", stop_at=7)
    parts, again = run(tmp_path / "run.pt")
    assert steps == rates
    assert again == found
    assert torch.equal(parts.model.weight, whole.model.weight)


class Constant(learning.Learner):
    batch_size = 0

    def __init__(self):
        self.model = torch.nn.Linear(1, 1)
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=1.0)
        self.rates = []

    def prepare(self, frames):
        return []

    def loss(self, items):
        self.rates.append(self.optimizer.param_groups[0]["lr"])
        return self.model.weight.sum()

    def predict(self, items):
        raise NotImplementedError
