"""pymatgen in and out, on silicon and ethanol with the shipped potentials."""

import json
import subprocess
import sys

import numpy as np
import pytest
from ase.build import molecule
from pymatgen.core import DummySpecies, Lattice, Molecule, Structure
from pymatgen.entries.computed_entries import ComputedStructureEntry
from pymatgen.io.ase import AseAtomsAdaptor

from eqpot import EqpotCalculator
from eqpot.errors import DataError, SimulationError
from eqpot.interop import computed_entry, relax, to_atoms
from eqpot.units import GIGAPASCAL
from helpers import ROOT


@pytest.fixture(scope="module")
def calculator():
    return EqpotCalculator(ROOT / "potentials" / "silicon" / "potential.safetensors", dtype="float64")


@pytest.fixture
def silicon():
    """Silicon's two sites, told apart by label and site property, displaced and compressed."""
    cell = Lattice([[0, 2.68, 2.71], [2.69, 0, 2.7], [2.7, 2.7, 0.02]])
    sites = [[0.01, 0, 0], [0.25, 0.26, 0.25]]
    return Structure(cell, ["Si", "Si"], sites, labels=["Si1", "Si2"], site_properties={"magmom": [0.5, -0.5], "origin": ["a", "b"]})


def test_entry_holds_what_the_calculator_gives(silicon, calculator):
    entry = computed_entry(silicon, calculator)
    atoms = AseAtomsAdaptor.get_atoms(silicon, msonable=False)
    atoms.calc = calculator
    assert entry.energy == atoms.get_potential_energy()
    assert entry.energy_per_atom == pytest.approx(sum(entry.data["energies"]) / 2)
    np.testing.assert_allclose(entry.data["forces"], atoms.get_forces(), atol=1e-12)
    np.testing.assert_allclose(entry.data["stress"], atoms.get_stress(voigt=False) / GIGAPASCAL, atol=1e-10)
    assert -20 < np.trace(entry.data["stress"]) / 3 < -1  # compressed by 1.2 % in length: pressure of some GPa
    assert entry.parameters["dtype"] == "float64"
    assert entry.structure == silicon
    assert entry.structure is not silicon
    assert entry.structure.labels == ["Si1", "Si2"]


def test_entry_survives_json(silicon, calculator):
    entry = computed_entry(silicon, calculator)
    again = ComputedStructureEntry.from_dict(json.loads(json.dumps(entry.as_dict())))
    assert again.energy == entry.energy
    assert again.data == entry.data


def test_relaxed_silicon_is_cubic_and_keeps_its_sites(silicon, calculator):
    before = silicon.copy()
    relaxed = relax(silicon, calculator, fmax=1e-4)
    assert silicon == before
    assert (4 * relaxed.volume) ** (1 / 3) == pytest.approx(5.469, abs=0.002)
    assert relaxed.lattice.angles == pytest.approx((60, 60, 60), abs=0.01)
    assert relaxed.labels == ["Si1", "Si2"]
    assert relaxed.site_properties == silicon.site_properties
    assert relaxed.get_distance(0, 1) == pytest.approx(5.469 * 3**0.5 / 4, abs=0.002)
    stress = np.array(computed_entry(relaxed, calculator).data["stress"])
    assert abs(stress).max() < 1e-3


def test_fixed_cell_and_selective_dynamics(silicon, calculator):
    silicon.add_site_property("selective_dynamics", [[False] * 3, [True] * 3])
    relaxed = relax(silicon, calculator, cell=False)
    assert relaxed.lattice == silicon.lattice
    np.testing.assert_allclose(relaxed[0].coords, silicon[0].coords, atol=1e-12)
    assert np.linalg.norm(relaxed[1].coords - silicon[1].coords) > 0.01
    assert abs(np.array(computed_entry(silicon, calculator).data["forces"])[0]).max() > 0.1


def test_molecules():
    calculator = EqpotCalculator(ROOT / "potentials" / "ethanol" / "potential.safetensors", dtype="float64")
    ethanol = molecule("CH3CH2OH")
    before = Molecule(ethanol.get_chemical_symbols(), ethanol.positions)
    after = relax(before, calculator)
    assert isinstance(after, Molecule)
    assert after.species == before.species
    ethanol.positions = after.cart_coords
    ethanol.calc = calculator
    assert abs(ethanol.get_forces()).max() < 0.01


def test_disordered_structures_and_placeholders_are_refused(silicon, calculator):
    disordered = silicon.copy()
    disordered[1] = {"Si": 0.5, "Ge": 0.5}
    with pytest.raises(DataError, match=r"disordered at site 1 \(Si:0.5, Ge:0.5\); make it ordered"):
        computed_entry(disordered, calculator)
    disordered[0] = {"Si": 0.9}
    with pytest.raises(DataError, match=r"site 0 \(Si:0.9\), 1 \("):
        relax(disordered, calculator)
    silicon[0] = DummySpecies("X")
    with pytest.raises(DataError, match="Site 0 .* no element"):
        to_atoms(silicon)


def test_too_few_steps(silicon, calculator):
    with pytest.raises(SimulationError, match="not relaxed to 0.01 eV/Å in 1 steps"):
        relax(silicon, calculator, steps=1)


def test_pymatgen_is_imported_on_use():
    code = "import sys, eqpot.interop; print('pymatgen' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout == "False\n"
