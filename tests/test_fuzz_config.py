"""A43: whatever a configuration file holds, reading it gives a configuration or one sentence that names it."""

import time

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from eqpot.config_file import load_config
from eqpot.errors import ConfigError
from eqpot.md import DynamicsConfig
from eqpot.training import TrainConfig
from fuzzing import VALUES, assert_one_sentence, fuzz, garbled, replaced
from training_runs import settings

TRAIN = settings(
    "run",
    data={"train": [{"path": "a.xyz", "weight": 2.0, "units": {"energy": "eV"}}], "valid": "b.xyz", "reference_energies": {"H": -1.0}},
    training={"stage_two": {"start": 0.5, "energy_weight": 10.0}, "freeze": ["radial.*"]},
)
MD = {
    "potential": "p.safetensors",
    "committee": ["q.safetensors"],
    "structures": ["a.xyz"],
    "output": "run",
    "trajectory": ["traj"],
    "dynamics": {
        "ensemble": "npt",
        "temperature": [300.0, 400.0],
        "seed": [1, 2],
        "schedule": [{"time": 0, "temperature": 600.0}, {"time": 0.02, "pressure": 1.0}],
        "watchdog": {"interval": 2},
    },
}
CONFIGS = {"train": (TrainConfig, TRAIN), "md": (DynamicsConfig, MD)}


def read(folder, model, text, overrides=()):
    path = folder / "config.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    try:
        return load_config(model, path, overrides)
    except ConfigError as error:
        if not overrides:
            assert_one_sentence(error, "config.yaml")
        return str(error)


@pytest.mark.parametrize("name", CONFIGS)
def test_the_whole_configurations_are_read(tmp_path, name):
    model, values = CONFIGS[name]
    assert isinstance(read(tmp_path, model, yaml.safe_dump(values)), model)


@pytest.mark.parametrize("name", CONFIGS)
@fuzz(300)
@given(data=st.data())
def test_a43_any_value_anywhere(tmp_path, name, data):
    model, values = CONFIGS[name]
    read(tmp_path, model, yaml.safe_dump(replaced(data, values)))


@pytest.mark.parametrize("name", CONFIGS)
@fuzz(150)
@given(data=st.data())
def test_a43_cut_and_garbled_files(tmp_path, name, data):
    model, values = CONFIGS[name]
    read(tmp_path, model, garbled(data, yaml.safe_dump(values).encode()))


TAGS = ["!!int", "!!float", "!!bool", "!!timestamp", "!!binary", "!!set", "!!omap", "!!python/name:os.system"]
SIGNS = ["&a", "*a", "<<:", "- ", "? ", "{", "}", "[", "]", "\n", "  ", ": ", "~", "'", '"', "|", ">", "%YAML 3.0\n", "---\n"]
PIECES = [*TAGS, *SIGNS, "2024-13-45", "0x", "1:99", "seed", "output"]


@fuzz(300)
@given(pieces=st.lists(st.sampled_from(PIECES) | st.text(max_size=3), max_size=12))
def test_a43_any_text(tmp_path, pieces):
    text = "".join(pieces).encode(errors="surrogatepass")
    read(tmp_path, TrainConfig, b"output: run\n" + text)
    read(tmp_path, TrainConfig, text)


@fuzz(200)
@given(
    key=st.sampled_from(["dynamics.steps", "dynamics", "dynamics.schedule", "a.b", "structures.x", ".", "dynamics..", "potential"]),
    text=st.lists(st.sampled_from(PIECES), max_size=4).map("".join) | VALUES.map(str),
)
def test_a43_any_override(tmp_path, key, text):
    told = read(tmp_path, DynamicsConfig, yaml.safe_dump(MD), [f"{key}={text}"])
    assert isinstance(told, DynamicsConfig) or ("\n" not in told and len(told) < 1000)


def test_a36_a_tag_runs_no_code(tmp_path):
    for call in ("os.mkdir ['made']", "subprocess.run [[touch, made]]"):
        text = f"output: !!python/object/apply:{call}\n".replace("made", str(tmp_path / "made"))
        assert "cannot be read as YAML" in read(tmp_path, TrainConfig, text)
    assert not (tmp_path / "made").exists()


BOMBS = {
    "merges": "a0: &a0 {x: 1}\n" + "".join(f"a{k + 1}: &a{k + 1} {{<<: [{', '.join(9 * [f'*a{k}'])}]}}\n" for k in range(30)),
    "aliases": "a0: &a0 [x]\n" + "".join(f"a{k + 1}: &a{k + 1} [{', '.join(9 * [f'*a{k}'])}]\n" for k in range(30)) + "freeze: *a30\n",
    "aliases as paths": "a0: &a0 [x]\n" + "".join(f"a{k + 1}: &a{k + 1} [*a{k}, *a{k}]\n" for k in range(29)) + "structures: *a29\n",
    "of itself": "data: &a {train: *a}\noutput: *a\n",
    "nested": "[" * 100_000,
    "nested mappings": "{a: " * 100_000,
    "many mistakes": "".join(f"key{k}: 1\n" for k in range(3000)),
    "a long key": f"{'k' * 1000}: 1\n",
    "digits": f"seed: {'9' * 10_000}\n",
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_a43_bombs_do_not_go_off(tmp_path, bomb):
    started = time.process_time()
    for model in (TrainConfig, DynamicsConfig):
        assert isinstance(read(tmp_path, model, BOMBS[bomb]), str)
    assert time.process_time() - started < 60
