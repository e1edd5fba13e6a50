"""Shipped potentials are found by name, in a checkout and in an installed wheel."""

import os
import subprocess
import sys
import tomllib

import pytest
from ase.build import bulk
from typer.testing import CliRunner

from eqpot import EqpotCalculator, load_potential
from eqpot.cli.main import app
from eqpot.errors import ModelFileError
from eqpot.model_file import read_header
from eqpot.shipped import model_path, shipped
from helpers import ROOT


def test_the_index_tells_of_every_folder():
    folders = {path.name for path in (ROOT / "potentials").iterdir() if path.is_dir()}
    assert set(shipped()) == folders
    for name, entry in shipped().items():
        assert entry.path == ROOT / "potentials" / name / "potential.safetensors"
        assert read_header(entry.path).elements == entry.elements
    packaged = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["data-files"]
    assert {f"potentials/{name}/*" for name in folders} | {"potentials/index.yaml"} == {row for rows in packaged.values() for row in rows}


def test_by_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    atoms = bulk("Si")
    atoms.calc = EqpotCalculator("silicon")
    assert atoms.get_potential_energy() == pytest.approx(float(load_potential("silicon").evaluate(atoms_graph(atoms))["energy"]), rel=1e-6)
    # A file of that name comes first, a folder does not.
    (tmp_path / "silicon").mkdir()
    assert model_path("silicon") == shipped()["silicon"].path
    (tmp_path / "ethanol").write_text("")
    assert model_path("ethanol").resolve() == tmp_path / "ethanol"
    with pytest.raises(ModelFileError, match=r"no model file helium; .*silicon"):
        load_potential("helium")


def atoms_graph(atoms):
    from eqpot.neighbors import build_graph  # noqa: PLC0415

    return build_graph(atoms, 5.0)


def test_listed():
    said = CliRunner().invoke(app, ["info"], env={"COLUMNS": "200"}).output
    assert all(name in said for name in shipped())


@pytest.mark.slow
def test_from_a_wheel(tmp_path):
    """A wheel, unpacked as pip does it, without the checkout."""
    subprocess.run([sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", tmp_path, ROOT], check=True)
    wheel = next(tmp_path.glob("*.whl"))
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--ignore-installed", "--prefix", tmp_path / "there", wheel]
    subprocess.run(command, check=True)
    site = next((tmp_path / "there").glob("lib/*/site-packages"))
    code = "from eqpot import load_potential; import eqpot; print(eqpot.__file__, load_potential('silicon').cutoff)"
    environment = {**os.environ, "PYTHONPATH": str(site)}
    said = subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True, text=True, env=environment).stdout
    assert str(site) in said
    assert said.split()[-1] == "5.0"
