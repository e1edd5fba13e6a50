"""Learning rates, stages of the loss, batches by edges, and TensorBoard's events."""

import csv
import itertools
import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from eqpot.config_file import load_config
from eqpot.data import label_graphs, read_frames
from eqpot.errors import ConfigError
from eqpot.training import TrainConfig, Trainer, compiled, logs
from eqpot.training import trainer as trainer_module
from eqpot.training.config import OptimizationConfig
from eqpot.training.loss import collate_samples, make_sample, make_step
from eqpot.training.schedule import Schedule, loss_weights
from helpers import ETHANOL, SILICON, SMALL, random_potential
from training_runs import settings, write_config


def config(folder, **training) -> TrainConfig:
    return TrainConfig.model_validate(settings(folder, training=training))


def errors(force: float, energy: float = 0.0) -> dict[str, float]:
    return {"force_rmse_mev_per_ang": force, "energy_rmse_mev_per_atom": energy}


def test_a_plateau_lowers_the_rate_and_at_last_ends_the_run():
    options = {"schedule": "plateau", "plateau_factor": 0.1, "plateau_patience": 2, "learning_rate": 1.0, "warmup_steps": 9}
    schedule = Schedule(OptimizationConfig(**options))
    assert schedule.learning_rate(0, 0.9) == pytest.approx(0.1)
    assert schedule.learning_rate(100, 0.9) == 1.0
    rates = []
    # Better, worse, better: the count begins anew.
    for force in (3.0, 4.0, 2.0, 2.0, 2.0, 2.5, 2.5, 1.0, 1.0, 1.0):
        assert schedule.judge(errors(force)) == (force < min([math.inf, *(f for f, _ in rates)]))
        rates.append((force, schedule.learning_rate(100, 0.5)))
    assert [rate for _, rate in rates] == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01, 0.01, 1e-3])
    assert not schedule.is_over
    schedule.judge(errors(1.0))
    assert not schedule.is_over
    schedule.judge(errors(1.0))
    assert schedule.is_over


def test_stage_two_has_weights_and_a_best_of_its_own():
    stage_two = {"start": 0.6, "energy_weight": 100.0, "stress_weight": 0.0}
    schedule = Schedule(OptimizationConfig(energy_weight=1.0, forces_weight=2.0, stress_weight=3.0, stage_two=stage_two, patience=2))
    assert schedule.judge(errors(1.0, energy=1.0))
    schedule.advance(0.59)
    assert (schedule.stage, schedule.loss_weights, schedule.score(errors(1.0, energy=1.0))) == (1, [1.0, 2.0, 3.0], 3.0)
    assert not schedule.judge(errors(2.0))
    schedule.advance(0.6)
    assert (schedule.stage, schedule.loss_weights, schedule.score(errors(1.0, energy=1.0))) == (2, [100.0, 2.0, 0.0], 102.0)
    assert schedule.judge(errors(2.0, energy=1.0)), "what other weights chose is no longer compared with"
    schedule.advance(0.7)
    assert not schedule.judge(errors(3.0, energy=1.0)), "the stage begins once"
    assert not schedule.is_over
    schedule.judge(errors(3.0, energy=1.0))
    assert schedule.is_over


def test_patience_in_the_first_stage_makes_room_for_the_second():
    schedule = Schedule(OptimizationConfig(stage_two={"energy_weight": 100.0}, patience=1))
    schedule.judge(errors(1.0))
    schedule.judge(errors(1.0))
    assert not schedule.is_over
    schedule.advance(0.1)
    assert (schedule.stage, schedule.stale, schedule.best) == (2, 0, math.inf)


def test_a_run_in_two_stages_fits_energies_in_the_second(tmp_path):
    runs = {}
    for name, more in (("one", {}), ("two", {"stage_two": {"start": 0.5, "energy_weight": 1000.0, "forces_weight": 0.0}})):
        Trainer(config(tmp_path / name, epochs=20, energy_weight=0.0, **more)).run()
        with (tmp_path / name / "metrics.csv").open() as file:
            runs[name] = list(csv.DictReader(file))
    column = "energy_rmse_mev_per_atom"
    assert "stage" not in runs["one"][0]
    assert [row.pop("stage") for row in runs["two"]] == [*"1111122222"]
    assert runs["one"][:5] == runs["two"][:5]
    assert float(runs["two"][-1][column]) < 0.7 * float(runs["one"][-1][column])


def test_a_plateau_ends_a_run_before_its_last_epoch(tmp_path):
    trainer = Trainer(config(tmp_path / "run", schedule="plateau", plateau_factor=0.01, plateau_patience=1, validate_every=1, epochs=50))
    trainer.schedule.best = 0.0
    reports = []
    assert trainer.run(reports.append)
    assert [report["learning_rate"] for report in reports] == pytest.approx([0.02 * 4 / 6, 0.02 * 0.01])
    assert reports[-1]["progress"] == trainer.progress == 1
    assert Trainer(trainer.config, resume=True).is_finished


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"batch_size": 5, "batch_edges": 1000}, "training: give either batch_size or batch_edges"),
        ({"batch_size": None}, "training: give either batch_size or batch_edges"),
        ({"batch_edges": 0}, "training.batch_edges is 0, and should be greater than or equal to 1"),
        ({"stage_two": {"start": 0.5}}, "training.stage_two: it changes no weight"),
        ({"stage_two": {"start": 1.0, "energy_weight": 1.0}}, "training.stage_two.start is 1.0, and should be less than 1"),
        ({"stage_two": {"energy_weigth": 1.0}}, "nearest known key is 'training.stage_two.energy_weight'"),
        ({"schedule": "linear"}, "training.schedule is 'linear', and should be 'cosine' or 'plateau'"),
        ({"plateau_factor": 1.0}, "training.plateau_factor is 1.0, and should be less than 1"),
    ],
)
def test_a38_keys_that_contradict_each_other_or_themselves(tmp_path, keys, message):
    with pytest.raises(ConfigError, match=message):
        load_config(TrainConfig, write_config(tmp_path, training=keys))


LIMIT = 1500


@pytest.fixture
def mixed(tmp_path):
    """A run on crystals whose sizes differ."""
    data = {"train": str(SILICON), "n_train": 10, "n_valid": 2}
    # With this seed the first batch is not the one of most structures.
    return TrainConfig.model_validate(settings(tmp_path / "run", seed=2, data=data, training={"batch_edges": LIMIT, "epochs": 1}))


def test_batches_by_edges_hold_every_frame_once_and_no_more_edges_than_that(mixed):
    trainer = Trainer(mixed)
    assert load_config(TrainConfig, mixed.output / "config.yaml") == trainer.config
    n_edges = [sample.edge_index.shape[1] for sample in trainer.samples]
    orders = []
    for epoch in range(2):
        batches = trainer._batches(epoch)
        sums = [sum(n_edges[i] for i in batch) for batch in batches]
        assert max(sums) <= LIMIT
        assert all(total + n_edges[following[0]] > LIMIT for total, (_, following) in zip(sums, itertools.pairwise(batches), strict=False))
        orders.append([i for batch in batches for i in batch])
        assert sorted(orders[-1]) == list(range(10))
    assert orders[0] != orders[1]
    trainer.run()
    assert trainer.step == len(trainer._batches(0))


def test_the_step_of_a_resumed_run_is_chosen_as_that_of_the_first(mixed, monkeypatch):
    calls = []
    monkeypatch.setattr(trainer_module, "choose_step", lambda *arguments: calls.append(arguments) or compiled.choose_step(*arguments))
    trainer = Trainer(mixed)
    trainer.run()
    Trainer(trainer.config, resume=True).run()
    (_, _, first, _, *whole), (_, _, second, _, *resumed) = calls
    assert whole == resumed
    assert whole[0] == len(trainer._batches(0))
    assert torch.equal(first.vectors, second.vectors)
    # A structure alone would be traced as if all batches were.
    n_structures = [len(batch) for batch in trainer._batches(0)]
    assert len(first.counts) == max(n_structures) > n_structures[0]


def test_a_resumed_run_goes_on_in_its_stage_and_on_its_plateau(tmp_path):
    # A rate too high to improve for long.
    training = {"schedule": "plateau", "plateau_patience": 2, "learning_rate": 0.2, "validate_every": 1, "epochs": 16}
    training |= {"stage_two": {"start": 0.5, "energy_weight": 100.0}, "batch_edges": 350}

    class Stop(Exception):
        pass

    def stop(_):
        raise Stop

    reports = []
    Trainer(config(tmp_path / "whole", **training)).run(reports.append)
    for stage in (1, 2):
        bests = [report["is_best"] for report in reports if report["stage"] == stage]
        assert bests[0]
        assert any(first and not second for first, second in itertools.pairwise(bests))
        assert len({report["learning_rate"] for report in reports[1:] if report["stage"] == stage}) > 1, "the rate was reduced"
    parts = config(tmp_path / "parts", **training)
    for resume in range(16):
        with pytest.raises(Stop):
            Trainer(parts, resume=resume > 0).run(stop)
    for name in ("metrics.csv", "potential.safetensors"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


@pytest.mark.parametrize("n_structures", [2, 3, 4])
def test_a_traced_step_holds_for_batches_of_any_size(monkeypatch, n_structures):
    """Sizes that agree by chance in the example, such as three structures and three directions, must not be taken for one."""
    potential = random_potential((1, 6, 8, 14), SMALL.model_copy(update={"n_blocks": 1}))
    frames = [*read_frames(SILICON)[:3], *read_frames(ETHANOL)[:3]]
    samples = [make_sample(item, potential) for item in label_graphs(frames, 4.0)]
    monkeypatch.setattr(torch, "compile", lambda traced, **_: traced)
    options = OptimizationConfig(compile=True)
    step, is_compiled = compiled.choose_step(potential.network, options, collate_samples(samples[:n_structures]), True, 1)
    assert is_compiled
    eager = make_step(potential.network, options, with_stress=True)
    parameters = [parameter.detach() for parameter in potential.network.parameters()]
    for batch in (samples[:1], samples[2:4], samples[3:], samples):
        arguments = (parameters, torch.tensor(loss_weights(options)), *collate_samples(batch).tensors())
        for a, b in zip(step(*arguments), eager(*arguments), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


def test_tensorboard_shows_what_the_table_holds_once(tmp_path):
    settings = config(tmp_path / "run", tensorboard=True, validate_every=1)

    class Stop(Exception):
        pass

    def stop(report):
        if report["epoch"] == 3:
            raise Stop

    first = Trainer(settings)
    before_last = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()

    def remember(report):
        nonlocal before_last
        if report["epoch"] == 2:
            before_last = (tmp_path / "run" / "checkpoint.safetensors").read_bytes()
        stop(report)

    with pytest.raises(Stop):
        first.run(remember)
    # As if killed between the events and the checkpoint of the third validation.
    (tmp_path / "run" / "checkpoint.safetensors").write_bytes(before_last)
    Trainer(settings, resume=True).run()
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert len(rows) == 6
    assert set(events.Tags()["scalars"]) == set(rows[0]) - {"step"}
    for name in events.Tags()["scalars"]:
        curve = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in curve] == [int(row["step"]) for row in rows]
        assert [value for _, value in curve] == pytest.approx([float(row[name]) for row in rows], rel=1e-6)


def test_tensorboard_that_is_not_installed_is_asked_for_before_anything_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(logs.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(ConfigError, match=r"pip install 'eqpot\[tensorboard\]'"):
        Trainer(config(tmp_path / "run", tensorboard=True))
    assert not (tmp_path / "run").exists()
