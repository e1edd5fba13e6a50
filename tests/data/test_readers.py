"""One test or more for every format: what is read, in which units and with which signs."""

import dataclasses
import gzip
import json
import logging

import ase.db
import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from pymatgen.core import Lattice, Structure

from eqpot import EqpotCalculator
from eqpot.data import LabelKeys, Units, read_frames
from eqpot.data.read import read_structure
from eqpot.errors import DataError
from eqpot.training.selection import read_structures
from eqpot.units import GIGAPASCAL
from helpers import DATA, ETHANOL, SILICON
from vasp_files import CELL, STRESS_KBAR, outcar, vasprun

LITHIUM = DATA / "lithium.json"


def tensile(stress_kbar):
    xx, yy, zz, xy, yz, zx = stress_kbar
    return -0.1 * GIGAPASCAL * np.array([[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]])


@pytest.mark.parametrize(
    ("name", "text"), [("vasprun.xml", vasprun()), ("run1_vasprun.xml.gz", vasprun()), ("OUTCAR", outcar()), ("OUTCAR.2.gz", outcar())]
)
def test_vasp_gives_every_ionic_step(tmp_path, name, text):
    (tmp_path / name).write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
    frames = read_frames(tmp_path / name)
    assert [frame.energy for frame in frames] == pytest.approx([-19.9, -20.9])
    assert [frame.forces[0, 0] for frame in frames] == pytest.approx([0.1, 1.1])
    for frame in frames:
        np.testing.assert_allclose(frame.stress, tensile(STRESS_KBAR))
        np.testing.assert_allclose(frame.atoms.cell.array, CELL)
        np.testing.assert_allclose(frame.atoms.positions[1], [1.5, 1.0, 1.0])
        assert frame.atoms.get_chemical_symbols() == ["Si", "C"]
    # What the forces are derivatives of has its own name.
    free = read_frames(tmp_path / name, LabelKeys("free_energy"))
    assert [frame.energy for frame in free] == pytest.approx([-20.0, -21.0])


@pytest.mark.parametrize(
    ("name", "text", "end"),
    [("vasprun.xml", vasprun(3), "<energy><i name='e_fr_energy'> -22.0"), ("OUTCAR", outcar(3), "  free  energy   TOTEN  =   -22")],
)
def test_a_cut_vasp_run_gives_its_whole_steps_and_says_so(tmp_path, caplog, name, text, end):
    (tmp_path / name).write_text(text[: text.rindex(end)])
    with caplog.at_level(logging.WARNING):
        frames = read_frames(tmp_path / name)
    assert [frame.energy for frame in frames] == pytest.approx([-19.9, -20.9])
    assert f"{name} ends early: the run was cut or goes on; the 2 complete steps are used" in caplog.text


def test_a17_selective_dynamics_leave_the_forces(tmp_path):
    (tmp_path / "vasprun.xml").write_text(vasprun(1, constrained=True))
    np.testing.assert_allclose(read_frames(tmp_path / "vasprun.xml")[0].forces[0], [0.1, 0.2, 0.3])


def test_compressed_extxyz_is_that_of_the_plain_file(tmp_path):
    (tmp_path / "a.extxyz.gz").write_bytes(gzip.compress(SILICON.read_bytes()))
    for plain, packed in zip(read_frames(SILICON), read_frames(tmp_path / "a.extxyz.gz"), strict=True):
        assert plain.energy == packed.energy
        np.testing.assert_array_equal(plain.forces, packed.forces)
        np.testing.assert_array_equal(plain.stress, packed.stress)


def test_databases_hold_labels_in_results_pairs_and_data(tmp_path):
    atoms = Atoms("HO", [[0, 0, 0], [0, 0, 1]], cell=[5, 5, 5], pbc=True, constraint=FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((2, 3)), stress=np.arange(6.0))
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(atoms, dft_energy=-3.0, data={"dft_forces": np.full((2, 3), 2.0), "forces": np.zeros((2, 3))})
        database.write(atoms, dft_energy=-4.0, data={"dft_forces": np.full((2, 3), 2.0)})
    frames = read_frames(tmp_path / "a.db")
    assert [frame.energy for frame in frames] == [-1.0, -1.0]
    assert (frames[0].forces == 1).all()  # A17: the fixed atom too
    np.testing.assert_allclose(frames[0].stress[1], [5.0, 1.0, 3.0])
    other = read_frames(tmp_path / "a.db", LabelKeys("dft_energy", "dft_forces"))
    assert [frame.energy for frame in other] == [-3.0, -4.0]
    assert (other[1].forces == 2).all()


def test_databases_know_the_calculator_by_the_name_of_ase(tmp_path):
    atoms = Atoms("H", cell=[5, 5, 5], calculator=EqpotCalculator("ethanol"))
    atoms.get_potential_energy()
    with ase.db.connect(tmp_path / "a.db") as database:
        database.write(atoms)
        assert database.get(calculator="eqpot").calculator == "eqpot"


def test_mlearn_json_is_read_in_the_units_of_vasp():
    frames = read_frames(LITHIUM, LabelKeys(stress="virial_stress"))
    entries = json.loads(LITHIUM.read_text())
    assert len(frames) == len(entries) == 2
    for frame, entry in zip(frames, entries, strict=True):
        assert frame.energy == entry["outputs"]["energy"]
        np.testing.assert_array_equal(frame.forces, entry["outputs"]["forces"])
        np.testing.assert_allclose(frame.stress, tensile(entry["outputs"]["virial_stress"]))
        np.testing.assert_allclose(frame.atoms.positions, [site["xyz"] for site in entry["structure"]["sites"]])
        assert frame.atoms.pbc.all()
    # The order of the shear components differs between published files: only who names the key takes it.
    assert read_frames(LITHIUM)[0].stress is None


def test_lists_of_pymatgen_structures_with_labels_in_them_or_beside_them(tmp_path):
    structure = Structure(
        Lattice.cubic(4), ["Si", "C"], [[0, 0, 0], [0.5, 0.5, 0.5]], site_properties={"forces": [[1.0, 0, 0], [-1.0, 0, 0]]}
    )
    structure.properties["energy"] = -7.0
    beside = {"structure": Structure.from_sites(structure).remove_site_property("forces").as_dict(), "energy": -8.0}
    beside["forces"] = {"@module": "numpy", "@class": "array", "dtype": "float64", "data": [[2.0, 0, 0], [-2.0, 0, 0]]}
    beside["stress"] = np.eye(3).tolist()
    text = json.dumps([structure.as_dict(), beside])
    (tmp_path / "a.json").write_text(text)
    (tmp_path / "b.json.gz").write_bytes(gzip.compress(text.encode()))
    for name in ("a.json", "b.json.gz"):
        inside, outside = read_frames(tmp_path / name)
        assert (inside.energy, outside.energy) == (-7.0, -8.0)
        assert (inside.forces[0, 0], outside.forces[0, 0]) == (1.0, 2.0)
        assert inside.stress is None
        np.testing.assert_array_equal(outside.stress, np.eye(3))


def test_npz_in_other_units(tmp_path):
    arrays = {
        "z": np.array([1, 1]),
        "R": np.array([[[0.0, 0, 0], [0, 0, 1.4]]]),
        "E": np.array([-1.0]),
        "F": np.zeros((1, 2, 3)),
        "e_unit": "Hartree",
    }
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(DataError, match="states e_unit Hartree.*data.units"):
        read_frames(tmp_path / "a.npz")
    frame = read_frames(tmp_path / "a.npz", LabelKeys(units=Units(energy="Hartree", forces="Hartree/Bohr", length="Bohr")))[0]
    assert frame.energy == pytest.approx(-27.2114, abs=1e-3)
    assert frame.atoms.get_distance(0, 1) == pytest.approx(0.7408, abs=1e-4)
    with pytest.raises(DataError, match="npz files have both in kcal/mol, so give both"):
        read_frames(tmp_path / "a.npz", LabelKeys(units=Units(energy="Hartree")))


def test_units_that_are_not_named_are_those_of_the_format():
    """A unit of stresses, given for all files of a fit, changes nothing in files whose energies are in kcal/mol."""
    expected, found = read_frames(ETHANOL)[0], read_frames(ETHANOL, LabelKeys(units=Units(stress="GPa")))[0]
    assert found.energy == expected.energy
    np.testing.assert_array_equal(found.forces, expected.forces)
    keys = LabelKeys(stress="virial_stress")
    named = read_frames(LITHIUM, dataclasses.replace(keys, units=Units(energy="eV")))[0]
    np.testing.assert_array_equal(named.stress, read_frames(LITHIUM, keys)[0].stress)


@pytest.mark.parametrize("name", ["outcar_bulk.extxyz", "si_OUTCAR_frames.xyz", "POSCAR_bulk.extxyz", "XDATCAR.XYZ", "POSCAR.extxyz.gz"])
def test_the_ending_says_more_than_the_beginning_of_a_name(tmp_path, name):
    content = SILICON.read_bytes()
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith("gz") else content)
    assert len(read_frames(tmp_path / name)) == len(read_frames(SILICON))
    assert len(read_structures(tmp_path / name)) == len(read_frames(SILICON))
    assert len(read_structure(tmp_path / name)) == len(read_frames(SILICON)[-1].atoms)


@pytest.mark.parametrize("name", ["a.json", "a.json.gz"])
def test_json_that_holds_something_else_is_named(tmp_path, name):
    text = json.dumps([{"structure": {"@class": "Lattice"}}]).encode()
    (tmp_path / name).write_bytes(gzip.compress(text) if name.endswith("gz") else text)
    with pytest.raises(DataError, match=f"{name} cannot be read as pymatgen structures .*Lattice"):
        read_frames(tmp_path / name)


def test_extxyz_written_by_ase_reads_back(tmp_path):
    ase.io.write(tmp_path / "a.xyz", ase.io.read(SILICON, ":3"), format="extxyz")
    for a, b in zip(read_frames(tmp_path / "a.xyz"), read_frames(SILICON), strict=False):
        np.testing.assert_allclose(a.stress, b.stress, atol=1e-8)
