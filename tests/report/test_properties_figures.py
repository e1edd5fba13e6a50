"""What the figures of structures at rest show."""

import numpy as np
import pytest
from ase import units
from ase.build import bulk
from ase.calculators.emt import EMT
from matplotlib.figure import Figure

from eqpot.properties import equation_of_state, phonons
from eqpot.report.properties import plot_equation_of_state, plot_phonons


@pytest.fixture
def drawn(monkeypatch):
    """The figures that would be saved."""
    figures = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: figures.append(figure))
    return figures


def copper(cubic):
    atoms = bulk("Cu", cubic=cubic)
    atoms.calc = EMT()
    return atoms


def test_pressures_of_the_stress_lie_on_the_slope_of_the_fit(drawn, tmp_path):
    result = equation_of_state(copper(cubic=True), points=7)
    plot_equation_of_state(result, "Cu", tmp_path / "eos.png")
    for axes, scale in zip(drawn[0].axes, (1.0, 1.0), strict=True):
        fit, points = (line.get_xydata() for line in axes.lines[:2])
        np.testing.assert_allclose(points[:, 0], result.volumes / 4)
        np.testing.assert_allclose(points[:, 1], np.interp(points[:, 0], *fit.T), atol=scale)
    assert np.ptp(points[:, 1]) > 10


def test_bands_have_an_axis_of_wavenumbers(drawn, tmp_path):
    plot_phonons(phonons(copper(cubic=False), length=7.0), tmp_path / "phonons.png")
    drawn[0].draw_without_rendering()
    left, right = drawn[0].axes
    (other,) = right.child_axes
    np.testing.assert_allclose(other.get_ylim(), np.array(left.get_ylim()) * 1e10 / units._c, rtol=1e-6)
