"""What the loss counts, and how much; A19."""

import dataclasses
import math
import shutil

import pytest
import torch

from eqpot.data import label_graphs, read_frames
from eqpot.training import evaluate
from eqpot.training.compiled import choose_step
from eqpot.training.config import OptimizationConfig, TrainConfig
from eqpot.training.loss import collate_samples, error_sizes, make_sample, make_step
from eqpot.training.schedule import loss_weights
from eqpot.training.trainer import Trainer
from helpers import ETHANOL, SILICON, random_potential
from training_runs import settings

LOSSES = ("mse", "huber", "norm")


def labelled(n=3):
    return label_graphs(read_frames(SILICON)[:n], 4.0)


def without(item, *names):
    """The structure without some labels: they are zero and said to be missing."""
    fields = {"energy": "has_energy", "forces": "has_forces", "stress": "has_stress"}
    changes = {name: torch.zeros_like(getattr(item, name)) for name in names}
    return dataclasses.replace(item, **changes, **{fields[name]: torch.tensor([False]) for name in names})


def loss_and_gradient(potential, items, **config):
    settings = OptimizationConfig(**config)
    step = make_step(potential.network, settings, with_stress=True)
    sample = collate_samples([make_sample(item, potential) for item in items])
    loss, *gradients = step(list(potential.network.parameters()), torch.tensor(loss_weights(settings)), *sample.tensors())
    return float(loss), torch.cat([part.flatten() for part in gradients])


def test_sizes_of_errors():
    errors = torch.tensor([[3.0, 4.0, 0.0], [0.5, 0.0, -0.5]], dtype=torch.float64)
    torch.testing.assert_close(error_sizes(errors, OptimizationConfig()), torch.tensor([25 / 3, 0.5 / 3], dtype=torch.float64))
    # 2 |e| - 1 beyond delta = 1.
    huber = OptimizationConfig(loss="huber", huber_delta=1.0)
    torch.testing.assert_close(error_sizes(errors, huber), torch.tensor([(5 + 7) / 3, 0.5 / 3], dtype=torch.float64))
    torch.testing.assert_close(error_sizes(errors, OptimizationConfig(loss="norm")), torch.tensor([5.0, 0.5**0.5], dtype=torch.float64))
    zero = torch.zeros(1, 3, requires_grad=True)
    for loss in LOSSES:
        (gradient,) = torch.autograd.grad(error_sizes(zero, OptimizationConfig(loss=loss)).sum(), zero)
        assert torch.equal(gradient, torch.zeros(1, 3))


@pytest.mark.parametrize("loss", LOSSES)
def test_a19_what_is_not_labelled_changes_nothing(loss):
    potential, items = random_potential((14,)), labelled()
    weights = {"energy": "energy_weight", "forces": "forces_weight", "stress": "stress_weight"}
    for name, key in weights.items():
        others = {weights[other]: 0.0 for other in weights if other != name}
        partial = [items[0], without(items[1], name), items[2]]
        both, expected = (loss_and_gradient(potential, chosen, loss=loss, **others) for chosen in (partial, [items[0], items[2]]))
        assert both[0] == pytest.approx(expected[0], rel=1e-12)
        torch.testing.assert_close(both[1], expected[1], rtol=1e-10, atol=1e-12)
        assert loss_and_gradient(potential, [without(items[0], name)], loss=loss, **others)[0] == 0
        assert loss_and_gradient(potential, items, loss=loss, **{key: 0.0}) != loss_and_gradient(potential, items, loss=loss)


def test_a_structure_counts_by_its_weight():
    potential, items = random_potential((14,)), labelled(2)
    heavy = dataclasses.replace(items[1], weight=torch.tensor([3.0], dtype=torch.float64))
    first, second = (loss_and_gradient(potential, [item])[1] for item in items)
    torch.testing.assert_close(loss_and_gradient(potential, [items[0], heavy])[1], (first + 3 * second) / 2)


def test_shares_of_a_batch_add_up_to_it():
    potential, items = random_potential((14,)), labelled()
    samples = [make_sample(item, potential) for item in (items[0], without(items[1], "forces"), items[2])]
    step, parameters = make_step(potential.network, OptimizationConfig(), with_stress=True), list(potential.network.parameters())
    weights = torch.ones(3)
    n_labels = torch.tensor([3, 2 * len(samples[0].species), 3])
    shares = [step(parameters, weights, *collate_samples(share, n_labels).tensors()) for share in (samples[:1], samples[1:])]
    for whole, first, second in zip(step(parameters, weights, *collate_samples(samples).tensors()), *shares, strict=True):
        torch.testing.assert_close(first + second, whole, rtol=1e-10, atol=1e-12)


def test_errors_are_of_the_labels_that_are_there():
    potential, items = random_potential((14,)), labelled()
    partial = [without(items[0], "energy"), without(items[1], "forces"), without(items[2], "stress")]
    measured = evaluate(potential, partial)
    alone = [evaluate(potential, [item]) for item in items]
    for key in ("energy_mae_mev", "energy_mae_mev_per_atom"):
        assert measured[key] == pytest.approx((alone[1][key] + alone[2][key]) / 2)
    assert measured["force_mae_mev_per_ang"] == pytest.approx((alone[0]["force_mae_mev_per_ang"] + alone[2]["force_mae_mev_per_ang"]) / 2)
    for key in ("stress_mae_mev_per_ang3", "virial_mae_mev_per_atom"):
        assert measured[key] == pytest.approx((alone[0][key] + alone[1][key]) / 2)
    assert not any(name.startswith("energy") for name in evaluate(potential, partial[:1]))


def test_stress_errors_are_those_of_the_six_components():
    """As LAMMPS and publications count them: an off-diagonal component is one, not two."""
    potential, items = random_potential((14,)), labelled()
    wrong = potential.evaluate(items[0].graph)["stress"]
    wrong[:, 0, 1] = wrong[:, 1, 0] = wrong[0, 0, 1] + 0.006
    measured = evaluate(potential, [dataclasses.replace(items[0], stress=wrong)])
    assert measured["stress_mae_mev_per_ang3"] == pytest.approx(1.0)
    assert measured["stress_rmse_mev_per_ang3"] == pytest.approx(6 / math.sqrt(6))


@pytest.mark.parametrize("loss", LOSSES)
def test_every_loss_learns(tmp_path, loss):
    reports = []
    Trainer(TrainConfig.model_validate(settings(tmp_path / "run", training={"loss": loss, "epochs": 30, "validate_every": 10}))).run(
        reports.append
    )
    assert reports[-1]["loss"] < 0.6 * reports[0]["loss"]
    assert reports[-1]["force_mae_mev_per_ang"] < 0.8 * reports[10]["force_mae_mev_per_ang"]


def test_patience_ends_a_run_that_does_not_improve(tmp_path):
    trainer = Trainer(TrainConfig.model_validate(settings(tmp_path / "run", training={"validate_every": 1, "epochs": 50, "patience": 3})))
    trainer.schedule.best = 0.0
    reports = []
    assert trainer.run(reports.append)
    assert trainer.epoch == 3
    assert reports[-1]["progress"] == 1
    again = Trainer(trainer.config, resume=True)
    assert again.is_finished


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="compiles")
@pytest.mark.parametrize("loss", LOSSES[1:])
def test_every_loss_compiles_with_labels_that_are_missing(loss):
    potential = random_potential(dtype=torch.float32)
    samples = [make_sample(item, potential) for item in label_graphs(read_frames(ETHANOL)[:4], 4.0)]
    config = OptimizationConfig(compile=True, loss=loss)
    compiled, is_compiled = choose_step(potential.network, config, collate_samples(samples[:2]), with_stress=True, n_steps=1)
    assert is_compiled
    eager = make_step(potential.network, config, with_stress=True)
    samples[1].forces_weight.zero_()
    parameters = [parameter.detach() for parameter in potential.network.parameters()]
    for batch in (samples[:2], samples[1:]):
        arguments = (parameters, torch.ones(3), *collate_samples(batch).tensors())
        for a, b in zip(compiled(*arguments), eager(*arguments), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()) + 1e-7)
