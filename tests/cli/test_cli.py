"""The command line, as a user meets it: real processes, exit codes, one sentence on errors; A43."""

import io
import json
import re
import shlex
import subprocess
import sys
import types
from importlib.metadata import version

import ase.io
import pytest
import typer
import yaml
from ase import Atoms
from rich.console import Console

from eqpot.cli.main import app
from eqpot.cli.md_view import DynamicsView
from eqpot.md import Settings, Simulation, start_run
from eqpot.model_file import load_potential, read_header
from helpers import ETHANOL, SILICON, ethanol
from reference_helpers import GOLDEN

CONFIG = {
    "data": {"train": str(ETHANOL), "n_train": 10, "n_valid": 5, "reference_energies": "mean"},
    "network": {"n_channels": 16, "radial_width": 8, "cutoff": 3.0},
    "training": {"epochs": 2, "validate_every": 1},
}


def eqpot(*arguments, cwd):
    return subprocess.run(
        [sys.executable, "-m", "eqpot", *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300, check=False
    )


def assert_one_sentence(result, *fragments):
    assert result.returncode == 1, result.stderr
    assert "Traceback" not in result.stderr
    lines = [line for line in result.stderr.strip().splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1
    for fragment in fragments:
        assert fragment in lines[0]


def test_help_answers_without_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['eqpot', '--help']\nfrom eqpot.cli.main import app\n"
        "try: app()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert result.returncode == 0, result.stderr
    for name in ("train", "evaluate", "md", "relax", "eos", "phonons", "export", "convert"):
        assert name in result.stdout


def test_version_answers_without_torch(tmp_path):
    code = (
        "import sys; sys.argv = ['eqpot', '--version']\nfrom eqpot.cli.main import app\n"
        "try: app()\nexcept SystemExit: pass\nassert 'torch' not in sys.modules"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (result.returncode, result.stdout) == (0, f"eqpot {version('eqpot')}\n"), result.stderr


@pytest.mark.parametrize(("n_systems", "what"), [(1, "of 9 atoms:"), (2, "of 2 systems, 18 atoms in all:")])
def test_the_outcome_of_dynamics_counts_systems_and_atoms(tmp_path, model_path, n_systems, what):
    simulation = Simulation([ethanol()] * n_systems, load_potential(model_path), Settings(seed=0, steps=2))
    summary = start_run(simulation, tmp_path / "run").run()
    shown = io.StringIO()
    DynamicsView(simulation, Console(file=shown, width=1000)).conclude(summary)
    assert what in shown.getvalue()


def test_the_speed_of_dynamics_is_that_of_all_systems_since_the_start(model_path, monkeypatch):
    simulation = Simulation([ethanol()] * 2, load_potential(model_path), Settings(seed=0, timestep=0.5, steps=2000))
    simulation.step()
    now, shown = [0.0], io.StringIO()
    monkeypatch.setattr("eqpot.cli.md_view.time", types.SimpleNamespace(monotonic=lambda: now[0]))
    view = DynamicsView(simulation, Console(file=shown, width=1000))
    simulation.step()
    simulation.step()
    now[0] = 86.4
    # 2 fs in a thousandth of a day.
    assert view.nanoseconds_per_day() == pytest.approx(2e-3)
    for step in range(0, 2001, 50):
        view.show([{"step": step, "temperature_k": 300.0, "conserved_energy_ev": 1.0}] * 2)
    assert [line.split(": ")[0] for line in shown.getvalue().splitlines()] == [f"step {200 * n} of 2000" for n in range(1, 11)]


def test_every_command_has_an_example_that_is_one_of_its_calls():
    def leaves(command, words):
        members = getattr(command, "commands", {})
        return [leaf for name, member in members.items() for leaf in leaves(member, [*words, name])] or [(command, words)]

    for command, words in leaves(typer.main.get_command(app), []):
        examples = re.findall(r"Example: (.*)", command.help)
        assert examples, words
        for example in examples:
            first = shlex.split(example.split(" && ")[0])
            assert first[: len(words) + 1] == ["eqpot", *words]
            # Raises for an option that is unknown, or an argument that lacks.
            command.make_context(words[-1], first[len(words) + 1 :])


def test_fit_evaluate_run_export(tmp_path):
    (tmp_path / "config.yaml").write_text(yaml.safe_dump({"output": "run", **CONFIG}))
    ethanol().write(tmp_path / "start.xyz")
    trained = eqpot("train", "config.yaml", "seed=1", cwd=tmp_path)
    assert trained.returncode == 0, trained.stderr
    assert "10 training and 5 validation frames" in trained.stdout
    # No terminal: a line for each validation, and nothing that a log file could not show.
    rows = [line for line in trained.stdout.splitlines() if line.startswith("epoch ")]
    found = [re.search(r"epoch +(\d+)  step +(\d+)  .*  forces +[\d.]+ meV/Å(  best)?$", row).groups() for row in rows]
    assert found == [("1", "2", "  best"), ("2", "4", "  best")]
    assert "\x1b" not in trained.stdout + trained.stderr
    assert "5 of ethanol.npz" in trained.stdout
    assert {"passport.json", "structure.extxyz"} < {path.name for path in (tmp_path / "run").iterdir()}
    assert "validation frames" in eqpot("info", "run/potential.safetensors", cwd=tmp_path).stdout

    model = "run/potential.safetensors"
    evaluated = eqpot("evaluate", model, ETHANOL, "--json", "errors.json", cwd=tmp_path)
    assert evaluated.returncode == 0, evaluated.stderr
    errors = json.loads((tmp_path / "errors.json").read_text())
    assert set(errors) == {
        f"{quantity}_{kind}_{unit}"
        for kind in ("mae", "rmse")
        for quantity, unit in (("energy", "mev"), ("energy", "mev_per_atom"), ("force", "mev_per_ang"))
    }
    again = eqpot("evaluate", model, ETHANOL, "--json", "errors.json", cwd=tmp_path)
    assert_one_sentence(again, "errors.json exists")
    assert f"{errors['force_mae_mev_per_ang']:.3f}" in evaluated.stdout

    dynamics = {"ensemble": "nvt", "temperature": 300, "timestep": 0.5, "steps": 20, "seed": 3}
    config = {"potential": str(model), "structures": "start.xyz", "output": "md", "dynamics": dynamics}
    (tmp_path / "md.yaml").write_text(yaml.safe_dump(config))
    ran = eqpot("md", "md.yaml", cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert "drift" in ran.stdout.replace("\n", " ")
    assert len(ase.io.read(tmp_path / "md" / "trajectory.extxyz", ":")) == 3

    exported = eqpot("export", model, "--format", "torchscript", "-o", "p.pt", cwd=tmp_path)
    assert exported.returncode == 0, exported.stderr
    assert (tmp_path / "p.pt").stat().st_size > 0

    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert_one_sentence(eqpot("train", "config.yaml", cwd=tmp_path), "run folder run exists")
    assert_one_sentence(eqpot("export", model, "-o", "p.pt", cwd=tmp_path), "p.pt exists")
    assert_one_sentence(eqpot("md", "md.yaml", cwd=tmp_path), "md exists")
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before

    longer = eqpot("md", "--resume", "md", "--steps", "30", cwd=tmp_path)
    assert longer.returncode == 0, longer.stderr
    assert len(ase.io.read(tmp_path / "md" / "trajectory.extxyz", ":")) == 4
    # config.yaml still has the first number of steps.
    again = eqpot("md", "--resume", "md", cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "The run is finished, at step 30" in again.stdout
    assert "ns/day" not in again.stdout
    assert json.loads((tmp_path / "md" / "summary.json").read_text())["steps"] == 30
    assert_one_sentence(eqpot("md", "--resume", "md", "--steps", "10", cwd=tmp_path), "--steps is 10", "asked for 30")
    (tmp_path / "md").rename(tmp_path / "2024")
    numbered = eqpot("md", "--resume", "2024", cwd=tmp_path)
    assert numbered.returncode == 0, numbered.stderr
    (tmp_path / "2024").rename(tmp_path / "md")
    alike = eqpot("md", "md.yaml", "structures=md/final.extxyz", "replicas=2", "output=two", "dynamics.ensemble=nve", cwd=tmp_path)
    assert_one_sentence(alike, "2 replicas of md/final.extxyz would all be the same run", "velocity_verlet draws no random numbers")


def test_convert_an_official_checkpoint(tmp_path):
    files = [GOLDEN / f"A_small_{name}" for name in ("weights.npz", "config.json")]
    made = eqpot("convert", "ponita", *files, "-o", "p.safetensors", "--scale", "0.1", "--shift", "-2", "--elements", "H,C,O", cwd=tmp_path)
    assert made.returncode == 0, made.stderr
    assert "elements H, C, O; no cutoff" in made.stdout.replace("\n", " ")
    header = read_header(tmp_path / "p.safetensors")
    assert (header.scale, header.elements) == (0.1, ["H", "C", "O"])
    assert_one_sentence(eqpot("convert", "ponita", *files, "-o", "p.safetensors", cwd=tmp_path), "p.safetensors exists")
    assert_one_sentence(eqpot("convert", "foo", *files, "-o", "q.safetensors", cwd=tmp_path), "'foo'", "ponita")


@pytest.fixture
def bad_inputs(tmp_path, model_path):
    (tmp_path / "empty.xyz").touch()
    (tmp_path / "cut.safetensors").write_bytes(model_path.read_bytes()[:5000])
    Atoms("Au").write(tmp_path / "gold.xyz")
    Atoms("O2", [[0, 0, 0], [0, 0, 0.001]]).write(tmp_path / "overlap.xyz")
    Atoms("O", cell=[[1, 0, 0], [2, 0, 0], [0, 0, 1]], pbc=True).write(tmp_path / "flat.xyz", format="extxyz")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("evaluate", "MODEL", "empty.xyz"), ["empty.xyz"]),
        (("evaluate", "MODEL", "none.xyz"), ["no data file none.xyz"]),
        (("evaluate", "MODEL", ETHANOL.parent / "SOURCES.md"), ["SOURCES.md"]),
        (("evaluate", "MODEL", SILICON), ["silicon.extxyz, frame 0", "Si", "H, C, O"]),
        (("evaluate", "MODEL", SILICON, "--energy-key", "E"), ["frame 0", "'E'", "energy, forces"]),
        (("evaluate", "cut.safetensors", ETHANOL), ["cut.safetensors", "damaged"]),
        (("evaluate", "none.safetensors", ETHANOL), ["no model file none.safetensors"]),
        (("evaluate", "MODEL", ETHANOL, "--dtype", "half"), ["float32, float64"]),
        (("md", "md.yaml", "structures=gold.xyz"), ["Au", "H, C, O"]),
        (("md", "md.yaml", "structures=overlap.xyz"), ["on top of each other"]),
        (("md", "md.yaml", "structures=flat.xyz"), ["no volume"]),
        (("md", "md.yaml", "dynamics.timestep=50"), ["timestep", "10"]),
        (("md", "md.yaml", f"dynamics.seed={2**128}"), ["seed"]),
        (("md", "md.yaml", "structures=none.xyz"), ["no structure file none.xyz"]),
        (("md", "md.yaml", "dynamics.ensemble=npt", "dynamics.method=langevin"), ["langevin does not integrate npt"]),
        (("md", "md.yaml", "dynamics.ensemble=npt"), ["not periodic in three directions"]),
        (("md", "md.yaml", "dynamics.temperatures=5"), ["temperature"]),
        (("md", "md.yaml", "--steps", "5"), ["--resume"]),
        (("md",), ["configuration file", "--resume"]),
        (("md", "--resume", "none"), ["no run folder none"]),
        (("md", "--resume", ".", "dynamics.steps=9"), ["only --steps can be given beside --resume"]),
        (("md", "dynamics.steps=9"), ["configuration file comes first"]),
        (("md", "md.yaml", "dynamics.pressure=1"), ["dynamics.pressure is 1.0", "does not use it"]),
        (("export", "MODEL", "-o", "x.pt", "--format", "onnx"), ["'onnx'", "torchscript"]),
        (("export", "MODEL", "-o", "missing/x.pt"), ["missing"]),
        (("train", "training.epochs=3"), ["configuration file comes first"]),
        (("train", "none.yaml"), ["no configuration file none.yaml"]),
    ],
)
def test_a43_bad_input_is_one_sentence(bad_inputs, model_path, arguments, fragments):
    arguments = [str(model_path) if argument == "MODEL" else argument for argument in arguments]
    ethanol().write(bad_inputs / "start.xyz")
    config = {"potential": str(model_path), "structures": "start.xyz", "output": "out", "dynamics": {"steps": 5}}
    (bad_inputs / "md.yaml").write_text(yaml.safe_dump(config))
    assert_one_sentence(eqpot(*arguments, cwd=bad_inputs), *fragments)
    assert not (bad_inputs / "out").exists()
    assert not (bad_inputs / "x.pt").exists()


def test_wrong_usage_exits_with_2(tmp_path):
    for arguments in (("evaluate",), ("md", "--resume", "x", "--steps", "many"), ("nonsense",)):
        result = eqpot(*arguments, cwd=tmp_path)
        assert result.returncode == 2
        assert "Traceback" not in result.stderr
