"""`eqpot new`: what it writes is a configuration, and stays one when every comment that holds a key is made one."""

import re

import pytest
import yaml
from typer.testing import CliRunner

from eqpot.cli.main import app
from eqpot.config_file import load_config
from eqpot.md import DynamicsConfig
from eqpot.training import TrainConfig

CASES = {
    "train": (["train", "frames.extxyz"], TrainConfig, {"output": "runs/first", "data": {"train": "frames.extxyz"}}),
    "md": (
        ["md", "start.extxyz", "--potential", "silicon"],
        DynamicsConfig,
        {
            "potential": "silicon",
            "structures": "start.extxyz",
            "output": "runs/md",
            "dynamics": {"ensemble": "nvt", "steps": 10_000, "timestep": 1.0, "temperature": 300.0, "seed": 1},
        },
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_what_is_written(tmp_path, name):
    words, model, given = CASES[name]
    path = tmp_path / "config.yaml"
    said = CliRunner().invoke(app, ["new", *words, "-o", str(path)])
    assert said.exit_code == 0, said.output
    expected = model.model_validate(given)
    assert load_config(model, path) == expected
    text = path.read_text()
    # All descriptions are there, and with every key made active nothing changes.
    assert all(field.description.split()[0] in text for field in model.model_fields.values() if field.description)
    active = re.sub(r"^( *)#(\w+:(?: |$))", r"\1\2", text, flags=re.MULTILINE)
    assert len(yaml.safe_load(active)) == len(model.model_fields)
    path.write_text(active)
    assert load_config(model, path) == expected
    assert max(len(line) for line in text.splitlines()) <= 110
    again = CliRunner().invoke(app, ["new", *words, "-o", str(path)])
    assert again.exit_code == 1
    assert path.read_text() == active
