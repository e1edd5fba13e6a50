"""A43: an output that cannot be made, or a disk without room, is one sentence, and no half of a file is left."""

import errno
import resource

import ase.io
import pytest
import yaml
from ase.build import bulk, molecule
from typer.testing import CliRunner

from eqpot.cli.main import app
from eqpot.model_file import save_potential
from helpers import ETHANOL, random_potential
from reference_helpers import GOLDEN
from training_runs import settings

OUTPUTS = {
    "train": ("train", "train.yaml", "output=OUT"),
    "md": ("md", "md.yaml", "output=OUT"),
    "relax": ("relax", "--potential", "p.safetensors", "--structure", "a.xyz", "--steps", "2", "-o", "OUT.extxyz"),
    "eos": ("eos", "--potential", "silicon", "--structure", "crystal.extxyz", "-o", "OUT", "--points", "5"),
    "phonons": ("phonons", "--potential", "p.safetensors", "--structure", "a.xyz", "-o", "OUT"),
    "elastic": ("elastic", "--potential", "silicon", "--structure", "crystal.extxyz", "-o", "OUT"),
    "export": ("export", "p.safetensors", "-o", "OUT"),
    "compress": ("compress", "p.safetensors", "-o", "OUT", "--data", "frames.extxyz", "--spacing", "0.3"),
    "calibrate": ("calibrate", "p.safetensors", "--train", "frames.extxyz", "--valid", "valid.extxyz", "-o", "OUT"),
    "passport": ("passport", "p.safetensors", "--structure", "a.xyz", "--picoseconds", "0.1"),
    "new train": ("new", "train", "frames.extxyz", "-o", "OUT"),
    "new md": ("new", "md", "a.xyz", "--potential", "p.safetensors", "-o", "OUT"),
    "report": ("report", "run", "-o", "OUT.html"),
    "convert": ("convert", "ponita", str(GOLDEN / "A_small_weights.npz"), str(GOLDEN / "A_small_config.json"), "-o", "OUT"),
    "select": ("select", "p.safetensors", "frames.extxyz", "-n", "2", "-o", "OUT"),
    "evaluate": ("evaluate", "p.safetensors", "frames.extxyz", "--json", "OUT"),
    "doctor": ("doctor", "data", "frames.extxyz", "--json", "OUT"),
}
"""Every command that writes, with OUT for what it writes."""


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """What the commands need, and a file `taken` where none of them can make a folder."""
    monkeypatch.chdir(tmp_path)
    save_potential(random_potential((1, 6, 8, 14)), "p.safetensors")
    molecule("H2O").write("a.xyz")
    bulk("Si", a=5.4692).write("crystal.extxyz")
    (tmp_path / "taken").touch()
    frames = ase.io.read(ETHANOL, ":6", format="rmd17")
    ase.io.write("frames.extxyz", frames)
    ase.io.write("valid.extxyz", ase.io.read(ETHANOL, "6:9", format="rmd17"))
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(settings("unused", data={"n_train": 3, "n_valid": 1}, training={"epochs": 1})))
    dynamics = {"potential": "p.safetensors", "structures": "a.xyz", "output": "unused", "dynamics": {"steps": 1}}
    (tmp_path / "md.yaml").write_text(yaml.safe_dump(dynamics))
    return tmp_path


def invoke(name, output):
    return CliRunner().invoke(app, [argument.replace("OUT", output) for argument in OUTPUTS[name]])


def contents(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def assert_nothing_is_left(result, before, folder, named):
    assert isinstance(result.exception, SystemExit), result.exception
    assert result.exit_code == 1, result.output
    lines = [line for line in result.output.splitlines() if line.startswith("Error: ")]
    assert len(lines) == 1, result.output
    assert named in lines[0]
    assert contents(folder) == before
    assert not [path for path in folder.rglob(".*") if path.is_dir()]


@pytest.mark.parametrize("name", [name for name in OUTPUTS if name not in ("passport", "doctor")])
def test_a43_an_output_below_a_file(folder, name):
    if name == "report":
        assert invoke("md", "run").exit_code == 0
    before = contents(folder)
    result = invoke(name, "taken/x")
    assert_nothing_is_left(result, before, folder, "taken")


@pytest.mark.parametrize("name", OUTPUTS)
def test_a43_a_disk_without_room(folder, name):
    if name == "report":
        assert invoke("md", "run").exit_code == 0
    before, largest = contents(folder), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (20, largest[1]))
        result = invoke(name, "out")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    # The vibrations of ASE write to a scratch folder first.
    named = {"passport": "passport.json", "phonons": "File too large"}.get(name, "out")
    assert_nothing_is_left(result, before, folder, named)


def test_the_way_of_a_relaxation_keeps_whole_frames_on_a_full_disk(folder):
    frame = ("relax", "--potential", "p.safetensors", "--structure", "a.xyz", "--steps", "1", "-o", "one.extxyz")
    CliRunner().invoke(app, frame)
    room, largest = int(2.5 * (folder / "one.extxyz").stat().st_size), resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (room, largest[1]))
        result = CliRunner().invoke(app, [*frame[:5], "--steps", "5", "-o", "two.extxyz", "--trajectory", "way.extxyz"])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    assert result.exit_code == 1
    assert "way.extxyz cannot be written (File too large)" in result.output.replace("\n", " ")
    assert [len(frame) for frame in ase.io.read("way.extxyz", ":")] == [3, 3]


def test_a_passport_that_cannot_be_written_is_not_measured(folder, monkeypatch):
    def refuse(**_):
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr("eqpot.files.tempfile.TemporaryFile", refuse)
    monkeypatch.setattr("eqpot.passport.issue", None)
    result = invoke("passport", "")
    assert result.exit_code == 1
    assert "passport.json cannot be written (Permission denied)" in result.output.replace("\n", " ")
