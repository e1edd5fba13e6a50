"""D3 dispersion beside the potential, by ASE's SumCalculator."""

import runpy
import sys

import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.fd import calculate_numerical_forces, calculate_numerical_stress
from ase.calculators.mixing import SumCalculator
from dftd3.ase import DFTD3

from eqpot import EqpotCalculator
from helpers import ROOT

EXAMPLE = ROOT / "examples" / "05_dispersion.py"


def test_the_sum_has_forces_and_stress_of_its_energy():
    pbe = EqpotCalculator(ROOT / "potentials" / "silicon" / "potential.safetensors", dtype="float64")
    dispersion = DFTD3(method="PBE", damping="d3bj")
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=0)
    parts = {}
    for name, calculator in {"pbe": pbe, "dispersion": dispersion, "both": SumCalculator([pbe, dispersion])}.items():
        atoms.calc = calculator
        parts[name] = (atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress())
    for part, other, both in zip(*parts.values(), strict=True):
        np.testing.assert_allclose(both, part + other, atol=1e-10)
    assert parts["dispersion"][0] < 0  # it attracts
    np.testing.assert_allclose(
        parts["both"][1][:2], calculate_numerical_forces(atoms, 1e-4, iatoms=[0, 1], force_consistent=False), atol=1e-5
    )
    np.testing.assert_allclose(parts["both"][2], calculate_numerical_stress(atoms, 1e-5, force_consistent=False), atol=1e-6)


def test_without_the_package_the_example_says_how_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "dftd3", None)
    monkeypatch.setitem(sys.modules, "dftd3.ase", None)
    with pytest.raises(SystemExit, match="python -m pip install dftd3"):
        runpy.run_path(str(EXAMPLE))


def test_dispersion_shrinks_the_lattice(capsys):
    runpy.run_path(str(EXAMPLE), run_name="__main__")
    alone, corrected = (line for line in capsys.readouterr().out.splitlines() if line.startswith("PBE"))
    assert alone.startswith("PBE: lattice constant 5.469")
    assert corrected.startswith("PBE + D3(BJ): lattice constant 5.418")
