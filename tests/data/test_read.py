"""Reading labelled frames; A16, A17, A19."""

import logging

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from pymatgen.core import Lattice, Molecule, Structure

from eqpot.data import Frame, LabelKeys, densities, file_hash, fit_reference_energies, read_frames
from eqpot.data.read import read_structure
from eqpot.errors import DataError
from eqpot.units import KCAL_PER_MOL
from helpers import ETHANOL, SILICON


def labelled(n=2, **info):
    frames = []
    for index in range(n):
        atoms = Atoms("HO", [[0, 0, 0], [0, 0, 1 + 0.1 * index]], cell=[5, 5, 5], pbc=True)
        atoms.arrays["dft_forces"] = np.full((2, 3), 0.5)
        atoms.info.update({"dft_energy": -1.0 - index, **info})
        frames.append(atoms)
    return frames


KEYS = LabelKeys("dft_energy", "dft_forces", "dft_stress")
NO_STRESS = LabelKeys("dft_energy", "dft_forces")


def test_rmd17_is_converted_from_kcal_per_mol():
    frames = read_frames(ETHANOL)
    with np.load(ETHANOL) as arrays:
        assert len(frames) == len(arrays["energies"])
        assert frames[3].energy == pytest.approx(arrays["energies"][3] * 0.0433641153, rel=1e-6)
        np.testing.assert_allclose(frames[3].forces, arrays["forces"][3] * KCAL_PER_MOL)
    assert frames[3].stress is None
    assert frames[3].origin.endswith("ethanol.npz, frame 3")


def test_extxyz_with_ase_own_keys_reads_stress_in_ase_units():
    frames = read_frames(SILICON)
    reference = ase.io.read(SILICON, 4)
    assert len(frames) == 12
    assert frames[4].energy == reference.get_potential_energy()
    np.testing.assert_allclose(frames[4].stress, reference.get_stress(voigt=False))


def test_a16_the_log_says_which_keys_served(tmp_path, caplog):
    stressed, bare = labelled(2), labelled(1)
    for atoms in stressed:
        atoms.info["dft_stress"] = np.diag([1.0, 2.0, 3.0])
    ase.io.write(tmp_path / "a.xyz", stressed + bare, format="extxyz")
    with caplog.at_level(logging.INFO):
        frames = read_frames(tmp_path / "a.xyz", KEYS)
    assert "3 frames, energy from 'dft_energy', forces from 'dft_forces', stress from 'dft_stress' in 2 of them" in caplog.text
    # A19: the third frame goes without a stress.
    assert [frame.stress is not None for frame in frames] == [True, True, False]
    np.testing.assert_array_equal(frames[0].stress, np.diag([1.0, 2.0, 3.0]))


def test_a16_a_missing_key_lists_those_that_are_there(tmp_path):
    ase.io.write(tmp_path / "a.xyz", labelled(), format="extxyz")
    with pytest.raises(DataError, match=r"a.xyz, frame 0: no energy under the key 'energy'; the keys there are: dft_energy, dft_forces"):
        read_frames(tmp_path / "a.xyz")
    with pytest.raises(DataError, match="no forces under the key 'force'.*forces_key"):
        read_frames(tmp_path / "a.xyz", LabelKeys("dft_energy", "force"))


def test_a17_constraints_do_not_zero_forces(tmp_path):
    atoms = Atoms("HO", [[0, 0, 0], [0, 0, 1]], constraint=FixAtoms([0]))
    atoms.calc = SinglePointCalculator(atoms, energy=-1.0, forces=np.ones((2, 3)))
    ase.io.write(tmp_path / "a.traj", atoms)
    assert (read_frames(tmp_path / "a.traj")[0].forces == 1).all()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.xyz", b"", "cannot be read|no frames"),
        ("text.xyz", b"not a structure", "cannot be read by ASE"),
        ("cut.npz", ETHANOL.read_bytes()[:500], "cannot be read as npz"),
        ("unknown.zzz", b"\x00\x01", "cannot be read by ASE"),
    ],
)
def test_unreadable_files_are_named(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message) as error:
        read_frames(tmp_path / name)
    assert name in str(error.value)
    with pytest.raises(DataError, match="no data file"):
        read_frames(tmp_path / "none.xyz")


def test_npz_with_other_arrays_or_pickles_is_refused(tmp_path):
    np.savez(tmp_path / "a.npz", x=np.zeros(3))
    with pytest.raises(DataError, match="holds the arrays x; expected those of rMD17"):
        read_frames(tmp_path / "a.npz")
    with np.load(ETHANOL) as arrays:
        np.savez(tmp_path / "b.npz", **{**arrays, "energies": np.array([{}], dtype=object)})
        np.savez(tmp_path / "c.npz", **{**arrays, "energies": arrays["energies"][:5]})
        np.savez(tmp_path / "d.npz", **arrays, e_unit="eV")
        np.savez(tmp_path / "e.npz", **{**arrays, "energies": arrays["energies"].astype(str)})
        np.savez(tmp_path / "f.npz", **{**arrays, "nuclear_charges": np.array(6)})
        np.savez(tmp_path / "g.npz", **{**arrays, "nuclear_charges": arrays["nuclear_charges"] + 195})
    with pytest.raises(DataError, match="cannot be read as npz"):
        read_frames(tmp_path / "b.npz")
    for name, message in (
        ("c", "5 energies for 120 frames"),
        ("d", "states e_unit eV"),
        ("e", "not of real numbers"),
        ("f", "for 1 atoms"),
        ("g", "frame 0: there is no element with atomic number"),
    ):
        with pytest.raises(DataError, match=message):
            read_frames(tmp_path / f"{name}.npz")


def test_labels_that_are_not_finite_are_found(tmp_path):
    frames = labelled(3)
    frames[1].arrays["dft_forces"][1, 2] = np.nan
    ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
    with pytest.raises(DataError, match="frame 1: the label forces is not finite"):
        read_frames(tmp_path / "a.xyz", NO_STRESS)


def test_structures_of_pymatgen_are_read(tmp_path):
    structure = Structure(Lattice.from_parameters(3, 4, 5, 80, 95, 110), ["Si", "C"], [[0, 0, 0], [0.5, 0.4, 0.6]])
    (tmp_path / "s.json").write_text(structure.to_json())
    atoms = read_structure(tmp_path / "s.json")
    np.testing.assert_allclose(atoms.cell.array, structure.lattice.matrix)
    np.testing.assert_allclose(atoms.positions, structure.cart_coords)
    assert atoms.pbc.all()
    (tmp_path / "m.json").write_text(Molecule(["O", "H"], [[0, 0, 0], [0, 0, 1.0]]).to_json())
    assert not read_structure(tmp_path / "m.json").pbc.any()
    (tmp_path / "l.json").write_text(structure.lattice.to_json())
    with pytest.raises(DataError, match="l.json cannot be read as a structure .*Lattice"):
        read_structure(tmp_path / "l.json")


def test_of_several_structures_the_last_is_taken_or_the_one_that_is_named(tmp_path, caplog):
    path = tmp_path / "two.xyz"
    ase.io.write(path, [Atoms("H"), Atoms("O")], format="extxyz")
    assert read_structure(path).symbols[0] == "O"
    assert "two.xyz holds several structures; the last is taken" in caplog.text
    caplog.clear()
    assert read_structure(f"{path}@0").symbols[0] == "H"
    assert read_structure(f"{path}@-1").symbols[0] == "O"
    with pytest.raises(DataError, match="two.xyz holds no structure 2"):
        read_structure(f"{path}@2")
    for name in ("one@3.xyz", "one.vasp", "one.traj"):
        ase.io.write(tmp_path / name, Atoms("H", cell=[5, 5, 5], pbc=True))
        assert len(read_structure(tmp_path / name)) == 1
    assert not caplog.text


def test_frames_that_cannot_be_learned_from_are_refused(tmp_path):
    stress = {"dft_stress": np.eye(3)}
    molecule, skew, unknown = labelled(1, **stress), labelled(1, dft_stress=1e-4 * np.arange(9.0)), labelled(1)
    molecule[0].cell = molecule[0].pbc = None
    unknown[0].numbers[0] = 0
    for frames, message in ((molecule, "cell has no volume"), (skew, "not symmetric"), (unknown, "atomic number 0")):
        ase.io.write(tmp_path / "a.xyz", frames, format="extxyz")
        with pytest.raises(DataError, match=f"frame 0: .*{message}"):
            read_frames(tmp_path / "a.xyz", KEYS)
    (tmp_path / "none.xyz").write_text("0\nenergy=1.0 Properties=species:S:1:pos:R:3:forces:R:3\n")
    with pytest.raises(DataError, match="none.xyz.*(no atoms|no forces|cannot be read)"):
        read_frames(tmp_path / "none.xyz")


def test_a16_a_stress_key_that_serves_nowhere_is_an_error(tmp_path):
    ase.io.write(tmp_path / "a@1.xyz", labelled(), format="extxyz")
    with pytest.raises(DataError, match="no frame has a stress under the key 'dft_stress'"):
        read_frames(tmp_path / "a@1.xyz", KEYS)
    assert len(read_frames(tmp_path / "a@1.xyz", NO_STRESS)) == 2


def test_hash_depends_on_content_only(tmp_path):
    copy = tmp_path / "other.npz"
    copy.write_bytes(ETHANOL.read_bytes())
    assert file_hash([ETHANOL]) == file_hash([copy])
    assert file_hash([ETHANOL]) != file_hash([SILICON])


def frame(symbols, energy):
    atoms = Atoms(symbols)
    return Frame(atoms, energy, np.zeros((len(atoms), 3)), None, "made")


def test_reference_energies_are_recovered_by_least_squares():
    frames = [frame("H2O", 2 * -1.0 - 10.0), frame("HO", -11.0), frame("H4", -4.0)]
    np.testing.assert_allclose(fit_reference_energies(frames, "least_squares"), [-1.0, -10.0], atol=1e-10)
    np.testing.assert_allclose(fit_reference_energies(frames, "mean"), [-27 / 9] * 2)
    np.testing.assert_allclose(fit_reference_energies(frames, {"O": -7.0, "H": -2.0}), [-2.0, -7.0])


def test_a18_reference_energies_that_the_data_do_not_determine_are_refused():
    with pytest.raises(DataError, match="rank 1 and cannot determine the reference energies of H, O.*mean"):
        fit_reference_energies([frame("H2O", -3.0), frame("H4O2", -6.0)], "least_squares")
    with pytest.raises(DataError, match="given for Zz"):
        fit_reference_energies([frame("H2O", -3.0)], {"H": 1.0, "O": 2.0, "Zz": 1.0})
    with pytest.raises(DataError, match="lack O"):
        fit_reference_energies([frame("H2O", -3.0)], {"H": 1.0})


def test_a_density_needs_three_periodic_directions():
    boxes = [Atoms("Ar", cell=[3, 3, 3], pbc=pbc) for pbc in (True, [True, True, False], False)]
    (density,) = densities([Frame(atoms, 0.0, None, None, "made") for atoms in boxes])
    assert density == pytest.approx(39.948 * 1.66053907 / 27, rel=1e-6)
