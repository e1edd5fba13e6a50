"""Phonons: silicon with the shipped potential, and a chain whose frequencies are known in closed form."""

import csv
import json
import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.calculators.calculator import Calculator, all_changes

from eqpot import EqpotCalculator
from eqpot.errors import ConfigError, DataError
from eqpot.properties import phonons, relax, vibrations
from eqpot.properties.phonons import supercell
from helpers import ROOT


@pytest.fixture(scope="module")
def silicon():
    atoms = bulk("Si", a=5.4692, cubic=True)
    atoms.calc = EqpotCalculator(ROOT / "potentials" / "silicon" / "potential.safetensors", dtype="float64")
    return atoms


@pytest.fixture(scope="module")
def result(silicon):
    return phonons(silicon, length=12.0)


def test_silicon(silicon, result):
    """The conventional cell gives the primitive cell's six modes, three of them at rest at Γ; 15.02 THz: benchmarks/properties.py."""
    assert len(silicon) == 8
    assert (len(result.atoms), result.supercell) == (2, (5, 5, 5))
    assert result.atoms.calc is None
    points = {name: result.bands[index] for _, name, index in result.ticks()}
    assert set(points) == {"Γ", "X", "W", "K", "L", "U"}
    np.testing.assert_allclose(points["Γ"], [0, 0, 0, 15.02, 15.02, 15.02], atol=0.01)
    assert result.acoustic < 1e-4
    assert result.lowest > -1e-4
    assert result.is_stable
    assert result.largest_force < 1e-6
    np.testing.assert_allclose(points["K"], points["U"], atol=1e-6)
    # Two transverse branches are one from Γ to X and at L, which the corners of a skew supercell must not undo.
    for branch in (*result.bands[:5], points["X"], points["L"]):
        assert branch[0] == pytest.approx(branch[1], abs=1e-4)
    assert points["X"][2] == pytest.approx(points["X"][3], abs=1e-4)


def test_density_of_states_and_zero_point_energy(result):
    """The density counts six modes, and its first moment is the zero-point energy: two sums over the same frequencies."""
    step = result.axis[1] - result.axis[0]
    assert result.density.sum() * step == pytest.approx(6)
    planck = 4.135667696e-3
    assert (result.density * result.axis).sum() * step * planck / 2 == pytest.approx(result.zero_point_energy, rel=1e-3)
    assert result.density[result.axis > 15.4].max() < 0.01
    assert result.density[abs(result.axis - 14).argmin()] > 1


def test_files(result, tmp_path):
    result.write(tmp_path)
    with (tmp_path / "bands.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["mode_6_thz"]) for row in rows] == result.bands[:, 5].tolist()
    assert float(rows[0]["distance_per_ang"]) == 0
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["space_group"] == "Fd-3m (227)"
    assert summary["special_points"]["X"]["q"] == [0.5, 0.0, 0.5]
    assert summary["special_points"]["X"]["frequencies_thz"][5] == pytest.approx(13.4, abs=0.1)
    with (tmp_path / "dos.csv").open() as file:
        assert sum(1 for _ in file) == len(result.axis) + 1


class Springs(Calculator):
    """Neighbours on a line along z, bound in each direction as by a spring of `length`."""

    implemented_properties = ("energy", "forces")
    stiffness, length = 3.0, 2.0

    def calculate(self, atoms, properties, changes=all_changes):
        super().calculate(atoms, properties, changes)
        stretch = np.roll(atoms.positions, -1, axis=0) - atoms.positions - [0, 0, self.length]
        stretch[-1] += atoms.cell[2]
        forces = self.stiffness * (stretch - np.roll(stretch, 1, axis=0))
        self.results = {"energy": self.stiffness * (stretch**2).sum() / 2, "forces": forces}


@pytest.mark.parametrize("open_vectors", [0.0, 9.0])
def test_chain_in_closed_form(open_vectors):
    """A wire of one atom a cell: omega = 2 sqrt(k / m) |sin(q a / 2)|; Born and von Karman."""
    chain = Atoms("Si", cell=[open_vectors, open_vectors, Springs.length], pbc=[False, False, True], calculator=Springs())
    result = phonons(chain, length=20.0, displacement=0.02)
    assert result.supercell == (1, 1, 11)
    unit = 15.633302  # THz, of sqrt(eV / (Å^2 amu)) / (2 pi)
    expected = 2 * unit * np.sqrt(Springs.stiffness / chain.get_masses()[0]) * np.sin(np.pi * result.path.kpts[:, 2])
    np.testing.assert_allclose(result.bands, np.stack([expected] * 3, axis=1), atol=1e-3)
    # The mean of |sin| is 2 / pi.
    assert result.zero_point_energy == pytest.approx(3 * 4.135667696e-3 * expected.max() / np.pi, rel=1e-3)
    assert [name for _, name, _ in result.ticks()] == ["Γ", "X"]


class WrongSprings(Springs):
    """Every second atom feels four fifths of its springs, so action is not reaction."""

    def calculate(self, atoms, properties, changes=all_changes):
        super().calculate(atoms, properties, changes)
        self.results["forces"][1::2] *= 0.8


def test_the_acoustic_sum_rule_holds_whatever_the_forces():
    chain = Atoms("Si2", [[0, 0, 0], [0, 0, 2]], cell=[9, 9, 4], pbc=[False, False, True], calculator=WrongSprings())
    assert phonons(chain).acoustic < 1e-4


def test_masses_scale_frequencies(silicon, result):
    heavy = silicon.copy()
    heavy.set_masses(4 * silicon.get_masses())
    heavy.calc = silicon.calc
    found = phonons(heavy, length=9.0, path="GX")
    assert found.bands[0, 5] == pytest.approx(result.bands[0, 5] / 2, abs=0.01)


def test_an_atom_may_be_listed_in_another_cell(silicon):
    atoms = bulk("Si", a=5.4692)
    atoms.calc = silicon.calc
    expected = phonons(atoms, length=5.0, path="GX").bands
    atoms.positions[1] += 10 * atoms.cell.array[0]
    np.testing.assert_allclose(phonons(atoms, length=5.0, path="GX").bands, expected, atol=1e-5)


def test_slab_and_paths(silicon):
    slab = graphene("Si2", a=3.868, thickness=0.0)
    slab.positions[1, 2] += 0.49
    slab.calc = silicon.calc
    relax(slab, 1e-4)
    result = phonons(slab, length=12.0)
    assert result.supercell == (5, 5, 1)
    assert [name for _, name, _ in result.ticks()] == ["Γ", "M", "K", "Γ"]
    assert result.acoustic < 1e-4
    assert (abs(result.path.kpts[:, 2]) < 1e-12).all()


def test_imaginary_modes_and_forces_are_told(silicon, caplog):
    simple = Atoms("Si", cell=[2.6] * 3, pbc=True, calculator=silicon.calc)
    with caplog.at_level(logging.WARNING):
        result = phonons(simple, length=7.0)
    assert not result.is_stable
    assert result.lowest < -1
    assert "imaginary modes, down to" in caplog.text
    assert "Forces" not in caplog.text
    # Imaginary modes have no quantum.
    moment = (result.density * result.axis)[result.axis > 0].sum() * (result.axis[1] - result.axis[0])
    assert result.zero_point_energy == pytest.approx(moment * 4.135667696e-3 / 2, rel=0.01)
    displaced = bulk("Si", a=5.4692)
    displaced.positions[1, 0] += 0.05
    displaced.calc = silicon.calc
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        phonons(displaced, length=3.0)
    assert "Forces of up to" in caplog.text


def test_supercells_are_odd_and_long_enough():
    fcc = bulk("Si", a=5.4692)
    assert supercell(fcc, 20.0) == (7, 7, 7)
    assert supercell(fcc, 3.0) == (1, 1, 1)
    long = Atoms("Si", cell=[4, 10, 25], pbc=[True, True, False])
    assert supercell(long, 20.0) == (5, 3, 1)
    # The faces of a flat rhombus are closer than its edges are long.
    flat = Atoms("Si", cell=[[10, 0, 0], [8, 6, 0], [0, 0, 10]], pbc=True)
    assert supercell(flat, 9.0) == (3, 3, 1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"length": 0.0}, "length is 0 Å"),
        ({"length": float("inf")}, "length is inf"),
        ({"displacement": 0.0}, "displacement is 0 Å"),
        ({"displacement": 0.5}, "at most 0.1"),
        ({"path": "GQ"}, "'GQ' goes through 'Q'.*G, K, L, U, W, X"),
        ({"path": "G"}, "goes nowhere"),
        ({"path": ""}, "goes nowhere"),
        ({"path": "GX,"}, "'GX,' goes nowhere"),
        ({"path": ","}, "',' goes nowhere"),
        ({"path": "GX,,UG"}, "'GX,,UG' goes nowhere"),
        ({"path": "GX,U"}, "'GX,U' goes nowhere"),
        ({"length": 200.0}, "length of 200 Å makes a supercell of 549,250 atoms, above 20,000"),
        ({"length": 1e200}, "supercell of inf atoms"),
    ],
)
def test_settings_without_sense(silicon, settings, message):
    with pytest.raises(ConfigError, match=message):
        phonons(silicon, **settings)


def test_molecules_have_vibrations_and_crystals_phonons(silicon):
    with pytest.raises(DataError, match="not periodic"):
        phonons(molecule("Si2H6"))
    with pytest.raises(DataError, match="is periodic"):
        vibrations(silicon)
