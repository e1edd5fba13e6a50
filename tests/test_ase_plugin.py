"""ASE finds the calculator by its name, in processes of their own: what is imported first matters here."""

import os
import shutil
import subprocess
import sys
import tomllib

import numpy as np
import pytest

from helpers import ETHANOL, ROOT

LOOK_UP = "from ase.calculators.calculator import get_calculator_class; print(get_calculator_class('eqpot'))"
FOUND = "<class 'eqpot.calculator.EqpotCalculator'>"


def python(*arguments, path=(), cwd=None):
    """Run Python with warnings as errors; `path` stands before the repository on sys.path."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([*map(str, path), str(ROOT)])}
    result = subprocess.run(
        [sys.executable, "-P", "-W", "error::UserWarning", *arguments],
        capture_output=True, text=True, env=environment, check=False, cwd=cwd, timeout=120,
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture
def installed(tmp_path):
    """A folder with the entry points of pyproject.toml, as installing eqpot would write them."""

    def install(entry_points):
        folder = tmp_path / "eqpot-0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: eqpot\nVersion: 0\n")
        lines = [f"[{group}]\n" + "\n".join(f"{name} = {value}" for name, value in of.items()) for group, of in entry_points.items()]
        (folder / "entry_points.txt").write_text("\n".join(lines) + "\n")
        return tmp_path

    return install


@pytest.fixture
def eqpot_installed(installed):
    return installed(tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["entry-points"])


@pytest.mark.parametrize(
    "imports", ["import eqpot", "import eqpot.calculator", "import ase.calculators.calculator; import eqpot", "import eqpot; import ase.io"]
)
def test_importing_eqpot_makes_the_calculator_known(imports):
    assert python("-c", f"{imports}; {LOOK_UP}").strip() == FOUND


def test_the_name_survives_reloading_and_a_registration_by_hand():
    code = "import importlib, eqpot; importlib.reload(eqpot); from ase.calculators import calculator as c;"
    assert python("-c", code + LOOK_UP).strip() == FOUND
    code += "from eqpot import EqpotCalculator; c.register_calculator_class('eqpot', EqpotCalculator); importlib.reload(eqpot);"
    assert python("-c", code + LOOK_UP).strip() == FOUND


def test_importing_eqpot_imports_neither_ase_nor_torch():
    code = "import sys, eqpot; print([name for name in ('ase', 'torch', 'numpy') if name in sys.modules])"
    assert python("-c", code).strip() == "[]"


def test_ase_loads_the_entry_point_without_torch_and_knows_the_calculator(eqpot_installed):
    code = "import ase.io, sys; assert 'torch' not in sys.modules; assert 'rmd17' in ase.io.formats.ioformats;"
    assert python("-c", code + LOOK_UP, path=[eqpot_installed]).strip() == FOUND


def test_a_broken_entry_point_leaves_ase_io_in_order(installed):
    """ASE warns, names the format, and goes on: what an eqpot that cannot be imported would do to its users."""
    path = installed({"ase.ioformats": {"rmd17": "eqpot.no_such_module:RMD17"}})
    code = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    import ase.io
print([str(warning.message)[:46] for warning in caught if "rmd17" in str(warning.message)], "xyz" in ase.io.formats.ioformats)
"""
    assert python("-c", code, path=[path]).strip() == "['Failed to register external IO format rmd17: N'] True"


def test_ase_run(eqpot_installed, tmp_path):
    """ASE's own command line, with the parameters of the calculator; it relaxes ethanol."""
    structure = shutil.copy(ROOT / "potentials" / "ethanol" / "structure.extxyz", tmp_path / "ethanol.xyz")
    model = ROOT / "potentials" / "ethanol" / "potential.safetensors"
    run = ["-m", "ase", "run", "eqpot", str(structure), "-p", f"model={model},dtype=float64", "-f", "0.01", "-o", "relaxed.xyz"]
    python(*run, path=[eqpot_installed], cwd=tmp_path)
    code = "import ase.io; atoms = ase.io.read('relaxed.xyz'); print(atoms.get_potential_energy(), abs(atoms.get_forces()).max())"
    energy, force = map(float, python("-c", code, path=[eqpot_installed], cwd=tmp_path).split())
    assert energy == pytest.approx(-4210.217, abs=0.02)
    assert 0 < force < 0.01


def test_ase_reads_rmd17(eqpot_installed, tmp_path):
    shutil.copy(ETHANOL, tmp_path / "rmd17_ethanol.npz")
    code = """
import ase.io
last, some = ase.io.read("rmd17_ethanol.npz"), ase.io.read("rmd17_ethanol.npz", ":3", format="rmd17")
print(len(some), last.get_potential_energy(), last.get_forces()[0, 0], some[0].get_potential_energy())
"""
    n_frames, last_energy, last_force, first_energy = map(float, python("-c", code, path=[eqpot_installed], cwd=tmp_path).split())
    stored = np.load(ETHANOL)
    expected = np.array([stored["energies"][-1], stored["forces"][-1, 0, 0], stored["energies"][0]]).ravel() * 0.0433641
    assert n_frames == 3
    np.testing.assert_allclose([last_energy, last_force, first_energy], expected, rtol=1e-6)
