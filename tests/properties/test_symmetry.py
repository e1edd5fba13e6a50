"""Space groups and primitive cells."""

import numpy as np
import pytest
from ase.build import bulk, graphene, molecule

from eqpot.properties.symmetry import point_group, primitive_cell, space_group


def test_space_groups():
    silicon = bulk("Si", cubic=True)
    assert space_group(silicon) == "Fd-3m (227)"
    silicon.rattle(0.001, seed=0)
    assert space_group(silicon) == "Fd-3m (227)"
    silicon.rattle(0.1, seed=0)
    assert space_group(silicon) == "P1 (1)"
    assert space_group(graphene()) is None
    assert space_group(molecule("H2O")) is None


def test_a_crystal_that_is_nearly_cubic_has_the_rotations_of_a_cube():
    crystal = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    crystal.set_cell(crystal.cell.array @ (np.eye(3) + 5e-4 * np.random.default_rng(0).normal(size=(3, 3))), scale_atoms=True)
    rotations = point_group(crystal)
    assert len(rotations) == 48 * 4
    np.testing.assert_allclose(rotations @ rotations.transpose(0, 2, 1), np.broadcast_to(np.eye(3), rotations.shape), atol=1e-12)


def test_primitive_cell_lies_as_the_crystal_does():
    crystal = bulk("NaCl", "rocksalt", a=5.6, cubic=True)
    crystal.rotate(25, (1, 2, 3), rotate_cell=True)
    primitive = primitive_cell(crystal)
    assert sorted(primitive.symbols) == ["Cl", "Na"]
    assert primitive.get_volume() == pytest.approx(crystal.get_volume() / 4)
    for atom in primitive:
        places = crystal.cell.scaled_positions(atom.position - crystal.positions[crystal.numbers == atom.number])
        assert abs(places - places.round()).max(axis=1).min() < 1e-9
    same = primitive_cell(graphene())
    assert same == graphene()


def test_isotopes_are_different_atoms():
    crystal = bulk("Si", cubic=True)
    masses = crystal.get_masses()
    masses[0] = 30.0
    crystal.set_masses(masses)
    primitive = primitive_cell(crystal)
    assert len(primitive) == 8
    np.testing.assert_allclose(np.sort(primitive.get_masses()), np.sort(masses))
    crystal.set_masses([30.0] * 8)
    np.testing.assert_array_equal(primitive_cell(crystal).get_masses(), [30.0, 30.0])
