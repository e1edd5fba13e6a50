"""Relaxation of positions and cells, on silicon and ethanol with the shipped potentials."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.calculators.calculator import Calculator
from ase.constraints import FixAtoms

from eqpot import EqpotCalculator
from eqpot.errors import ConfigError, DataError, SimulationError
from eqpot.properties import relax
from eqpot.properties.relaxation import with_results
from eqpot.units import GIGAPASCAL
from helpers import ROOT


@pytest.fixture(scope="module")
def calculator():
    return EqpotCalculator(ROOT / "potentials" / "silicon" / "potential.safetensors", dtype="float64")


@pytest.fixture
def silicon(calculator):
    """The primitive cell, sheared, stretched and rattled."""
    atoms = bulk("Si")
    atoms.set_cell(atoms.cell.array @ [[1.02, 0.02, 0], [0, 0.98, 0], [0, 0.01, 1.03]], scale_atoms=True)
    atoms.rattle(0.05, seed=1)
    atoms.calc = calculator
    return atoms


def silicene(calculator) -> Atoms:
    atoms = graphene("Si2", a=3.80, thickness=0.0)
    atoms.positions[1, 2] += 0.4
    atoms.center(8, axis=2)
    atoms.calc = calculator
    return atoms


@pytest.mark.parametrize("optimizer", ["lbfgs", "fire"])
def test_full_cell_reaches_the_lattice_constant(silicon, optimizer):
    """5.4692 Å is what benchmarks/properties.py prints."""
    states = []
    result = relax(silicon, 1e-4, 300, "full", optimizer=optimizer, observe=states.append)
    assert result.converged
    assert (4 * silicon.get_volume()) ** (1 / 3) == pytest.approx(5.4692, abs=2e-4)
    assert silicon.cell.angles() == pytest.approx((60, 60, 60), abs=0.01)
    assert abs(silicon.get_stress()).max() < 1e-5
    assert (states[0], states[-1]) == (result.start, result.end)
    assert [state.step for state in states] == list(range(result.end.step + 1))
    assert result.end.energy == pytest.approx(silicon.get_potential_energy())
    assert result.end.largest_force < 1e-4


@pytest.mark.parametrize(("cell", "pressure"), [("full", 10.0), ("isotropic", 5.0), ("full", -3.0)])
def test_pressure_is_the_one_asked_for(silicon, calculator, cell, pressure):
    if cell == "isotropic":
        silicon = bulk("Si")
        silicon.calc = calculator
    result = relax(silicon, 1e-4, 300, cell, pressure)
    expected = -pressure * np.array([1, 1, 1, 0, 0, 0])
    np.testing.assert_allclose(silicon.get_stress() / GIGAPASCAL, expected, atol=2e-3)
    assert result.end.pressure == pytest.approx(pressure, abs=2e-3)
    assert result.end.enthalpy == pytest.approx(result.end.energy + pressure * GIGAPASCAL * silicon.get_volume())
    assert result.end.enthalpy < result.start.enthalpy
    # Silicon yields to 5 GPa by some percent.
    assert np.sign(result.end.volume - 40.9) == -np.sign(pressure)


def test_isotropic_keeps_the_shape_and_shape_keeps_the_volume(silicon):
    twin, before = silicon.copy(), silicon.copy()
    twin.calc = silicon.calc
    assert relax(silicon, 1e-3, 300, "isotropic").converged
    factor = (silicon.get_volume() / before.get_volume()) ** (1 / 3)
    assert abs(factor - 1) > 1e-3
    np.testing.assert_allclose(silicon.cell.array, factor * before.cell.array, atol=1e-6)
    assert relax(twin, 1e-3, 300, "shape").converged
    assert twin.get_volume() == pytest.approx(before.get_volume(), rel=1e-8)
    assert twin.cell.angles() == pytest.approx((60, 60, 60), abs=0.1)


def test_atoms_alone_and_constraints(silicon):
    silicon.set_constraint(FixAtoms([1]))
    before = silicon.copy()
    assert relax(silicon, 1e-3).converged
    np.testing.assert_array_equal(silicon.cell.array, before.cell.array)
    np.testing.assert_array_equal(silicon.positions[1], before.positions[1])
    assert np.linalg.norm(silicon.positions[0] - before.positions[0]) > 0.01
    found = with_results(silicon)
    np.testing.assert_allclose(found.calc.results["forces"].sum(axis=0), 0, atol=1e-10)
    assert abs(found.get_forces()).max() < 1e-3


def test_slab_relaxes_in_its_plane(calculator):
    slab = silicene(calculator)
    before = slab.copy()
    assert relax(slab, 1e-4, 200, "full").converged
    assert slab.cell[0, 0] > 3.82
    np.testing.assert_allclose(slab.cell[2], before.cell[2], atol=1e-9)
    np.testing.assert_allclose(slab.get_stress()[[0, 1, 5]], 0, atol=1e-5)
    # The vacuum is no part of the result.
    wider = silicene(calculator)
    wider.center(12, axis=2)
    relax(wider, 1e-4, 200, "full")
    assert wider.cell[0, 0] == pytest.approx(slab.cell[0, 0], abs=1e-4)


def test_molecule():
    atoms = molecule("CH3CH2OH")
    atoms.calc = EqpotCalculator(ROOT / "potentials" / "ethanol" / "potential.safetensors", dtype="float64")
    result = relax(atoms)
    assert result.converged
    assert (result.end.volume, result.end.pressure) == (None, None)
    assert set(with_results(atoms).calc.results) == {"energy", "forces"}
    with pytest.raises(DataError, match="no cell to relax"):
        relax(atoms, cell="full")


def test_steps_that_do_not_suffice(silicon):
    result = relax(silicon, 1e-4, 2, "full")
    assert not result.converged
    assert result.end.step == 2


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fmax": 0.0}, "fmax, is 0.0"),
        ({"fmax": float("nan")}, "fmax, is nan"),
        ({"steps": 0}, "0 steps"),
        ({"cell": "cubic"}, "'cubic'.*none, full, isotropic, shape"),
        ({"optimizer": "newton"}, "'newton'.*lbfgs, fire"),
        ({"pressure": 1.0}, "1 GPa has no effect at constant volume"),
        ({"pressure": 1.0, "cell": "shape"}, "no effect at constant volume"),
        ({"pressure": float("inf"), "cell": "full"}, "inf GPa"),
    ],
)
def test_settings_without_sense(silicon, settings, message):
    with pytest.raises(ConfigError, match=message):
        relax(silicon, **settings)


def test_cells_that_cannot_relax(calculator):
    slab = silicene(calculator)
    for settings in ({"cell": "isotropic"}, {"cell": "shape"}, {"cell": "full", "pressure": 1.0}):
        with pytest.raises(DataError, match="open in some directions"):
            relax(slab, **settings)
    slab.rotate(20, "x", rotate_cell=True)
    with pytest.raises(DataError, match="no Cartesian plane or axis"):
        relax(slab, cell="full")
    flat = graphene("Si2", a=3.85)
    flat.calc = calculator
    with pytest.raises(DataError, match="no volume"):
        relax(flat, cell="full")


def test_energies_that_are_not_finite():
    class Broken(Calculator):
        implemented_properties = ("energy", "forces")

        def calculate(self, atoms, properties, changes):
            self.results = {"energy": 0.0, "forces": np.full((len(atoms), 3), np.nan)}

    atoms = Atoms("H2", [[0, 0, 0], [0, 0, 1]], calculator=Broken())
    with pytest.raises(SimulationError, match="not finite at step 0"):
        relax(atoms)
