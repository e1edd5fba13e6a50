"""Several potentials as one; A2, A15, and what ASE does with the deviations."""

import json
import pickle

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator

from eqpot import EqpotCalculator
from eqpot.errors import ConfigError, ModelFileError, UnknownElementError
from eqpot.model_file import save_potential
from eqpot.potential import Potential
from helpers import SMALL, crystal, ethanol, random_potential

DEVIATIONS = {"energy_std": "energy", "energies_std": "energies", "forces_std": "forces", "stress_std": "stress"}
STANDARD = {"energy", "free_energy", "energies", "forces", "stress"}


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    """Three potentials of two cutoffs; the last knows hydrogen and carbon alone, and has the elements in another order."""
    folder = tmp_path_factory.mktemp("committee")
    members = {
        "a": random_potential(seed=1, config=SMALL.model_copy(update={"cutoff": 3.5})),
        "b": random_potential(seed=2),
        "hydrocarbons": random_potential(elements=(6, 1), seed=3),
    }
    for name, potential in members.items():
        save_potential(potential, folder / f"{name}.safetensors")
    return [folder / f"{name}.safetensors" for name in members]


@pytest.fixture
def committee(paths):
    return EqpotCalculator(paths, dtype="float64")


def hydrocarbon():
    return crystal("CH")


def test_results_are_means_and_sample_standard_deviations(committee, paths):
    atoms = hydrocarbon()
    members = [EqpotCalculator(path, dtype="float64") for path in paths]
    for name in ("energy", "free_energy", "energies", "forces", "stress", "stresses"):
        values = [member.get_property(name, atoms) for member in members]
        np.testing.assert_allclose(committee.get_property(name, atoms), np.mean(values, axis=0), rtol=1e-14)
    for name, mean in DEVIATIONS.items():
        values = np.array([member.get_property(mean, atoms) for member in members])
        expected = np.sqrt(((values - values.mean(axis=0)) ** 2).sum(axis=0) / 2)
        found = committee.get_property(name, atoms)
        np.testing.assert_allclose(found, expected, rtol=1e-12)
        assert np.asarray(found).dtype == np.float64
        assert abs(expected).max() > 1e-3
    assert isinstance(committee.results["energy_std"], float)
    hessians = [member.get_hessian(atoms) for member in members]
    np.testing.assert_allclose(committee.get_hessian(atoms), np.mean(hessians, axis=0), rtol=1e-14)


def test_a2_parts_sum_to_the_whole_and_deviations_come_in_one_evaluation_each(committee, monkeypatch):
    calls = []
    evaluate = Potential.evaluate
    monkeypatch.setattr(Potential, "evaluate", lambda self, *arguments: calls.append(arguments[1:]) or evaluate(self, *arguments))
    atoms = hydrocarbon()
    assert committee.get_property("forces_std", atoms).shape == (2, 3)
    assert set(committee.results) == STANDARD | set(DEVIATIONS)
    for name in committee.results:
        committee.get_property(name, atoms)
    assert len(calls) == 3
    stresses = committee.get_stresses(atoms)
    np.testing.assert_allclose(stresses.sum(axis=0), committee.get_stress(atoms), atol=1e-12)
    assert committee.get_potential_energies(atoms).sum() == pytest.approx(committee.get_potential_energy(atoms), abs=1e-10)
    calls.clear()
    committee.reset()
    committee.get_property("energy_std", atoms)
    assert calls == [(False, False)] * 3
    assert set(committee.results) == {"energy", "free_energy", "energies", "energy_std", "energies_std"}


def test_forces_are_the_derivative_of_the_energy(committee):
    atoms = hydrocarbon()
    forces = committee.get_forces(atoms)
    energies = []
    for sign in (1, -1):
        moved = atoms.copy()
        moved.positions[0, 1] += sign * 1e-4
        energies.append(committee.get_potential_energy(moved))
    assert (energies[1] - energies[0]) / 2e-4 == pytest.approx(forces[0, 1], abs=1e-6 * abs(forces).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_list_of_one_is_the_potential(paths, dtype):
    alone, listed = EqpotCalculator(paths[0], dtype=dtype), EqpotCalculator(paths[:1], dtype=dtype)
    assert listed.implemented_properties == alone.implemented_properties == EqpotCalculator.implemented_properties
    for atoms in (ethanol(), crystal()):
        alone.get_forces(atoms), listed.get_forces(atoms)
        assert alone.results.keys() == listed.results.keys()
        for name, value in alone.results.items():
            np.testing.assert_array_equal(listed.results[name], value)
    with pytest.raises(PropertyNotImplementedError):
        listed.get_property("energy_std", ethanol())


def test_a15_the_member_that_lacks_an_element_is_named(committee):
    with pytest.raises(UnknownElementError, match=r"hydrocarbons.safetensors: The structure holds O, .*knows C, H"):
        committee.get_potential_energy(ethanol())
    with pytest.raises(UnknownElementError, match="hydrocarbons.safetensors"):
        committee.get_hessian(ethanol())


def test_what_is_no_committee_is_refused(paths):
    with pytest.raises(ConfigError, match="list of model files is empty"):
        EqpotCalculator([])
    with pytest.raises(ModelFileError, match="missing"):
        EqpotCalculator([paths[0], "missing.safetensors"])


def test_deviations_of_a_molecule_hold_no_stress(committee):
    methane = Atoms("CH", [[0, 0, 0], [0, 0, 1.1]])
    committee.get_forces(methane)
    assert "stress_std" not in committee.results
    with pytest.raises(PropertyNotImplementedError, match="no volume"):
        committee.get_property("stress_std", methane)


def test_parameters_are_json_and_make_the_same_calculator(committee, paths):
    parameters = json.loads(json.dumps(committee.todict()))
    assert parameters == {"model": [str(path) for path in paths], "device": "cpu", "dtype": "float64", "skin": "auto"}
    assert dict(committee.parameters) == parameters
    twin = EqpotCalculator(**parameters)
    assert twin.get_property("energy_std", hydrocarbon()) == committee.get_property("energy_std", hydrocarbon())
    committee.set(model=paths[0])
    assert committee.implemented_properties == EqpotCalculator.implemented_properties
    assert not committee.results


def test_pickles_keep_the_deviations(committee):
    atoms = hydrocarbon()
    committee.get_forces(atoms)
    twin = pickle.loads(pickle.dumps(committee))
    assert not twin.calculation_required(atoms, ["forces_std"])
    assert "forces_std" in twin.implemented_properties
    np.testing.assert_array_equal(twin.get_property("forces_std", atoms), committee.get_property("forces_std", atoms))


@pytest.mark.parametrize("name", ["a.extxyz", "a.traj", "a.json", "a.db"])
def test_writers_keep_what_they_keep_of_other_calculators(committee, tmp_path, name):
    """ASE's own formats know no deviations and leave them out; nothing else may be lost. Its databases have no column for atoms' shares."""
    atoms = hydrocarbon()
    atoms.calc = committee
    atoms.get_stresses()
    ase.io.write(tmp_path / name, atoms)
    read = ase.io.read(tmp_path / name)
    for result in {"energy", "free_energy", "forces", "stress"} if name == "a.db" else STANDARD | {"stresses"}:
        np.testing.assert_allclose(read.calc.results[result], committee.results[result], rtol=0, atol=1e-7)
    # Written once more: what was read does not stand in the way.
    read.calc = committee
    read.get_forces()
    ase.io.write(tmp_path / f"again_{name}", read)


def test_a_user_keeps_deviations_as_arrays(committee, tmp_path):
    atoms = hydrocarbon()
    atoms.calc = committee
    atoms.arrays["forces_std"] = committee.get_property("forces_std", atoms)
    atoms.info["energy_std"] = committee.get_property("energy_std", atoms)
    ase.io.write(tmp_path / "a.extxyz", atoms)
    read = ase.io.read(tmp_path / "a.extxyz")
    np.testing.assert_allclose(read.arrays["forces_std"], committee.results["forces_std"], atol=1e-7)
    assert read.info["energy_std"] == pytest.approx(committee.results["energy_std"], abs=1e-7)


def test_exported_properties_are_those_that_ase_names(committee):
    atoms = hydrocarbon()
    atoms.calc = committee
    properties = atoms.get_properties(["energy", "forces", "stress"])
    assert set(properties) == STANDARD | {"natoms"}
    frozen = SinglePointCalculator(atoms, **{name: properties[name] for name in STANDARD})
    np.testing.assert_array_equal(frozen.get_forces(atoms), atoms.get_forces())
