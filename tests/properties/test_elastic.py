"""Elastic constants: Lennard-Jones crystals, known in closed form or from energies, and averages and symmetries beside pymatgen's."""

import csv
import json
import logging

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, graphene, molecule
from ase.calculators.calculator import Calculator, all_changes
from ase.calculators.lj import LennardJones
from pymatgen.analysis.elasticity import ElasticTensor
from pymatgen.io.ase import AseAtomsAdaptor
from scipy.spatial.transform import Rotation

from eqpot.errors import ConfigError, DataError, SimulationError
from eqpot.properties import elastic_constants, relax
from eqpot.properties.elastic import Averages, ElasticConstants
from eqpot.units import GIGAPASCAL
from helpers import Noisy

SIGMA, EPSILON = 2.5, 0.4
BOND = 2 ** (1 / 6) * SIGMA
STIFFNESS = 72 * EPSILON / BOND**2
"""eV/Å^2: the second derivative of a Lennard-Jones bond at its minimum."""
UNIT = STIFFNESS / (2**0.5 * BOND) / GIGAPASCAL
"""GPa: the constants of a face-centred cubic crystal with bonds between nearest neighbours are small numbers of it."""


def neighbours_only() -> LennardJones:
    """Bonds between nearest neighbours alone, which are at rest in close packings."""
    return LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=1.3 * BOND)


@pytest.fixture
def cubic():
    atoms = bulk("Ar", "fcc", a=2**0.5 * BOND)
    atoms.calc = neighbours_only()
    return atoms


@pytest.fixture
def hexagonal():
    atoms = bulk("Ar", "hcp", a=BOND, c=(8 / 3) ** 0.5 * BOND)
    atoms.calc = neighbours_only()
    return atoms


def turned(atoms: Atoms, seed: int) -> Atoms:
    rotation = Rotation.random(random_state=seed).as_matrix()
    result = atoms.copy()
    result.set_cell(atoms.cell.array @ rotation.T, scale_atoms=True)
    result.calc = atoms.calc
    return result


def test_cubic_crystal_in_closed_form(cubic):
    """C11 = 2 k / a and C12 = C44 = k / a, as Cauchy's relation has it; the cube emerges before the tensor is made symmetric."""
    before = cubic.copy()
    result = elastic_constants(cubic, 1e-3)
    assert cubic == before
    assert result.atoms.calc is None
    expected = np.kron(np.diag([1.0, 0.0]), np.ones((3, 3)) + np.eye(3)) + np.kron(np.diag([0.0, 1.0]), np.eye(3))
    np.testing.assert_allclose(result.tensor / UNIT, expected, atol=2e-4)
    np.testing.assert_allclose(result.eigenvalues / UNIT, [1, 1, 2, 2, 2, 4], atol=5e-4)
    assert result.asymmetry < 1e-6 * UNIT
    assert result.is_stable
    assert result.bulk_modulus.hill / UNIT == pytest.approx(4 / 3, rel=1e-3)
    assert result.shear_modulus == pytest.approx((0.8 * UNIT, 5 / 7 * UNIT), rel=1e-3)
    assert result.cubic.anisotropy == pytest.approx(2, rel=1e-3)


def test_turned_crystals_and_larger_cells_have_the_same_constants(cubic):
    lying = turned(cubic, 1)
    result = elastic_constants(lying, 1e-3)
    assert abs(result.tensor[:3, 3:]).max() > 0.05 * UNIT
    assert result.cubic == pytest.approx((2 * UNIT, UNIT, UNIT), rel=1e-3)
    np.testing.assert_allclose(result.eigenvalues / UNIT, [1, 1, 2, 2, 2, 4], atol=5e-4)
    large = lying * (2, 1, 1)
    large.calc = cubic.calc
    again = elastic_constants(large, 1e-3)
    assert len(again.atoms) == 1
    np.testing.assert_allclose(again.tensor, result.tensor, atol=1e-3 * UNIT)


def curvature(atoms: Atoms, strain: np.ndarray, relaxed: bool) -> float:
    """The second derivative of the energy along a strain [3, 3] of unit size, over the volume, GPa: no stress is asked for."""
    energies = []
    for size in (-2e-3, 0.0, 2e-3):
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ (np.eye(3) + size * strain), scale_atoms=True)
        strained.calc = atoms.calc
        assert not relaxed or relax(strained, 1e-7).converged
        energies.append(strained.get_potential_energy())
    return float(np.diff(energies, 2)[0]) / 4e-6 / atoms.get_volume() / GIGAPASCAL


@pytest.mark.parametrize("relaxation", ["atoms", "none"])
def test_hexagonal_crystal_against_its_energies(hexagonal, relaxation):
    result = elastic_constants(hexagonal, 1e-3, relaxation)
    tensor = result.tensor
    for row, column in ((0, 0), (2, 2), (1, 1)):
        stretch = np.zeros((3, 3))
        stretch[row, column] = 1
        assert tensor[row, column] == pytest.approx(curvature(hexagonal, stretch, relaxation == "atoms"), rel=1e-3)
    for index, (row, column) in ((3, (1, 2)), (4, (0, 2)), (5, (0, 1))):
        shear = np.zeros((3, 3))
        shear[row, column] = shear[column, row] = 0.5
        assert tensor[index, index] == pytest.approx(curvature(hexagonal, shear, relaxation == "atoms"), rel=1e-3)
    assert tensor[5, 5] == pytest.approx((tensor[0, 0] - tensor[0, 1]) / 2)
    assert tensor[3, 3] == pytest.approx(tensor[4, 4])
    assert tensor[0, 2] == pytest.approx(tensor[1, 2])
    assert abs(tensor[3, 3] - tensor[5, 5]) > 0.02 * tensor[5, 5]
    assert result.asymmetry < 2e-3 * tensor[0, 0]
    assert result.cubic is None


def test_relaxed_atoms_yield(hexagonal):
    """Sheared in the plane, the two layers of a hexagonal cell shift against each other."""
    relaxed, clamped = elastic_constants(hexagonal), elastic_constants(hexagonal, relaxation="none")
    assert relaxed.tensor[5, 5] < 0.99 * clamped.tensor[5, 5]
    assert relaxed.bulk_modulus.voigt == pytest.approx(clamped.bulk_modulus.voigt, rel=1e-3)


class Linear(Calculator):
    """A stress that is a matrix times the strain of the cell, whatever the atoms."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, matrix, reference):
        super().__init__()
        self.matrix, self.reference = matrix, reference

    def calculate(self, atoms, properties, changes=all_changes):
        super().calculate(atoms, properties, changes)
        strain = np.linalg.inv(self.reference) @ atoms.cell.array - np.eye(3)
        vector = [strain[0, 0], strain[1, 1], strain[2, 2], 2 * strain[1, 2], 2 * strain[0, 2], 2 * strain[0, 1]]
        stress = GIGAPASCAL * self.matrix @ vector
        self.results = {"energy": 0.0, "forces": np.zeros((len(atoms), 3)), "stress": stress}


@pytest.mark.filterwarnings("ignore:.*OLD_ERROR_HANDLING:DeprecationWarning")  # spglib's, of pymatgen
@pytest.mark.parametrize(
    "atoms",
    [bulk("Sb"), bulk("Ti"), bulk("Sn", "bct", a=5.8, c=3.2), bulk("Si"), bulk("NaCl", "rocksalt", a=5.6)],
    ids=["trigonal", "hexagonal", "tetragonal", "diamond", "rocksalt"],
)
def test_symmetry_of_the_point_group_is_that_of_pymatgen(atoms):
    """Stresses that know nothing of the crystal, of a matrix that is not symmetric either: what remains is the point group's."""
    atoms = turned(atoms, 3)
    matrix = np.random.default_rng(0).normal(size=(6, 6)) + 10 * np.eye(6)
    atoms.calc = Linear(matrix, atoms.cell.array)
    result = elastic_constants(atoms)
    expected = ElasticTensor.from_voigt((matrix + matrix.T) / 2).fit_to_structure(AseAtomsAdaptor.get_structure(atoms))
    np.testing.assert_allclose(result.tensor, expected.voigt, atol=1e-6)
    assert result.asymmetry == pytest.approx(abs(matrix - result.tensor).max())


def test_averages_are_those_of_pymatgen(cubic):
    factor = np.random.default_rng(1).normal(size=(6, 6))
    tensor = factor @ factor.T + 20 * np.eye(6)
    result = ElasticConstants(cubic, tensor, 0.005, "atoms", 0.0, 0.0, 0.0)
    other = ElasticTensor.from_voigt(tensor)
    assert result.bulk_modulus == pytest.approx((other.k_voigt, other.k_reuss))
    assert result.shear_modulus == pytest.approx((other.g_voigt, other.g_reuss))
    assert (result.bulk_modulus.hill, result.shear_modulus.hill) == pytest.approx((other.k_vrh, other.g_vrh))
    assert result.young_modulus == pytest.approx(other.y_mod / 1e9)
    assert result.poisson_ratio == pytest.approx(other.homogeneous_poisson)
    assert Averages(3.0, 2.0).hill == 2.5


def test_files(hexagonal, tmp_path):
    result = elastic_constants(hexagonal, relaxation="none")
    result.write(tmp_path)
    with (tmp_path / "elastic.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["stress", *(f"strain_{name}_gpa" for name in ("xx", "yy", "zz", "yz", "xz", "xy"))]
    assert [float(row["strain_zz_gpa"]) for row in rows] == result.tensor[:, 2].tolist()
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["space_group"] == "P6_3/mmc (194)"
    assert summary["relaxed"] == "none"
    assert summary["bulk_modulus_gpa"]["hill"] == result.bulk_modulus.hill
    assert summary["zener_anisotropy"] is None
    assert summary["mechanically_stable"] is True


def test_a_structure_that_is_not_at_rest_is_told(cubic, caplog):
    with caplog.at_level(logging.WARNING):
        elastic_constants(cubic)
        assert caplog.text == ""
        cubic.set_cell(cubic.cell * 0.999, scale_atoms=True)
        assert 0.2 < elastic_constants(cubic).largest_stress < 2
    assert "stresses of up to" in caplog.text
    assert "not mechanically stable" not in caplog.text


def test_forces_are_told(hexagonal, caplog):
    hexagonal.positions[1, 2] += 0.01
    with caplog.at_level(logging.WARNING):
        assert elastic_constants(hexagonal).largest_force > 0.02
    assert "Forces of up to" in caplog.text


def test_an_unstable_crystal_is_told(caplog):
    """Close packing has less energy than a body-centred cube of such atoms, and a stretch along an edge leads there."""
    atoms = bulk("Ar", "bcc", a=1.1 * BOND)
    atoms.calc = LennardJones(sigma=SIGMA, epsilon=EPSILON, rc=3 * SIGMA)
    relax(atoms, 1e-6, cell="isotropic")
    with caplog.at_level(logging.WARNING):
        result = elastic_constants(atoms)
    assert not result.is_stable
    assert result.cubic.c11 < result.cubic.c12
    assert "not mechanically stable" in caplog.text
    assert "at rest" not in caplog.text


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"strain": 0.0}, "strain is 0;"), ({"strain": 0.2}, "at most 0.05"), ({"relaxation": "shape"}, "'shape' at each strain")],
)
def test_settings_without_sense(cubic, settings, message):
    with pytest.raises(ConfigError, match=message):
        elastic_constants(cubic, **settings)


@pytest.mark.parametrize("atoms", [molecule("H2O"), graphene()], ids=["molecule", "slab"])
def test_no_crystal(atoms):
    atoms.calc = neighbours_only()
    with pytest.raises(DataError, match="not periodic in all three directions"):
        elastic_constants(atoms)


def test_atoms_that_do_not_reach_one_another():
    atoms = bulk("Ar", "fcc", a=20.0)
    atoms.calc = neighbours_only()
    with pytest.raises(SimulationError, match="meets no resistance"):
        elastic_constants(atoms)


def test_atoms_that_do_not_relax(hexagonal):
    hexagonal.calc = Noisy(1e-3)
    with pytest.raises(SimulationError, match=r"strain of 0.005 \(xx\) the atoms have not relaxed"):
        elastic_constants(hexagonal)
