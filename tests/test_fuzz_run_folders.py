"""A43: whatever run folders, passports, the index and the cache hold, it is read, or one sentence names the file."""

import json
import shutil
import warnings

import pytest
from ase.build import bulk
from hypothesis import given
from hypothesis import strategies as st

from eqpot import shipped
from eqpot.data import read_frames
from eqpot.data.cache import read_tensors
from eqpot.errors import DataError, EqpotError, ModelFileError
from eqpot.md import Settings, Simulation, start_run
from eqpot.observables import read_thermo, read_trajectory
from eqpot.passport import read_passport
from eqpot.report.dynamics_run import read_run
from eqpot.report.training import _read_columns
from fuzzing import assert_one_sentence, fuzz, garbled, replaced
from helpers import ROOT, SILICON, random_potential

PASSPORT = (ROOT / "potentials" / "silicon" / "passport.json").read_bytes()
METRICS = (ROOT / "tests" / "museum" / "training" / "run" / "metrics.csv").read_bytes()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run of two systems that has ended."""
    folder = tmp_path_factory.mktemp("dynamics") / "run"
    settings = Settings(ensemble="nvt", steps=3, interval=1, seed=0, watchdog={"min_distance": 0.0, "max_temperature": 1e9})
    start_run(Simulation([bulk("Si"), bulk("Si")], random_potential([14]), settings), folder, ("extxyz", "traj", "h5md")).run()
    return folder


def told(function, path):
    """Return the sentence with which a file is refused, if it is."""
    with warnings.catch_warnings():
        # ASE warns of what it finds odd.
        warnings.simplefilter("ignore")
        try:
            function(path)
        except EqpotError as error:
            assert_one_sentence(error, path.name)
            return str(error)
    return None


FILES = ("thermo.csv", "trajectory-0.extxyz", "trajectory-0.traj", "trajectory-0.h5md", "summary.json", "config.yaml")


@pytest.mark.parametrize("name", FILES)
@fuzz(60)
@given(data=st.data())
def test_a43_files_of_a_run_folder(run, tmp_path, name, data):
    folder = tmp_path / "run"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(run, folder)
    if name == "config.yaml":
        (folder / "summary.json").unlink()
    (folder / name).write_bytes(garbled(data, (folder / name).read_bytes()))
    told(read_run, folder)
    if name == "thermo.csv":
        told(read_thermo, folder)
    elif name.startswith("trajectory"):
        told(read_trajectory, folder / name)


@fuzz(60)
@given(data=st.data())
def test_a43_any_value_anywhere_in_the_settings_of_a_run(run, tmp_path, data):
    folder = tmp_path / "run"
    shutil.copytree(run, folder, dirs_exist_ok=True)
    (folder / "summary.json").write_text(json.dumps(replaced(data, json.loads((run / "summary.json").read_text()))))
    told(read_run, folder)


ROWS = ["", "a,b\n1,2\n", "\x00\n", "system,step\n", "step,time_fs\n1,2\n", f"{'x' * 200_000}\n1\n"]


@pytest.mark.parametrize("text", ROWS)
def test_a43_tables_that_are_none(tmp_path, text):
    (tmp_path / "thermo.csv").write_text(text)
    with pytest.raises(DataError, match="thermo.csv"):
        read_run(tmp_path)


@pytest.mark.parametrize("system", ["nan", "-1", "1e12", "0.5"])
def test_a43_systems_that_are_none(run, tmp_path, system):
    heading, first, *rest = (run / "thermo.csv").read_text().splitlines()
    place = heading.split(",").index("system")
    values = first.split(",")
    values[place] = system
    (tmp_path / "thermo.csv").write_text("\n".join([heading, ",".join(values), *rest]) + "\n")
    with pytest.raises(DataError, match="thermo.csv"):
        read_thermo(tmp_path)


@fuzz(100)
@given(data=st.data())
def test_a43_metrics_and_passports(tmp_path, data):
    (tmp_path / "metrics.csv").write_bytes(garbled(data, METRICS))
    told(_read_columns, tmp_path / "metrics.csv")
    (tmp_path / "passport.json").write_bytes(garbled(data, PASSPORT))
    told(read_passport, tmp_path / "passport.json")
    (tmp_path / "passport.json").write_text(json.dumps(replaced(data, json.loads(PASSPORT))))
    told(read_passport, tmp_path / "passport.json")


def test_an_unknown_key_where_a_value_may_be_of_several_kinds(tmp_path):
    values = json.loads(PASSPORT)
    values["conservation"]["picosecond"] = 1.0
    (tmp_path / "passport.json").write_text(json.dumps(values))
    assert "the nearest known key is 'conservation.picoseconds'" in told(read_passport, tmp_path / "passport.json")


@pytest.mark.parametrize("text", ["", "[", "[]", "silicon:\n", "silicon: {elements: [Si]}\n", "a: &a [*a]\n"])
def test_an_index_that_is_none(tmp_path, monkeypatch, text):
    (tmp_path / "index.yaml").write_text(text)
    monkeypatch.setattr(shipped, "_find_index", lambda: tmp_path / "index.yaml")
    shipped.shipped.cache_clear()
    try:
        with pytest.raises(ModelFileError, match="index.yaml is damaged"):
            shipped.shipped()
    finally:
        shipped.shipped.cache_clear()


@fuzz(60)
@given(data=st.data())
def test_a43_cached_frames_that_are_damaged_are_read_again(tmp_path, data):
    """What is garbled among the numbers themselves is not looked for: the data are beside it, and the cache can be removed."""
    source, cache = tmp_path / "a.extxyz", tmp_path / "cache"
    source.write_bytes(SILICON.read_bytes())
    whole = len(read_frames(source, cache=cache))
    (kept,) = cache.iterdir()
    content = kept.read_bytes()
    head = 8 + int.from_bytes(content[:8], "little")
    kept.write_bytes(garbled(data, content[:head]) + content[head:])
    frames = read_frames(source, cache=cache)
    assert len(frames) == whole
    assert read_tensors(kept) is not None
    kept.unlink()
