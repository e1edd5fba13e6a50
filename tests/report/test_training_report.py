"""The report of a training run."""

import re
import shutil

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from typer.testing import CliRunner

from eqpot import EqpotCalculator, load_potential
from eqpot.calibration import calibrate, reliability
from eqpot.cli.main import app
from eqpot.data import Frame, label_graphs, read_frames
from eqpot.errors import ConfigError
from eqpot.model_file import read_header
from eqpot.report.page import Page
from eqpot.report.training import _learning_curves, _shortest, report_training
from eqpot.training import TrainConfig, Trainer, evaluate
from eqpot.units import GIGAPASCAL
from helpers import ETHANOL, SILICON


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("report") / "a <run>"
    config = {
        "output": str(folder),
        "data": {"train": str(SILICON), "n_train": 8, "n_valid": 4},
        "network": {"n_channels": 8, "radial_width": 8, "cutoff": 4.0},
        "training": {"epochs": 4, "validate_every": 2, "warmup_steps": 5, "compile": False},
    }
    Trainer(TrainConfig.model_validate(config)).run()
    return folder


def test_the_page_stands_alone_and_says_what_was_measured(run):
    result = CliRunner().invoke(app, ["report", str(run), "--data", str(SILICON)])
    assert result.exit_code == 0, result.output
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "<h1>a &lt;run&gt;</h1>" in page
    assert not re.findall(r'(?:src|href)="(?!#)(?!data:)[^"]*"', page), "the page needs nothing but itself"
    # Three learning curves, parity of energy, of silicon's forces and of stress, two figures of errors.
    assert page.count("<svg") == 8
    potential = load_potential(run / "potential.safetensors")
    errors = evaluate(potential, label_graphs(read_frames(SILICON), potential.cutoff))
    assert f"{errors['force_mae_mev_per_ang']:.3g} <small>meV/Å" in page
    assert f"{errors['energy_mae_mev_per_atom']:.3g} <small>meV/atom" in page
    assert f"{errors['energy_mae_mev']:.3g} <small>meV</small>" in page
    assert f"{errors['stress_mae_mev_per_ang3'] / 1000 / GIGAPASCAL:.3g} <small>GPa" in page
    assert re.search(r"<td>shortest distance, Å</td><td>\d\.\d\d</td>", page)
    assert "n_channels: 8" in page
    last = (run / "timings.csv").read_text().splitlines()
    row = dict(zip(last[0].split(","), last[-1].split(","), strict=True))
    # Of the seconds as they are: rounded ones of so short a run tell nothing.
    assert f"({1000 * float(row['seconds']) / int(row['step']):.1f} ms a step)" in page
    # A figure alone is as wide as one of two, and numbers keep their errors on one line.
    assert "figure:only-child { max-width" in page
    assert re.search(r"\.tile b \{[^}]*white-space: nowrap", page)


def test_what_a_report_is_not_for_is_one_sentence(run, tmp_path):
    metrics = (run / "metrics.csv").read_bytes()
    for arguments, sentence in (
        ((run, "--discard", "1"), "is no dynamics run, whose averages --discard is about; leave it out"),
        ((run, "-o", run / "metrics.csv"), "does not end in .html; give it a name that does"),
        ((tmp_path / "nowhere",), "There is no folder"),
    ):
        result = CliRunner().invoke(app, ["report", *map(str, arguments)])
        assert result.exit_code == 1, result.output
        assert sentence in " ".join(result.output.split())
    assert (run / "metrics.csv").read_bytes() == metrics


def test_a45_the_calibration_is_shown_where_there_is_one(run, tmp_path):
    frames, calibrated = read_frames(SILICON), tmp_path / "calibrated.safetensors"
    calibrate(run / "potential.safetensors", frames[:8], frames[8:12], calibrated)
    result = CliRunner().invoke(
        app, ["report", str(run), "--data", str(SILICON), "--potential", str(calibrated), "-o", str(tmp_path / "page.html")]
    )
    assert result.exit_code == 0, result.output
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    # Coverage of all, reliability of energy, forces and stress.
    assert page.count("<svg") == 8 + 4
    found = reliability(EqpotCalculator(calibrated), frames)
    for name, quantity in (("energy", "energy"), ("force", "forces"), ("stress", "stress")):
        row = page[page.index("within 1 σ") :]
        cells = re.search(rf"<td>{name}</td>(<td>.*?</tr>)", row)[1]
        assert f"<td>{100 * found[quantity].coverage(1):.1f} %</td>" in cells
        baseline = found[quantity].constant(read_header(calibrated).uncertainty.rmse[quantity])
        assert f"<td>{baseline.negative_log_likelihood() - found[quantity].negative_log_likelihood():+.2f}</td>" in cells
    report_training(run, tmp_path / "plain.html", [SILICON])
    assert "Uncertainty" not in (tmp_path / "plain.html").read_text(encoding="utf-8")


def test_the_worst_frame_comes_first(run, tmp_path):
    frames = read_frames(SILICON)
    report_training(run, tmp_path / "page.html", [SILICON])
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    potential = load_potential(run / "potential.safetensors")
    largest, energies = [], []
    for frame, item in zip(frames, label_graphs(frames, potential.cutoff), strict=True):
        result = potential.evaluate(item.graph)
        largest.append(np.linalg.norm(result["forces"].numpy() - frame.forces, axis=1).max())
        energies.append(1000 * (float(result["energy"]) - frame.energy) / len(frame.atoms))
    worst = int(np.argmax(largest))
    row = re.search(r"energy error, meV/atom</th></tr></thead><tbody><tr><td>([^<]*)<.*?</tr>", page)
    assert row[1] == frames[worst].origin
    assert f"<td>{1000 * max(largest):.1f}</td>" in row[0]
    assert f"<td>{energies[worst]:+.2f}</td>" in row[0]


def test_the_shortest_distance_may_cross_a_wall():
    atoms = Atoms("Si2", [[0.5, 0, 0], [9.5, 0, 0]], cell=[10, 10, 10], pbc=True)
    assert _shortest([Frame(atoms, None, None, None, "made")], 4.0) == pytest.approx(1.0)


def test_the_same_run_gives_the_same_page(run, tmp_path):
    for name in ("a", "b"):
        report_training(run, tmp_path / name)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_folder_that_is_no_run_is_one_sentence(run, tmp_path):
    with pytest.raises(ConfigError, match="has no config.yaml, metrics.csv, timings.csv, potential.safetensors"):
        report_training(tmp_path, tmp_path / "page.html")
    other = tmp_path / "young"
    shutil.copytree(run, other)
    (other / "metrics.csv").unlink()
    with pytest.raises(ConfigError, match="has no metrics.csv; name the run folder of `eqpot train`, after its first validation"):
        report_training(other, tmp_path / "page.html")
    with pytest.raises(Exception, match="elements|fitted"):
        report_training(run, tmp_path / "page.html", [ETHANOL])
    assert not (tmp_path / "page.html").exists()


def test_labels_that_frames_lack_are_left_out(run, tmp_path):
    """Forces alone, or energies of some frames."""
    frames = ase.io.read(SILICON, ":")
    for number, atoms in enumerate(frames):
        results = {"energy": atoms.calc.results["energy"]} if number < 3 else {}
        atoms.calc = SinglePointCalculator(atoms, forces=atoms.calc.results["forces"], **results)
    ase.io.write(tmp_path / "some.extxyz", frames)
    report_training(run, tmp_path / "some.html", [tmp_path / "some.extxyz"])
    page = (tmp_path / "some.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 7
    potential = load_potential(run / "potential.safetensors")
    errors = evaluate(potential, label_graphs(read_frames(tmp_path / "some.extxyz"), potential.cutoff))
    assert f"{errors['force_mae_mev_per_ang']:.3g} <small>meV/Å" in page
    assert f"{errors['energy_mae_mev_per_atom']:.3g} <small>meV/atom" in page
    shutil.copytree(run, tmp_path / "forces")
    rows = (run / "metrics.csv").read_text().splitlines()
    kept = [index for index, name in enumerate(rows[0].split(",")) if "energy" not in name]
    (tmp_path / "forces" / "metrics.csv").write_text("\n".join(",".join(row.split(",")[index] for index in kept) for row in rows))
    text = (run / "config.yaml").read_text()
    (tmp_path / "forces" / "config.yaml").write_text(text.replace("energy_key: energy", "energy_key: null"))
    report_training(tmp_path / "forces", tmp_path / "forces.html")
    page = (tmp_path / "forces.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 6
    assert "meV/atom</small>" not in page
    assert "nan" not in page.split("<pre>")[0].replace("finance", "")


def test_text_is_escaped():
    page = Page("<b>", "&")
    page.heading("<i>", "<u>")
    page.tiles([("<1", "<2", "<3")])
    page.table(["<h>"], [["<c>"]])
    page.text("<pre>")
    assert not re.findall(r"<(b|i|u|c|h)>|<\d", "".join(page._parts).replace('<div class="tile"><b>', ""))


def test_the_learning_curves_mark_where_stage_two_begins():
    rows = np.arange(1.0, 5.0)
    errors = [f"{name}_{kind}_{unit}" for name, unit in (("force", "mev_per_ang"), ("energy", "mev_per_atom")) for kind in ("mae", "rmse")]
    metrics = {"epoch": 10 * rows, **dict.fromkeys(["loss", "learning_rate", *errors], rows)}

    def lines(metrics):
        return [[line.get_xdata()[0] for line in figure.axes[0].lines[2:]] for figure, _ in _learning_curves(metrics)]

    assert lines(metrics) == [[], [], []]
    assert lines({**metrics, "stage": np.array([1, 1, 2, 2])}) == [[25], [25], [25]]
    assert lines({**metrics, "stage": np.array([2, 2, 2, 2])}) == [[], [], []]
