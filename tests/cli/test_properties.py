"""`eqpot relax`, `eqpot eos`, `eqpot elastic` and `eqpot phonons` as a user meets them."""

import csv
import json
import re
import subprocess
import sys

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from typer.testing import CliRunner

from eqpot.cli.main import app
from eqpot.units import GIGAPASCAL
from helpers import ROOT

SILICON = ROOT / "potentials" / "silicon" / "potential.safetensors"
ETHANOL = ROOT / "potentials" / "ethanol" / "potential.safetensors"


@pytest.fixture
def eqpot(tmp_path, monkeypatch):
    """Run a command in a folder of structures."""
    monkeypatch.chdir(tmp_path)
    crystal = bulk("Si")
    crystal.rattle(0.05, seed=1)
    crystal.write("rattled.extxyz")
    bulk("Si", a=5.4692).write("silicon.extxyz")
    molecule("CH3CH2OH").write("ethanol.xyz")
    bulk("Au").write("gold.extxyz")
    slab = graphene("Si2", a=3.87)
    slab.write("flat.extxyz")
    slab.center(8, axis=2)
    slab.write("slab.extxyz")
    Atoms("O2", [[0, 0, 0], [0, 0, 0.001]]).write("overlap.xyz")
    (tmp_path / "taken").touch()
    return lambda *arguments: CliRunner().invoke(app, list(map(str, arguments)))


def is_png(path):
    return path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" and path.stat().st_size > 20_000


def test_relax_writes_the_structure_and_the_way(eqpot, tmp_path):
    arguments = ("relax", "--potential", SILICON, "--structure", "rattled.extxyz", "--cell", "full", "--pressure", "2", "--fmax", "1e-4")
    result = eqpot(*arguments, "-o", "relaxed.extxyz", "--trajectory", "way.extxyz")
    assert result.exit_code == 0, result.stderr
    assert "Space group P-1 (2) before, Fd-3m (227) after" in result.stdout.replace("\n", " ")
    relaxed, way = ase.io.read("relaxed.extxyz"), ase.io.read("way.extxyz", ":")
    enthalpies = [atoms.get_potential_energy() + 2 * GIGAPASCAL * atoms.get_volume() for atoms in (way[0], relaxed)]
    change = re.search(r"The enthalpy has changed by (-\d+\.\d{3}) meV/atom", result.stdout)[1]
    assert float(change) == pytest.approx(1000 * (enthalpies[1] - enthalpies[0]) / 2, abs=2e-3)
    np.testing.assert_allclose(relaxed.get_stress() / GIGAPASCAL, [-2, -2, -2, 0, 0, 0], atol=1e-3)
    assert abs(relaxed.get_forces()).max() < 1e-4
    assert way[-1].get_potential_energy() == relaxed.get_potential_energy()
    assert way[0].get_potential_energy() > relaxed.get_potential_energy() + 0.01
    shown = [line.split() for line in result.stdout.splitlines() if line.split() and line.split()[0].isdigit()]
    assert int(shown[-1][0]) == len(way) - 1
    assert float(shown[-1][1]) == pytest.approx(relaxed.get_potential_energy(), abs=1e-6)
    assert float(shown[-1][4]) == pytest.approx(2, abs=1e-3)
    again = eqpot(*arguments, "-o", "relaxed.extxyz")
    assert again.exit_code == 1
    assert "relaxed.extxyz exists" in again.stderr


def test_relax_that_does_not_converge_keeps_the_structure(eqpot):
    result = eqpot("relax", "--potential", ETHANOL, "--structure", "ethanol.xyz", "-o", "e.extxyz", "--steps", "3")
    assert result.exit_code == 1
    assert "has not relaxed to 0.01 eV/Å in 3 steps" in result.stderr
    start, end = ase.io.read("ethanol.xyz"), ase.io.read("e.extxyz")
    assert 0.01 < np.linalg.norm(end.get_forces(), axis=1).max() < 0.9
    assert abs(end.positions - start.positions).max() > 0.01


def test_a_committee_relaxes_by_its_mean(eqpot):
    result = eqpot("relax", "--potential", SILICON, "--potential", SILICON, "--structure", "rattled.extxyz", "-o", "two.extxyz")
    assert result.exit_code == 0, result.stderr
    eqpot("relax", "--potential", SILICON, "--structure", "rattled.extxyz", "-o", "one.extxyz")
    assert ase.io.read("two.extxyz").get_potential_energy() == pytest.approx(ase.io.read("one.extxyz").get_potential_energy())


def test_eos(eqpot, tmp_path):
    result = eqpot("eos", "--potential", SILICON, "--structure", "silicon.extxyz", "-o", "eos", "--points", "7")
    assert result.exit_code == 0, result.stderr
    summary = json.loads((tmp_path / "eos" / "summary.json").read_text())
    assert summary["bulk_modulus_gpa"] == pytest.approx(85.8, abs=0.3)
    assert f"B  = {summary['bulk_modulus_gpa']:.2f} GPa" in result.stdout
    assert f"V0 = {summary['volume_ang3']:.4f}" in result.stdout
    assert f"E0 = {summary['energy_ev']:.6f} eV ({summary['energy_ev_per_atom']:.6f} an atom)" in result.stdout
    with (tmp_path / "eos" / "eos.csv").open() as file:
        assert sum(1 for _ in csv.DictReader(file)) == 7
    assert is_png(tmp_path / "eos" / "eos.png")
    assert "--relax" not in result.stderr
    moved = eqpot("eos", "--potential", SILICON, "--structure", "rattled.extxyz", "-o", "moved")
    assert "--relax atoms" in moved.stderr


def test_elastic(eqpot, tmp_path):
    """148.2, 54.2 and 75.3 GPa are what benchmarks/properties.py prints; with clamped ions C44 is 100.1 GPa."""
    result = eqpot("elastic", "--potential", SILICON, "--structure", "silicon.extxyz", "-o", "el")
    assert result.exit_code == 0, result.stderr
    summary = json.loads((tmp_path / "el" / "summary.json").read_text())
    c11, c12, c44 = summary["cubic_constants_gpa"].values()
    assert (c11, c12, c44) == pytest.approx((148.2, 54.2, 75.3), abs=0.1)
    assert f"C11 = {c11:.2f}, C12 = {c12:.2f}, C44 = {c44:.2f} GPa; Zener anisotropy {summary['zener_anisotropy']:.3f}" in result.stdout
    assert f"│ xx  │ {c11:.2f} │ {c12:.2f}  │ {c12:.2f}  │ 0.00  │" in result.stdout
    assert f"Bulk modulus {(c11 + 2 * c12) / 3:.2f} GPa" in result.stdout
    with (tmp_path / "el" / "elastic.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["stress"] for row in rows] == ["xx", "yy", "zz", "yz", "xz", "xy"]
    assert float(rows[3]["strain_yz_gpa"]) == pytest.approx(c44)
    clamped = eqpot("elastic", "--potential", SILICON, "--structure", "silicon.extxyz", "-o", "clamped", "--relax", "none")
    assert "C44 = 100.1" in clamped.stdout


def test_phonons_of_a_crystal(eqpot, tmp_path):
    result = eqpot("phonons", "--potential", SILICON, "--structure", "silicon.extxyz", "-o", "ph", "--length", "9", "--path", "GXL")
    assert result.exit_code == 0, result.stderr
    assert "supercell of 3 x 3 x 3" in result.stdout
    assert "│ Γ     │ 0.000, 0.000, 0.000, 15.0" in result.stdout
    assert {path.name for path in (tmp_path / "ph").iterdir()} == {
        "bands.csv", "dos.csv", "primitive.extxyz", "summary.json", "phonons.png",
    }  # fmt: skip
    assert is_png(tmp_path / "ph" / "phonons.png")
    summary = json.loads((tmp_path / "ph" / "summary.json").read_text())
    assert list(summary["special_points"]) == ["Γ", "X", "L"]
    assert f"Zero-point energy {500 * summary['zero_point_energy_ev']:.2f} meV/atom" in result.stdout
    assert len(ase.io.read(tmp_path / "ph" / "primitive.extxyz")) == 2


def test_imaginary_modes_are_told_in_a_sentence(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Atoms("Si", cell=[2.6] * 3, pbc=True).write("simple.extxyz")
    command = ["phonons", "--potential", SILICON, "--structure", "simple.extxyz", "-o", "ph", "--length", "7"]
    # A process of its own: the warning comes through the log, which pytest catches.
    result = subprocess.run([sys.executable, "-m", "eqpot", *command], capture_output=True, text=True, timeout=120, check=True)
    assert "There are imaginary modes, down to" in result.stderr.replace("\n", " ")
    assert is_png(tmp_path / "ph" / "phonons.png")


def test_vibrations_of_a_molecule(eqpot, tmp_path):
    assert eqpot("relax", "--potential", ETHANOL, "--structure", "ethanol.xyz", "-o", "e.extxyz", "--fmax", "1e-4").exit_code == 0
    result = eqpot("phonons", "--potential", ETHANOL, "--structure", "e.extxyz", "-o", "vib")
    assert result.exit_code == 0, result.stderr
    assert "21 vibrations" in result.stdout
    assert is_png(tmp_path / "vib" / "vibrations.png")
    with (tmp_path / "vib" / "vibrations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["wavenumber_per_cm"]) == pytest.approx(3716, abs=1)
    summary = json.loads((tmp_path / "vib" / "summary.json").read_text())
    assert f"Zero-point energy {1000 * summary['zero_point_energy_ev']:.1f} meV" in result.stdout


@pytest.mark.parametrize("command", ["relax", "eos", "elastic", "phonons"])
@pytest.mark.parametrize(
    ("structure", "arguments", "fragments"),
    [
        ("gold.extxyz", (), ["Au", "Si"]),
        ("none.extxyz", (), ["no structure file none.extxyz"]),
        ("silicon.extxyz", ("--dtype", "half"), ["float32, float64"]),
        ("silicon.extxyz", ("-o", "taken"), ["taken exists"]),
        ("silicon.extxyz", ("--potential", "none.safetensors"), ["no model file none.safetensors"]),
    ],
)
def test_errors_of_all(eqpot, tmp_path, command, structure, arguments, fragments):
    assert_refused(eqpot, tmp_path, [command, "--structure", structure, *arguments], fragments)


@pytest.mark.parametrize(
    ("arguments", "fragments"),
    [
        (("relax", "--structure", "silicon.extxyz", "--fmax", "0"), ["fmax"]),
        (("relax", "--structure", "silicon.extxyz", "--cell", "cubic"), ["'cubic'", "isotropic"]),
        (("relax", "--structure", "silicon.extxyz", "--pressure", "5"), ["constant volume"]),
        (("relax", "--structure", "ethanol.xyz", "--cell", "full"), ["no cell to relax"]),
        (("relax", "--structure", "slab.extxyz", "--cell", "full", "--pressure", "1"), ["open in some directions"]),
        (("relax", "--structure", "flat.extxyz", "--cell", "full"), ["no volume"]),
        (("relax", "--structure", "silicon.extxyz", "--trajectory", "taken"), ["taken exists"]),
        (("relax", "--structure", "silicon.extxyz", "--trajectory", "out.extxyz"), ["name two files"]),
        (("relax", "--structure", "silicon.extxyz", "-o", "out.cif"), ["out.cif is no name", "end in .extxyz or .xyz"]),
        (("relax", "--structure", "silicon.extxyz", "--trajectory", "POSCAR"), ["POSCAR is no name"]),
        (("relax", "--structure", "overlap.xyz", "--potential", ETHANOL), ["on top of each other"]),
        (("eos", "--structure", "slab.extxyz"), ["not periodic in all three", "give one that is"]),
        (("eos", "--structure", "ethanol.xyz"), ["not periodic in all three"]),
        (("eos", "--structure", "silicon.extxyz", "--span", "2"), ["at most 0.3"]),
        (("eos", "--structure", "silicon.extxyz", "--relax", "all"), ["'all'", "shape"]),
        (("elastic", "--structure", "slab.extxyz"), ["not periodic in all three", "give one that is"]),
        (("elastic", "--structure", "ethanol.xyz"), ["not periodic in all three"]),
        (("elastic", "--structure", "silicon.extxyz", "--strain", "1"), ["at most 0.05"]),
        (("elastic", "--structure", "silicon.extxyz", "--relax", "shape"), ["'shape'", "none"]),
        (("phonons", "--structure", "silicon.extxyz", "--displacement", "1"), ["at most 0.1"]),
        (("phonons", "--structure", "silicon.extxyz", "--path", "GQ"), ["'Q'", "G, K, L, U, W, X"]),
        (("phonons", "--structure", "silicon.extxyz", "--path", "GX,"), ["'GX,'"]),
        (("phonons", "--structure", "ethanol.xyz", "--path", "GX"), ["--path"]),
    ],
)
def test_errors_of_one(eqpot, tmp_path, arguments, fragments):
    assert_refused(eqpot, tmp_path, arguments, fragments)


def assert_refused(eqpot, tmp_path, arguments, fragments):
    before = set(tmp_path.iterdir())
    defaults = {"--potential": SILICON, "-o": "out.extxyz" if arguments[0] == "relax" else "out"}
    given = [item for option, value in defaults.items() if option not in arguments for item in (option, value)]
    result = eqpot(*arguments, *given)
    assert result.exit_code == 1, result.output
    errors = [line for line in result.stderr.splitlines() if line]
    assert len(errors) == 1
    assert errors[0].startswith("Error: ")
    for fragment in fragments:
        assert fragment in errors[0]
    assert set(tmp_path.iterdir()) == before
