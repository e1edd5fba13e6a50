"""Fitting; A22, A38, A39."""

import csv
import itertools
import shutil
import types
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator

from eqpot import load_potential
from eqpot.config_file import load_config, parse_yaml
from eqpot.data import label_graphs, read_frames
from eqpot.errors import ConfigError, DataError, EqpotError, ModelFileError
from eqpot.model_file import read_header
from eqpot.neighbors import build_graph
from eqpot.training import TrainConfig, Trainer, evaluate
from eqpot.training.compiled import choose_step
from eqpot.training.config import OptimizationConfig
from eqpot.training.loss import collate_samples, make_sample, make_step
from eqpot.training.schedule import Schedule
from eqpot.training.start import read_split
from eqpot.training.trainer import split_batches
from helpers import ETHANOL, NETWORKS, SILICON, random_potential

SETTINGS = {
    "data": {"train": str(ETHANOL), "n_train": 20, "n_valid": 10, "reference_energies": "mean"},
    "network": {"n_channels": 8, "radial_width": 8, "cutoff": 4.0},
    "training": {"epochs": 6, "validate_every": 2, "warmup_steps": 5, "learning_rate": 0.02, "compile": False},
}


def config(tmp_path, name="run", **changes) -> TrainConfig:
    values = {**SETTINGS, "output": str(tmp_path / name)}
    for section, entries in changes.items():
        values[section] = {**values[section], **entries} if isinstance(entries, dict) else entries
    return TrainConfig.model_validate(values)


def test_a_run_learns_and_leaves_what_it_promises(tmp_path):
    trainer = Trainer(config(tmp_path, training={"epochs": 30, "validate_every": 10}))
    reports = []
    trainer.run(reports.append)
    assert len(reports) == 30
    assert reports[-1]["loss"] < 0.5 * reports[0]["loss"]
    folder = tmp_path / "run"
    assert {path.name for path in folder.iterdir()} == {
        *("config.yaml", "metrics.csv", "timings.csv", "checkpoint.safetensors", "potential.safetensors")
    }
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["10", "20", "30"]
    potential = load_potential(folder / "potential.safetensors")
    measured = evaluate(potential, label_graphs(read_split(trainer.config)[1], potential.cutoff))
    best = min(rows, key=lambda row: float(row["force_rmse_mev_per_ang"]))
    assert measured["force_mae_mev_per_ang"] == pytest.approx(float(best["force_mae_mev_per_ang"]), rel=1e-3)
    header = read_header(folder / "potential.safetensors")
    assert (header.training["training_frames"], header.training["validation_frames"]) == (20, 10)
    assert len(header.training["data_sha256"]) == 64
    assert set(header.shortest_distances) == {"H-H", "H-C", "H-O", "C-C", "C-O"}
    bonds = [frame.atoms.get_distances(0, [1]).item() for frame in read_split(trainer.config)[0]]
    assert header.shortest_distances["C-C"] == pytest.approx(min(bonds))
    assert potential.shortest_distances == header.shortest_distances
    again = load_config(TrainConfig, folder / "config.yaml")
    assert again == trainer.config


def test_the_loss_of_an_epoch_is_the_mean_over_its_frames(tmp_path):
    reports = []
    for batch_size in (8, 20):
        training = {"epochs": 1, "batch_size": batch_size, "learning_rate": 1e-12}
        Trainer(config(tmp_path, str(batch_size), training=training)).run(reports.append)
    assert reports[0]["loss"] == pytest.approx(reports[1]["loss"], rel=1e-5)


@pytest.mark.parametrize("network", [{"geometry": "position"}, {"geometry": "point_cloud"}, {"block": "pointwise"}], ids=str)
def test_every_geometry_learns(tmp_path, network):
    settings = config(tmp_path, network={**network, "widening": 2}, training={"epochs": 40, "validate_every": 40, "learning_rate": 0.02})
    reports = []
    Trainer(settings).run(reports.append)
    assert reports[-1]["loss"] < 0.7 * reports[0]["loss"]
    assert load_potential(tmp_path / "run" / "potential.safetensors").network.config == settings.network


def test_a22_same_seed_same_bits_and_another_seed_other_bits(tmp_path):
    results = []
    for name, seed in (("a", 3), ("b", 3), ("c", 4)):
        Trainer(config(tmp_path, name, seed=seed)).run()
        results.append((tmp_path / name / "checkpoint.safetensors").read_bytes())
    weights = [result[result.index(b"}") :][-20000:] for result in results]
    assert weights[0] == weights[1]
    assert weights[0] != weights[2]


def test_a22_a_resumed_run_equals_an_uninterrupted_one(tmp_path):
    whole = Trainer(config(tmp_path, "whole"))
    whole.run()

    class Stop(Exception):
        pass

    def stop_after_four(report):
        if report["epoch"] == 4:
            raise Stop

    settings = config(tmp_path, "parts")
    with pytest.raises(Stop):
        Trainer(settings).run(stop_after_four)
    Trainer(settings, resume=True).run()
    a, b = (load_potential(tmp_path / name / "potential.safetensors").network.state_dict() for name in ("whole", "parts"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_a39_resume_refuses_another_configuration(tmp_path):
    Trainer(config(tmp_path)).run()
    with pytest.raises(ConfigError, match="training.learning_rate: 0.02 -> 0.0001"):
        Trainer(config(tmp_path, training={"learning_rate": 1e-4}), resume=True)
    with pytest.raises(ConfigError, match="no checkpoint"):
        Trainer(config(tmp_path, "other"), resume=True)
    checkpoint = tmp_path / "run" / "checkpoint.safetensors"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ModelFileError, match="cannot be read"):
        Trainer(config(tmp_path), resume=True)


def test_a39_resume_refuses_other_validation_frames(tmp_path):
    shutil.copy(ETHANOL, tmp_path / "valid.npz")
    settings = config(tmp_path, data={"valid": str(tmp_path / "valid.npz")})
    Trainer(settings)
    with np.load(ETHANOL) as arrays:
        np.savez(tmp_path / "valid.npz", **{**arrays, "energies": arrays["energies"] + 1.0})
    with pytest.raises(ConfigError, match="data files.data_sha256"):
        Trainer(settings, resume=True)


def test_checkpoints_are_minutes_apart(tmp_path, monkeypatch):
    """Forty seconds pass at every step."""
    trainer = Trainer(config(tmp_path, training={"checkpoint_minutes": 1.0, "validate_every": 6, "batch_size": 5}))
    moments = itertools.count(0, 40)
    monkeypatch.setattr("eqpot.training.trainer.time", types.SimpleNamespace(monotonic=lambda: next(moments)))
    trainer.run()
    rows = (tmp_path / "run" / "timings.csv").read_text().splitlines()[1:]
    assert [int(row.split(",")[0]) for row in rows] == [*range(0, 25, 2), 24]


def test_the_last_epoch_is_validated_whatever_the_interval(tmp_path):
    Trainer(config(tmp_path, training={"validate_every": 4})).run()
    rows = (tmp_path / "run" / "metrics.csv").read_text().splitlines()[1:]
    assert [row.split(",")[0] for row in rows] == ["4", "6"]


def test_gradients_are_clipped(tmp_path):
    trainer = Trainer(config(tmp_path, training={"gradient_clip": 0.1}))
    trainer._update(torch.tensor(1.0), [torch.ones_like(parameter) for parameter in trainer.parameters], 0.0)
    norms = torch.stack([parameter.grad.norm() for parameter in trainer.parameters])
    assert float(norms.norm()) == pytest.approx(0.1, rel=1e-4)


def test_resume_says_how_to_train_longer(tmp_path):
    Trainer(config(tmp_path))
    with pytest.raises(ConfigError, match="epochs: 6 -> 7.*or on other data, start a new run with init: .*potential.safetensors"):
        Trainer(config(tmp_path, training={"epochs": 7}), resume=True)


def test_a_warm_up_longer_than_the_run_is_warned_of(tmp_path, caplog):
    Trainer(config(tmp_path))
    assert "warmup_steps" not in caplog.text
    Trainer(config(tmp_path, "other", training={"warmup_steps": 24}))
    assert "warmup_steps is 24, and the run has 24 steps, so the learning rate never reaches its peak" in caplog.text


def test_channels_that_rule_out_the_fused_kernel_are_warned_of(tmp_path, caplog):
    Trainer(config(tmp_path))
    assert "network.n_channels is 8, and the fused kernel, which makes evaluation faster, takes multiples of 16 in float32" in caplog.text


def test_a_stress_in_another_unit_is_warned_of(tmp_path, caplog):
    frames = ase.io.read(SILICON, ":4")
    for atoms in frames:
        atoms.calc.results["stress"] = 1600.0 * atoms.get_stress() + 1.0
    ase.io.write(tmp_path / "kbar.extxyz", frames)
    read_split(config(tmp_path, data={"train": str(tmp_path / "kbar.extxyz"), "n_train": 3, "n_valid": 1}))
    assert "is it in kbar or GPa" in caplog.text


def test_an_existing_run_folder_is_left_alone(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "precious").touch()
    with pytest.raises(ConfigError, match="run folder .* exists"):
        Trainer(config(tmp_path))
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["precious"]


def test_stress_is_learned_where_it_is_labelled(tmp_path):
    trainer = Trainer(
        config(tmp_path, data={"train": str(SILICON), "n_train": 10, "n_valid": 2}, training={"epochs": 2, "validate_every": 1})
    )
    trainer.run()
    assert trainer.with_stress
    assert trainer.errors["stress_mae_mev_per_ang3"] > 0


def test_a19_frames_without_stress_do_not_enter_the_stress_loss():
    potential = random_potential((14,))
    frames = read_frames(SILICON)[:2]
    with_stress = [make_sample(item, potential) for item in label_graphs(frames, 4.0)]
    without = [make_sample(item, potential) for item in label_graphs([frames[0], strip(frames[1])], 4.0)]
    step = make_step(potential.network, OptimizationConfig(), with_stress=True)
    only_stress = torch.tensor([0.0, 0.0, 1.0])
    parameters = list(potential.network.parameters())
    first, _, masked = (
        float(step(parameters, only_stress, *collate_samples(samples).tensors())[0]) for samples in (with_stress[:1], with_stress, without)
    )
    assert masked == pytest.approx(first, rel=1e-10)


def strip(frame):
    return type(frame)(frame.atoms, frame.energy, frame.forces, None, frame.origin)


def test_the_loss_is_that_of_the_potential():
    """The training step computes its own forces and virial; they must be those of `Potential`."""
    potential = random_potential((14,))
    frames = read_frames(SILICON)[:3]
    frames[1].atoms.cell = frames[1].atoms.cell.array[[1, 0, 2]]  # left-handed
    labelled = label_graphs(frames, 4.0)
    step = make_step(potential.network, OptimizationConfig(), with_stress=True)
    sample = collate_samples([make_sample(item, potential) for item in labelled])
    loss = step(list(potential.network.parameters()), torch.tensor([2.0, 3.0, 5.0]), *sample.tensors())[0]
    expected, force_errors = 0.0, []
    for item in labelled:
        result = potential.evaluate(item.graph)
        per_atom = item.graph.n_atoms * float(potential.scale)
        volume = float(torch.linalg.det(item.graph.cells[0]).abs())
        expected += 2.0 * float(((result["energy"] - item.energy) / per_atom) ** 2) / 3
        expected += 5.0 * float(((result["stress"] - item.stress) * volume / per_atom).square().mean()) / 3
        force_errors.append((result["forces"] - item.forces) / potential.scale)
    expected += 3.0 * float(torch.cat(force_errors).square().mean())
    assert float(loss) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize(("network", "n_blocks"), [("position", 1), pytest.param("exact", 2, marks=pytest.mark.slow)])
def test_the_compiled_step_equals_the_eager_one(network, n_blocks):
    """The exact network takes minutes of compilation; every run checks its own compiled step before it uses it."""
    potential = random_potential((14,), NETWORKS[network].model_copy(update={"n_blocks": n_blocks}), dtype=torch.float32)
    samples = [make_sample(item, potential) for item in label_graphs(read_frames(SILICON)[:4], 4.0)]
    settings = OptimizationConfig(compile=True)
    compiled, is_compiled = choose_step(potential.network, settings, collate_samples(samples[:2]), with_stress=True, n_steps=1)
    if not shutil.which("g++"):
        assert not is_compiled
        return
    assert is_compiled
    parameters = [parameter.detach() for parameter in potential.network.parameters()]
    eager = make_step(potential.network, settings, with_stress=True)
    for batch in (samples[:2], samples[1:4]):
        arguments = (parameters, torch.tensor([2.0, 3.0, 5.0]), *collate_samples(batch).tensors())
        for a, b in zip(compiled(*arguments), eager(*arguments), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3 * float(b.abs().max()) + 1e-7)


@pytest.mark.parametrize("batches", [{"batch_size": 1}, {"batch_edges": 60}])
def test_a_compiled_step_takes_batches_of_other_sizes_than_the_first(tmp_path, monkeypatch, batches):
    """Lengths of 0 and 1 in the example are compiled as constants, so it has none: here the first batches have one structure, or atom."""
    examples = []

    def choose(network, settings, example, with_stress, n_steps, names):
        assert n_steps == 6 * 5
        examples.append(example)
        return lambda *_: pytest.fail("not called"), True

    monkeypatch.setattr("eqpot.training.trainer.choose_step", choose)
    one, many = (bulk("Si", cubic=cubic) for cubic in (False, True))
    one = one[:1]
    frames = [one, one.copy(), one.copy(), many, one.copy(), one.copy()]
    for number, atoms in enumerate(frames):
        atoms.rattle(0.02, seed=number)
        atoms.calc = SinglePointCalculator(atoms, energy=-float(len(atoms)), forces=np.full((len(atoms), 3), 0.1))
    ase.io.write(tmp_path / "frames.extxyz", frames)
    data = {"train": str(tmp_path / "frames.extxyz"), "n_train": 5, "n_valid": 1, "split": "ordered"}
    training = {"batch_size": None, **batches, "compile": True}
    trainer = Trainer(config(tmp_path, data=data, network={"cutoff": 4.0}, training=training))
    monkeypatch.setattr(trainer, "_batches", lambda epoch: [[0], [1], [2], [3], [4]])
    trainer._choose_step()
    (example,) = examples
    assert len(example.counts) == (1 if "batch_size" in batches else 2)
    assert len(example.species) >= 8
    assert example.edge_index.shape[1] > 8


@pytest.mark.parametrize(("wanted", "n_steps", "is_compiled"), [(None, 3999, False), (None, 4000, True), (False, 4000, False)])
def test_steps_are_compiled_where_that_pays(monkeypatch, wanted, n_steps, is_compiled):
    potential = random_potential((14,), NETWORKS["position"])
    sample = make_sample(label_graphs(read_frames(SILICON)[:1], 4.0)[0], potential)
    monkeypatch.setattr(shutil, "which", lambda _: "/usr/bin/c++")
    monkeypatch.setattr(torch, "compile", lambda traced, **_: traced)
    assert choose_step(potential.network, OptimizationConfig(compile=wanted), sample, True, n_steps)[1] == is_compiled


def test_devices_that_are_not_there_are_refused(tmp_path):
    for device in ("foo", "cuda:99"):
        with pytest.raises(ConfigError, match=f"device '{device}' cannot be used"):
            Trainer(config(tmp_path, device=device))


@pytest.mark.parametrize("factor", [1.01, float("nan")])
def test_a_compiled_step_that_is_wrong_is_not_used(monkeypatch, caplog, factor):
    potential = random_potential((14,), NETWORKS["position"], dtype=torch.float32)
    sample = make_sample(label_graphs(read_frames(SILICON)[:1], 4.0)[0], potential)
    monkeypatch.setattr(torch, "compile", lambda traced, **_: lambda *arguments: [factor * value for value in traced(*arguments)])
    _, is_compiled = choose_step(potential.network, OptimizationConfig(compile=True), sample, with_stress=True, n_steps=1)
    assert not is_compiled
    assert "deviates" in caplog.text


def test_divergence_stops_the_run_in_one_sentence(tmp_path):
    with pytest.raises(EqpotError, match="diverged at step .*lower training.learning_rate"):
        Trainer(config(tmp_path, training={"learning_rate": 1e6, "gradient_clip": 1e6, "epochs": 50, "warmup_steps": 0})).run()


def test_a_validation_that_is_not_finite_stops_the_run(tmp_path, monkeypatch):
    trainer = Trainer(config(tmp_path))
    with torch.no_grad():
        trainer.average[0].fill_(torch.nan)
    with pytest.raises(EqpotError, match="validation errors are not finite"):
        trainer.run()
    assert not (tmp_path / "run" / "potential.safetensors").exists()


def test_a_run_stopped_before_its_first_validation_can_be_resumed(tmp_path):
    whole, stopped = config(tmp_path, "whole"), config(tmp_path, "stopped")
    Trainer(whole).run()
    Trainer(stopped)
    Trainer(stopped, resume=True).run()
    a, b = (load_potential(tmp_path / name / "potential.safetensors").network.state_dict() for name in ("whole", "stopped"))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_rows_written_after_the_checkpoint_are_not_doubled(tmp_path):
    settings = config(tmp_path)
    Trainer(settings).run()
    table = tmp_path / "run" / "metrics.csv"
    rows = table.read_text()
    table.write_text(rows + rows.splitlines()[-1].replace("6,", "8,", 1) + "\n")
    # What a kill in the middle of a checkpoint, and of a resume, leaves.
    for name in (".checkpoint.safetensors.abc", ".timings.csv.abc"):
        (tmp_path / "run" / name).touch()
    Trainer(settings, resume=True)
    assert table.read_text() == rows
    assert not list((tmp_path / "run").glob(".*"))


def test_the_best_potential_is_chosen_with_the_weights_of_the_loss(tmp_path):
    trainer = Trainer(config(tmp_path, training={"energy_weight": 2.0, "forces_weight": 3.0, "stress_weight": 5.0}))
    errors = {"energy_rmse_mev_per_atom": 1.0, "force_rmse_mev_per_ang": 10.0, "virial_rmse_mev_per_atom": 100.0}
    assert trainer.schedule.score(errors) == pytest.approx(2 + 300 + 50_000)


def test_schedule_warms_up_and_ends_at_zero():
    schedule = Schedule(OptimizationConfig(learning_rate=1.0, warmup_steps=10))
    assert schedule.learning_rate(0, 0.0) < 0.1
    assert schedule.learning_rate(1000, 0.5) == pytest.approx(0.5)
    assert schedule.learning_rate(1000, 1.0) == pytest.approx(0.0)


def test_a_time_limit_ends_the_schedule(tmp_path):
    trainer = Trainer(config(tmp_path, training={"epochs": 100000, "minutes": 0.02}))
    trainer.run()
    assert trainer.epoch < 1000
    assert trainer.rate < 1e-3


def test_batches_hold_every_frame_once_and_never_one_alone():
    assert [list(batch) for batch in split_batches(range(7), 3)] == [[0, 1, 2], [3, 4, 5, 6]]
    assert [list(batch) for batch in split_batches(range(8), 3)] == [[0, 1, 2], [3, 4, 5], [6, 7]]
    assert [list(batch) for batch in split_batches(range(2), 1)] == [[0], [1]]
    assert [list(batch) for batch in split_batches(range(1), 5)] == [[0]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"data": {"n_train": 200}}, "200 training and 10 validation frames are asked for, and the files hold 120"),
        ({"data": {"n_train": None, "n_valid": 121}}, "The files hold 120 frames, too few to keep 121 for validation.*data.valid"),
        ({"data": {"reference_energies": "least_squares"}}, "rank 1"),
        ({"network": {"cutoff": 0.5}}, "closer than the cutoff"),
        ({"data": {"train": "none.npz"}}, "There is no data file none.npz"),
        ({"data": {"valid": str(ETHANOL), "n_valid": 121}}, "121 validation frames are asked for, and the files hold 120"),
    ],
)
def test_data_that_cannot_be_used_are_refused_before_anything_is_written(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        Trainer(config(tmp_path, **changes))
    assert not (tmp_path / "run").exists()


def test_ordered_split_takes_the_first_frames(tmp_path):
    train, valid = read_split(config(tmp_path, data={"split": "ordered"}))
    assert [frame.origin.split()[-1] for frame in train] == [str(i) for i in range(20)]
    assert [frame.origin.split()[-1] for frame in valid] == [str(i) for i in range(20, 30)]
    random_train, random_valid = read_split(config(tmp_path))
    origins = [frame.origin for frame in (*random_train, *random_valid)]
    assert len(set(origins)) == 30


def test_of_validation_files_the_first_frames_are_taken(tmp_path):
    train, valid = read_split(config(tmp_path, data={"valid": str(ETHANOL), "n_train": None, "n_valid": 7}))
    assert len(train) == 120
    assert [frame.origin.split()[-1] for frame in valid] == [str(i) for i in range(7)]


def test_a_twentieth_of_the_frames_is_held_out_where_no_number_is_given(tmp_path):
    train, valid = read_split(config(tmp_path, data={"n_train": None, "n_valid": None}))
    assert (len(train), len(valid)) == (114, 6)


def write_yaml(path, values):
    path.write_text(yaml.safe_dump(values))
    return path


def test_a38_an_unknown_key_gets_the_nearest_known_one(tmp_path):
    path = write_yaml(tmp_path / "c.yaml", {**SETTINGS, "output": "x", "training": {"learning_rte": 1.0}})
    with pytest.raises(ConfigError, match="'training.learning_rte' is unknown; the nearest known key is 'training.learning_rate'"):
        load_config(TrainConfig, path)
    with pytest.raises(ConfigError, match="'networks' is unknown; the nearest known key is 'network'"):
        load_config(TrainConfig, write_yaml(path, {**SETTINGS, "output": "x", "networks": {}}))


@pytest.mark.parametrize(
    ("override", "suggestion"),
    [
        ("epochs=3", "; the nearest known key is 'training.epochs'"),
        ("epoch=3", "; the nearest known key is 'training.epochs'"),
        ("lr=3", "; the nearest known key is 'training.learning_rate'"),
        ("network.r_max=3", "; the nearest known key is 'network.cutoff'"),
        ("training.max_epochs=3", "; the nearest known key is 'training.epochs'"),
        ("energy_weight=3", "; the nearest known key is 'training.energy_weight'"),
        ("int=3", "the key 'int' is unknown"),
        ("a[b]=3", "the key 'a[b]' is unknown"),
        ("training.a[b]=3", "the key 'training.a[b]' is unknown"),
        ("zzz=3", "; the keys there are output, seed, dtype, device, init, data, network, training."),
    ],
)
def test_a38_keys_of_other_levels_and_names_are_suggested(tmp_path, override, suggestion):
    path = write_yaml(tmp_path / "c.yaml", {**SETTINGS, "output": "x"})
    with pytest.raises(ConfigError) as caught:
        load_config(TrainConfig, path, [override])
    assert suggestion in str(caught.value)


def test_overrides_reach_nested_keys_and_are_checked(tmp_path):
    path = write_yaml(tmp_path / "c.yaml", {**SETTINGS, "output": "x"})
    overrides = ["training.learning_rate=1e-4", "network.n_blocks=3", "data.split=ordered", "output=2026-11-23"]
    loaded = load_config(TrainConfig, path, overrides)
    assert (loaded.training.learning_rate, loaded.network.n_blocks, loaded.data.split) == (1e-4, 3, "ordered")
    assert loaded.output == Path("2026-11-23")
    assert load_config(TrainConfig, path, ['output="2024"']).output == Path("2024")
    for override, message in (
        ("training.epochs", "key=value"),
        ("seed.x=1", "goes below 'seed'"),
        ("training.epochs=-1", "training.epochs is -1, and should be greater than or equal to 1"),
        ("network.n_orientations=13", "designs are known for 12, 24, 36, 48, 60, 84 points"),
        ("dtype=float16", "dtype is 'float16', and should be 'float32' or 'float64'"),
        ("training.learning_rate=3x", "training.learning_rate is '3x', and should be a valid number.$"),
        ("data.reference_energies=guess", "data.reference_energies is 'guess', and should be 'least_squares', "),
        ("data.reference_energies={H: 3x}", "data.reference_energies.H is '3x', and should be a valid number.$"),
        ("output=2024", "output: a path is wanted, and 2024 is none; for a folder of that name write ./2024"),
        ("training.learning_rate=.inf", "finite"),
        (f"seed={2**64}", "seed"),
        ("training.threads=100000000", "threads"),
    ):
        with pytest.raises(ConfigError, match=message):
            load_config(TrainConfig, write_yaml(path, {**SETTINGS, "output": "x", "seed": 1}), [override])


def test_unreadable_configurations(tmp_path):
    with pytest.raises(ConfigError, match="no configuration file"):
        load_config(TrainConfig, tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1,")
    with pytest.raises(ConfigError, match="cannot be read as YAML"):
        load_config(TrainConfig, tmp_path / "bad.yaml")
    (tmp_path / "twice.yaml").write_text("output: a\ndata:\n  train: b\n  train: c\n")
    with pytest.raises(ConfigError, match="the key 'train' stands twice"):
        load_config(TrainConfig, tmp_path / "twice.yaml")
    (tmp_path / "list.yaml").write_text("- 1")
    with pytest.raises(ConfigError, match="keys and values"):
        load_config(TrainConfig, tmp_path / "list.yaml")


def test_merged_keys_may_be_given_again():
    text = "a: &a {x: 1, y: 2}\nb: &b {<<: *a, x: 3}\nc: {<<: *b, y: 4}\nd: {<<: [*a, *b], <<: *b, x: 5}\n"
    read = parse_yaml(text)
    assert (read["b"], read["c"], read["d"]) == ({"x": 3, "y": 2}, {"x": 3, "y": 4}, {"x": 5, "y": 2})


def test_metrics_are_means_over_the_right_things():
    potential = random_potential((14,))
    frames = read_frames(SILICON)[:3]
    metrics = evaluate(potential, label_graphs(frames, 4.0), atoms_per_batch=70)
    results = [potential.evaluate(build_graph(frame.atoms, 4.0)) for frame in frames]
    energies = [1000 * (float(result["energy"]) - frame.energy) for result, frame in zip(results, frames, strict=True)]
    forces = np.concatenate([(result["forces"].numpy() - frame.forces).ravel() for result, frame in zip(results, frames, strict=True)])
    assert metrics["energy_mae_mev"] == pytest.approx(np.mean(np.abs(energies)))
    assert metrics["energy_rmse_mev"] == pytest.approx(np.sqrt(np.mean(np.square(energies))))
    assert metrics["energy_mae_mev_per_atom"] == pytest.approx(
        np.mean([abs(e) / len(f.atoms) for e, f in zip(energies, frames, strict=True)])
    )
    assert metrics["force_rmse_mev_per_ang"] == pytest.approx(1000 * np.sqrt(np.mean(forces**2)))
    pairs = zip(results, frames, strict=True)
    virials = [(result["stress"][0].numpy() - f.stress)[np.triu_indices(3)] * f.atoms.get_volume() / len(f.atoms) for result, f in pairs]
    assert metrics["virial_mae_mev_per_atom"] == pytest.approx(1000 * np.mean(np.abs(virials)))
    molecules = evaluate(random_potential(), label_graphs(read_frames(ETHANOL)[:2], 4.0))
    assert not any(name.startswith(("stress", "virial")) for name in molecules)
