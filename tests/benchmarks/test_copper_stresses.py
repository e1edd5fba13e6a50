"""The pressure that copper's stresses lack is found from energies, here of another model with a pressure taken away."""

import sys

import ase.io
import copper_stresses
import numpy as np
import pytest
from ase.build import bulk
from ase.calculators.emt import EMT
from ase.calculators.singlepoint import SinglePointCalculator

from eqpot.units import GIGAPASCAL

LACKING = -2.5 * GIGAPASCAL * np.array([1, 1, 1, 0, 0, 0])


def labelled(deformation, kind="Elastic", sites=slice(None)):
    """One frame with EMT's energy and forces, and its stress without a pressure of 2.5 GPa."""
    atoms = bulk("Cu", a=3.6, cubic=True)[sites]
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + np.array(deformation)), scale_atoms=True)
    atoms.calc = EMT()
    labels = {"energy": atoms.get_potential_energy(), "forces": atoms.get_forces(), "stress": atoms.get_stress() - LACKING}
    atoms.calc = SinglePointCalculator(atoms, **labels)
    atoms.info["config_type"] = kind
    return atoms


@pytest.fixture
def frames():
    stretched = [labelled(np.diag(np.roll([strain, 0, 0], axis))) for strain in np.linspace(-0.06, 0.06, 7) for axis in range(3)]
    sheared = labelled([[0, 0.03, 0], [0, 0, 0], [0, 0, 0]])
    return [*stretched, sheared, labelled(np.zeros((3, 3)), "Vacancy", slice(1, None))]


def test_the_lacking_pressure_is_put_back_into_strained_cells_alone(frames):
    found, constant, error = copper_stresses.with_stresses_of_strained_cells(frames)
    assert constant == pytest.approx(LACKING[0], abs=0.05 * GIGAPASCAL)
    assert 0 < error < 0.05 * GIGAPASCAL
    for before, after in zip(frames, found, strict=True):
        np.testing.assert_array_equal(after.get_forces(), before.get_forces())
        assert after.get_potential_energy() == before.get_potential_energy()
    sheared, vacancy = found[-2:]
    np.testing.assert_allclose(sheared.get_stress(), frames[-2].get_stress() + constant * np.array([1, 1, 1, 0, 0, 0]), atol=1e-12)
    assert "stress" not in vacancy.calc.results


def test_the_command_writes_them(frames, tmp_path, monkeypatch, capsys):
    ase.io.write(tmp_path / "in.extxyz", frames)
    monkeypatch.setattr(sys, "argv", ["copper_stresses.py", str(tmp_path / "in.extxyz"), str(tmp_path / "out.extxyz")])
    copper_stresses.main()
    assert "GPa added to the stresses of 22 of 23 frames" in capsys.readouterr().out
    assert len(ase.io.read(tmp_path / "out.extxyz", ":")) == 23
