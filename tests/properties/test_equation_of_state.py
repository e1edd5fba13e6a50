"""Energy against volume: silicon with the shipped potential, and the fit on numbers that are known."""

import csv
import json
import logging

import numpy as np
import pytest
from ase.build import bulk, molecule

from eqpot import EqpotCalculator
from eqpot.errors import ConfigError, DataError, SimulationError
from eqpot.properties import equation_of_state, relax
from eqpot.units import GIGAPASCAL
from helpers import ROOT


@pytest.fixture(scope="module")
def calculator():
    return EqpotCalculator(ROOT / "potentials" / "silicon" / "potential.safetensors", dtype="float64")


@pytest.fixture
def silicon(calculator):
    atoms = bulk("Si", a=5.4692)
    atoms.calc = calculator
    return atoms


def test_bulk_modulus_of_the_energies_is_that_of_the_stress(silicon):
    before = silicon.copy()
    result = equation_of_state(silicon)
    assert silicon == before
    slope = (result.pressures[3] - result.pressures[5]) / (result.volumes[5] - result.volumes[3]) * result.volumes[4]
    assert result.bulk_modulus == pytest.approx(slope, rel=0.02)
    np.testing.assert_allclose(result.fitted_pressures(result.volumes), result.pressures, atol=0.1)
    assert (4 * result.volume) ** (1 / 3) == pytest.approx(5.4692, abs=5e-4)
    assert 3 < result.derivative < 6
    assert result.misfit < 1e-4
    np.testing.assert_allclose(result.volumes / silicon.get_volume(), np.linspace(0.94, 1.06, 9))


def test_pressure_of_the_fit_is_the_slope_of_its_energy(silicon):
    result = equation_of_state(silicon, span=0.1, points=7)
    step = 1e-4
    slopes = (result.fitted_energies(result.volumes - step) - result.fitted_energies(result.volumes + step)) / (2 * step)
    np.testing.assert_allclose(result.fitted_pressures(result.volumes), slopes / GIGAPASCAL, atol=1e-6)
    np.testing.assert_allclose(result.fitted_pressures(np.array([result.volume])), 0, atol=1e-12)


def test_relaxation_at_each_volume(silicon):
    """A displaced atom goes back, and a sheared cell loses its shear where its shape relaxes too."""
    expected = equation_of_state(silicon, points=5)
    silicon.positions[1] += [0.05, 0, -0.03]
    assert equation_of_state(silicon, points=5).largest_force > 0.1
    atoms = equation_of_state(silicon, points=5, relaxation="atoms")
    assert atoms.largest_force < 1e-3
    np.testing.assert_allclose(atoms.energies, expected.energies, atol=1e-6)
    silicon.set_cell(silicon.cell.array @ [[1, 0.03, 0], [0, 1, 0], [0, 0, 1]], scale_atoms=True)
    sheared = equation_of_state(silicon, points=5, relaxation="atoms")
    assert (sheared.energies - expected.energies).min() > 1e-3
    shape = equation_of_state(silicon, points=5, relaxation="shape")
    np.testing.assert_allclose(shape.volumes, expected.volumes, rtol=1e-8)
    np.testing.assert_allclose(shape.energies, expected.energies, atol=1e-5)


def test_a_shape_that_is_held_is_told(silicon, caplog):
    with caplog.at_level(logging.WARNING):
        assert equation_of_state(silicon, points=5).largest_deviatoric_stress < 1e-3
        assert caplog.text == ""
        silicon.set_cell(silicon.cell.array * [1, 1, 1.02], scale_atoms=True)
        for relaxation in ("none", "atoms"):
            caplog.clear()
            result = equation_of_state(silicon, points=5, relaxation=relaxation)
            assert "beside the pressure want another; let the shape relax at each volume (--relax shape)" in caplog.text
            # Strained by 2 % along z: 2 / 3 of that times C11 - C12, 94 GPa, beside the pressure, more where the volume is small.
            assert 1.0 < result.largest_deviatoric_stress < 1.7
        caplog.clear()
        assert equation_of_state(silicon, points=5, relaxation="shape").largest_deviatoric_stress < 0.02
        assert caplog.text == ""


def test_files(silicon, tmp_path):
    result = equation_of_state(silicon, points=5)
    result.write(tmp_path)
    with (tmp_path / "eos.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["energy_ev"]) for row in rows] == result.energies.tolist()
    assert list(rows[0]) == ["volume_ang3", "energy_ev", "pressure_gpa", "fitted_energy_ev"]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["bulk_modulus_gpa"] == result.bulk_modulus
    assert summary["volume_ang3_per_atom"] == result.volume / 2
    assert summary["largest_deviatoric_stress_gpa"] == result.largest_deviatoric_stress
    misfits = (result.energies - result.fitted_energies(result.volumes)) / 2
    assert summary["misfit_mev_per_atom"] == pytest.approx(1000 * np.sqrt(np.mean(misfits**2)))


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"span": 0.0}, "0 times"), ({"span": 0.5}, "at most 0.3"), ({"points": 4}, "4 volumes"), ({"relaxation": "cell"}, "'cell'")],
)
def test_settings_without_sense(silicon, settings, message):
    with pytest.raises(ConfigError, match=message):
        equation_of_state(silicon, **settings)


def test_no_crystal_and_no_minimum(silicon, calculator):
    open_one = molecule("Si2H6")
    open_one.calc = calculator
    with pytest.raises(DataError, match="not periodic in all three directions; give one that is"):
        equation_of_state(open_one)
    silicon.set_cell(silicon.cell * 1.04, scale_atoms=True)
    with pytest.raises(SimulationError, match="lowest at the smallest volume, .* no minimum"):
        equation_of_state(silicon)
    assert relax(silicon, cell="full").converged
    equation_of_state(silicon, points=5)
