"""Vibrations of molecules: ethanol with the shipped potential, and molecules whose wavenumbers are known in closed form."""

import csv
import json
import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.constraints import FixAtoms, FixCartesian

from eqpot import EqpotCalculator
from eqpot.errors import ConfigError, DataError
from eqpot.properties import relax, vibrations
from helpers import ROOT

UNIT = 521.470908
"""1/cm, of sqrt(eV / (Å^2 amu)) / (2 pi c)."""


@pytest.fixture(scope="module")
def ethanol():
    atoms = molecule("CH3CH2OH")
    atoms.calc = EqpotCalculator(ROOT / "potentials" / "ethanol" / "potential.safetensors", dtype="float64")
    assert relax(atoms, 1e-4).converged
    return atoms


class Bonds(Calculator):
    """Harmonic bonds between atoms that follow one another."""

    implemented_properties = ("energy", "forces")
    stiffness, length = 40.0, 1.2

    def calculate(self, atoms, properties, changes=all_changes):
        super().calculate(atoms, properties, changes)
        bonds = np.diff(atoms.positions, axis=0)
        lengths = np.linalg.norm(bonds, axis=1, keepdims=True)
        pulls = self.stiffness * (lengths - self.length) * bonds / lengths
        forces = np.zeros((len(atoms), 3))
        forces[:-1] += pulls
        forces[1:] -= pulls
        self.results = {"energy": self.stiffness * ((lengths - self.length) ** 2).sum() / 2, "forces": forces}


def test_diatomic_in_closed_form():
    atoms = Atoms("CO", [[0, 0, 0], [0.6, 0.6, Bonds.length]], calculator=Bonds())
    atoms.set_distance(0, 1, Bonds.length)
    result = vibrations(atoms)
    reduced = 1 / (1 / atoms.get_masses()).sum()
    assert result.n_rigid == 5
    np.testing.assert_allclose(result.wavenumbers, [UNIT * np.sqrt(Bonds.stiffness / reduced)], rtol=1e-4)
    assert result.zero_point_energy == pytest.approx(result.wavenumbers[0] * 1.239842e-4 / 2, rel=1e-5)
    atoms.set_constraint(FixAtoms([0]))
    fixed = vibrations(atoms)
    assert fixed.n_rigid == 0
    np.testing.assert_allclose(fixed.wavenumbers[-1], UNIT * np.sqrt(Bonds.stiffness / atoms.get_masses()[1]), rtol=1e-4)
    assert len(fixed.wavenumbers) == 3
    atoms.set_constraint(FixAtoms([-2]))
    np.testing.assert_array_equal(vibrations(atoms).wavenumbers, fixed.wavenumbers)
    assert len(atoms.constraints) == 1


def test_rigid_motion_is_no_vibration(ethanol):
    result = vibrations(ethanol)
    assert (result.n_rigid, len(result.wavenumbers)) == (6, 21)
    assert result.is_stable
    # O-H stretch as benchmarks/properties.py prints it; analytic derivatives give the same modes.
    assert result.wavenumbers[-1] == pytest.approx(3716, abs=1)
    root = np.sqrt(np.repeat(ethanol.get_masses(), 3))
    hessian = ethanol.calc.get_hessian(ethanol).reshape(27, 27) / np.outer(root, root)
    expected = UNIT * np.sqrt(np.linalg.eigvalsh(hessian)[6:])
    np.testing.assert_allclose(result.wavenumbers, expected, atol=1.0)


def test_a_molecule_that_is_bent_by_rounding_is_linear():
    for bend, n_rigid in ((1e-4, 5), (0.1, 6)):
        chain = Atoms("C3", [[0, 0, 0], [bend, 0, Bonds.length], [0, 0, 2 * Bonds.length]], calculator=Bonds())
        assert vibrations(chain).n_rigid == n_rigid


def test_forces_on_atoms_that_are_fixed_do_not_matter(caplog):
    chain = Atoms("C3", [[0, 0, 0], [0, 0, 1.1], [0, 0, 1.1 + Bonds.length]], calculator=Bonds())
    chain.set_constraint(FixAtoms([0, 1]))
    assert vibrations(chain).largest_force < 1e-6
    assert not caplog.messages
    chain.set_constraint(FixAtoms([0]))
    assert vibrations(chain).largest_force == pytest.approx(0.1 * Bonds.stiffness)


def test_files(ethanol, tmp_path):
    result = vibrations(ethanol)
    result.write(tmp_path)
    with (tmp_path / "vibrations.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["wavenumber_per_cm"]) for row in rows] == result.wavenumbers.tolist()
    assert float(rows[-1]["frequency_thz"]) == pytest.approx(result.wavenumbers[-1] * 0.0299792458)
    assert json.loads((tmp_path / "summary.json").read_text())["rigid_modes"] == 6


def test_imaginary_modes_and_forces_are_told(caplog):
    """A compressed chain buckles; its two stretches stay real."""
    chain = Atoms("C3", [[0, 0, 0], [0, 0, 1.2], [0, 0, 2.4]], calculator=Bonds())
    with caplog.at_level(logging.WARNING):
        assert vibrations(chain).is_stable
        assert caplog.text == ""
        chain.positions *= 0.9
        result = vibrations(chain)
    assert not result.is_stable
    assert "Forces of up to" in caplog.text
    assert "imaginary modes, down to" in caplog.text
    assert (result.wavenumbers < -100).tolist() == [True, True, False, False]
    assert result.zero_point_energy == pytest.approx(result.wavenumbers[2:].sum() * 1.239842e-4 / 2, rel=1e-5)


def test_what_cannot_vibrate(ethanol):
    atom = Atoms("O", calculator=ethanol.calc)
    with pytest.raises(DataError, match="single atom"):
        vibrations(atom)
    frozen = ethanol.copy()
    frozen.calc = ethanol.calc
    frozen.set_constraint(FixAtoms(range(9)))
    with pytest.raises(DataError, match="fixed"):
        vibrations(frozen)
    frozen.set_constraint([FixAtoms([0]), FixCartesian([1], (True, False, False))])
    with pytest.raises(DataError, match="FixCartesian of the structure holds atoms only in part.*fix whole atoms, or take it out"):
        vibrations(frozen)
    with pytest.raises(ConfigError, match="displacement is 1 Å"):
        vibrations(ethanol, displacement=1.0)
