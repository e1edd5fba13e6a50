"""The candidates' benchmark: equal budgets, resumable, and a table with every column."""

import json

import pytest
from tasks import TASKS, Task

from candidates import CANDIDATES, SHORT, measure_costs, run_all, table
from eqpot.network.config import NetworkConfig
from eqpot.training import TrainConfig, Trainer
from helpers import DATA

SMALL = {"n_channels": 4, "radial_width": 8, "cutoff": 3.0}
SPLIT = {"n_train": 20, "n_valid": 10, "reference_energies": "mean"}
TASK = Task("ethanol.npz", {"": "ethanol.npz"}, SPLIT, {"compile": False})
BUDGET = 0.8


def test_every_candidate_is_a_network_and_differs_from_the_others():
    networks = [NetworkConfig(**overrides) for overrides in CANDIDATES.values()]
    assert networks[0] == NetworkConfig()
    assert len({network.model_dump_json() for network in networks}) == len(networks)
    assert set(SHORT) <= set(TASKS)


def test_runs_end_with_their_budget_and_are_kept(tmp_path):
    path = tmp_path / "results.json"
    candidates = {"default": SMALL, "pointwise": {**SMALL, "block": "pointwise", "n_orientations": 12}}
    tasks = {"ethanol": TASK}
    results = run_all(tasks, candidates, DATA, BUDGET, 0, path)
    assert json.loads(path.read_text()) == results
    for row in results["ethanol"].values():
        # The budget is looked at after every step, and an epoch is finished: 4 steps.
        assert BUDGET <= row["steps"] * row["step_ms"] / 1000 < BUDGET + 8 * row["step_ms"] / 1000 + 0.5
        assert row["steps"] > 8
        assert row["parameters"] > 100
    exact, pointwise = results["ethanol"].values()
    assert exact["rotation_float64"] < 1e-8 < 1e-4 < pointwise["rotation_float64"]

    assert run_all(tasks, candidates, DATA, BUDGET, 0, path) == results
    changed = run_all(tasks, {"default": {**SMALL, "n_channels": 5}}, DATA, BUDGET, 0, path)["ethanol"]
    assert changed["default"]["parameters"] > exact["parameters"]
    assert changed["pointwise"] == pointwise

    measure_costs(results, tasks, DATA, rounds=2)
    text = table("ethanol", results["ethanol"])
    assert len(text.splitlines()) == 4
    assert "| default |" in text
    assert "| 1.00 |" in text
    assert len({line.count("|") for line in text.splitlines()}) == 1


def test_the_schedule_follows_the_clock(tmp_path):
    ticks = iter(range(10**6))
    settings = {"epochs": 1000, "minutes": 1, "validate_every": 1000, "compile": False}
    trainer = Trainer(
        TrainConfig.model_validate(
            {"output": tmp_path / "run", "data": {**SPLIT, "train": DATA / "ethanol.npz"}, "network": SMALL, "training": settings}
        ),
        clock=lambda: next(ticks),
    )
    trainer.run()
    assert trainer.step == pytest.approx(60, abs=8)
