"""`eqpot doctor`, as a user meets it; A44."""

import json
import tempfile
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
import yaml
from typer.testing import CliRunner

import eqpot.exactness
from eqpot.cli.main import app
from eqpot.data.doctor import Finding
from eqpot.doctor import examine_environment, examine_model
from eqpot.errors import ModelFileError
from eqpot.model_file import save_potential
from helpers import ETHANOL, NETWORKS, SILICON, random_potential


def run(*arguments):
    return CliRunner().invoke(app, ["doctor", *map(str, arguments)])


def test_a44_data_warnings_exit_with_0_and_errors_with_1(tmp_path):
    sound = run("data", ETHANOL, "--json", tmp_path / "a.json")
    assert sound.exit_code == 0, sound.output
    content = json.loads((tmp_path / "a.json").read_text())
    assert (content["frames"], content["errors"], content["warnings"]) == (120, 0, 1)
    assert content["findings"][0]["check"] == "reference energies"
    assert "120 frames, 1080 atoms, H, C, O" in sound.output
    leaking = run("data", SILICON, "--against", SILICON)
    assert leaking.exit_code == 1
    assert "12 of 12 test frames" in " ".join(leaking.output.replace("│", " ").split())
    assert run("data", tmp_path / "none.xyz").exit_code == 1


def test_keys_and_the_file_of_a_fit_are_taken(tmp_path):
    frames = ase.io.read(SILICON, ":")
    for atoms in frames:
        atoms.info["E"] = atoms.get_potential_energy()
        atoms.arrays["F"] = atoms.get_forces()
        atoms.info["W"] = -atoms.get_volume() * atoms.get_stress(voigt=False)
        atoms.calc = None
    ase.io.write(tmp_path / "a.extxyz", frames, format="extxyz")
    assert run("data", tmp_path / "a.extxyz").exit_code == 1
    named = run("data", tmp_path / "a.extxyz", "--energy-key", "E", "--forces-key", "F", "--virial-key", "W")
    assert named.exit_code == 0, named.output
    assert "virial from 'W'" in " ".join(named.output.replace("│", " ").split())
    data = {"train": str(tmp_path / "a.extxyz"), "energy_key": "E", "forces_key": "F", "virial_key": "W"}
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"output": "run", "data": data}))
    assert run("data", tmp_path / "c.yaml").exit_code == 0
    (tmp_path / "c.yaml").write_text(yaml.safe_dump({"output": "run", "data": {**data, "valid": data["train"]}}))
    assert "leaks" in run("data", tmp_path / "c.yaml").output


def test_the_json_file_is_new(tmp_path):
    (tmp_path / "a.json").touch()
    result = run("data", ETHANOL, "--json", tmp_path / "a.json")
    assert result.exit_code == 2
    assert (tmp_path / "a.json").read_text() == ""


def test_model_tells_what_a_file_is(tmp_path, model_path):
    result = run("model", model_path, "--json", tmp_path / "m.json")
    assert result.exit_code == 0, result.output
    content = json.loads((tmp_path / "m.json").read_text())
    assert content["elements"] == "H, C, O"
    assert content["cutoff"] == 4.0
    assert content["fused kernel"] == "used" or "compiler" in content["fused kernel"]
    assert float(content["force against differences, of the largest force"].split()[0]) < 1e-6
    assert content["errors"] == 0
    assert run("model", tmp_path / "none.safetensors").exit_code == 1


def test_model_checks_forces_rotation_and_weights(tmp_path, model_path, monkeypatch):
    save_potential(random_potential(config=NETWORKS["pointwise"]), tmp_path / "pointwise.safetensors")
    _, findings = examine_model(tmp_path / "pointwise.safetensors")
    assert [(f.level, f.check) for f in findings][:1] == [("warning", "rotation")]
    save_potential(random_potential(dtype=torch.float32), tmp_path / "single.safetensors")
    errors = examine_model(tmp_path / "single.safetensors")[0]["rotation error, of the largest force"]
    double, single = (float(error.split()[0]) for error in errors.split(", "))
    assert double < 1e-10 < 1e-8 < single
    right = eqpot.exactness.result_of
    monkeypatch.setattr(eqpot.exactness, "result_of", lambda *given: (result := right(*given)) | {"forces": 1.001 * result["forces"]})
    assert "does not conserve energy" in examine_model(model_path)[1][0].message
    broken = random_potential()
    next(broken.network.parameters()).data[0] = np.nan
    save_potential(broken, tmp_path / "nan.safetensors")
    with pytest.raises(ModelFileError, match="not finite"):
        examine_model(tmp_path / "nan.safetensors")


def test_env_names_versions_compiler_and_cache(monkeypatch):
    result = run("env")
    assert result.exit_code == 0, result.output
    for word in ("torch", "numpy", "ase", "C compiler", "cache folder", "optional packages"):
        assert word in result.output
    monkeypatch.setattr(eqpot.doctor.shutil, "which", lambda _: None)
    monkeypatch.delenv("CC", raising=False)
    facts, findings = examine_environment()
    assert facts["C compiler"] == "none"
    assert [type(finding) for finding in findings] == [Finding]
    assert findings[0].check == "compiler"
    monkeypatch.setattr(eqpot.doctor, "cache_folder", lambda: Path(tempfile.gettempdir()) / "eqpot-x")
    assert [finding.check for finding in examine_environment()[1]] == ["compiler", "cache"]
