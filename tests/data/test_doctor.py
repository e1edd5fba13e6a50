"""A44: the doctor finds each trouble in data that have it, and is silent about data that have none."""

import re

import ase.io
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk
from ase.calculators.lj import LennardJones
from ase.calculators.singlepoint import SinglePointCalculator
from scipy.spatial.transform import Rotation

from eqpot.data import Frame, LabelKeys, read_frames
from eqpot.data.doctor import examine, examine_frames
from eqpot.units import GIGAPASCAL, KCAL_PER_MOL
from helpers import ETHANOL, SILICON


def argon(n=14, seed=0, strain=0.0, compositions=(8,), rattle=0.05):
    """Frames of Lennard-Jones argon and neon, with the labels of ASE's calculator."""
    random = np.random.default_rng(seed)
    frames = []
    for index in range(n):
        atoms = bulk("Ar", "fcc", a=4.2, cubic=True).repeat((2, 1, 1))
        atoms.symbols[compositions[index % len(compositions)] :] = "Ne"
        atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain * random.normal(size=(3, 3))), scale_atoms=True)
        atoms.positions += random.normal(scale=rattle, size=atoms.positions.shape)
        atoms.calc = LennardJones(sigma=3.0, epsilon=0.05, rc=8, smooth=True)
        labels = atoms.get_potential_energy(), atoms.get_forces(), atoms.get_stress(voigt=False)
        atoms.calc = None
        frames.append(Frame(atoms, *labels, f"argon, frame {index}"))
    return frames


def changed(frame, **changes):
    return Frame(**{**vars(frame), **changes})


def found(frames, check, level=None, test=(), cutoff=5.0):
    return [f for f in examine_frames(frames, test, cutoff) if f.check == check and level in (None, f.level)]


def with_atoms(frame, **changes):
    atoms = frame.atoms.copy()
    for name, value in changes.items():
        setattr(atoms, name, value)
    return changed(frame, atoms=atoms)


def test_a44_sound_data_have_no_errors_and_no_warnings():
    for frames in (argon(strain=0.01), argon(compositions=(8, 4)), read_frames(SILICON)):
        assert [f for f in examine_frames(frames) if f.level != "note"] == []
    _, findings = examine([ETHANOL])
    assert [(f.level, f.check) for f in findings if f.level != "note"] == [("warning", "reference energies")]


def test_a44_duplicates_to_the_digit_and_up_to_rotation():
    frames = argon()
    (copy,) = found([*frames, changed(frames[2], origin="copy, frame 0")], "duplicates")
    assert "1 frames are copies" in copy.message
    assert copy.frames == ("argon, frame 2 = copy, frame 0",)
    for changes in ({"cell": 1.01 * frames[2].atoms.cell.array}, {"pbc": False}):
        assert not found([*frames, with_atoms(frames[2], **changes)], "duplicates")
    matrix = Rotation.random(rng=np.random.default_rng(1)).as_matrix()
    order = np.random.default_rng(2).permutation(8)
    old = frames[3]
    atoms = Atoms(old.atoms.numbers[order], (old.atoms.positions @ matrix.T)[order] + 0.7, cell=old.atoms.cell.array @ matrix.T, pbc=True)
    turned = changed(old, atoms=atoms, forces=(old.forces @ matrix.T)[order], origin="turned, frame 0")
    (near,) = found([*frames, turned], "near duplicates")
    assert near.frames == ("turned, frame 0 = argon, frame 3",)
    assert found([*frames, changed(turned, energy=turned.energy + 0.004)], "near duplicates")
    # The same distances and another energy, or other forces: another structure.
    for labels in ({"energy": turned.energy + 0.5}, {"forces": 1.5 * turned.forces}):
        assert not found([*frames, changed(turned, **labels)], "near duplicates")
    moved = atoms.positions + np.random.default_rng(3).normal(scale=0.02, size=(8, 3))
    assert not found([*frames, with_atoms(turned, positions=moved)], "near duplicates")


def test_a44_one_structure_with_two_energies_is_an_error():
    frames = argon()
    (error,) = found([*frames, changed(frames[2], energy=frames[2].energy + 0.8, origin="b, frame 0")], "duplicates", "error")
    assert "up to 0.1 eV/atom apart" in error.message


def test_a44_leaks_into_the_test_frames():
    frames, test = argon(), argon(6, seed=9)
    assert not found(frames, "leaks", test=test)
    order = np.arange(8)[::-1]
    atoms = frames[5].atoms[order]
    leak = changed(frames[5], atoms=atoms, forces=frames[5].forces[order], origin="test, frame 7")
    (error,) = found(frames, "leaks", "error", test=[*test, leak])
    assert "1 of 7 test frames" in error.message
    assert error.frames == ("test, frame 7 = argon, frame 5",)
    (error,) = found(frames, "elements", "error", test=argon(2, seed=4, compositions=(4,)))
    assert "2 test frames hold elements" in error.message


def test_a44_zeros_of_constraints_and_net_force():
    frames = argon()
    forces = frames[4].forces.copy()
    forces[:3] = 0
    cut = [*frames[:4], changed(frames[4], forces=forces), *frames[5:]]
    (zeros,) = found(cut, "constrained zeros", "warning")
    assert "3 atoms in 1 frames" in zeros.message
    (net,) = found(cut, "net force", "warning")
    assert net.frames == ("argon, frame 4",)
    symmetric = np.zeros((8, 3))
    symmetric[:2, 0] = 1, -1.005
    assert found([*frames, changed(frames[0], forces=symmetric)], "constrained zeros", "note")
    assert found([changed(frame, forces=np.zeros((8, 3))) for frame in frames], "constrained zeros", "error")


def test_a44_outliers_of_energy_and_force():
    frames = argon(40)
    (energy,) = found([*frames[:-1], changed(frames[-1], energy=frames[-1].energy + 8.0)], "outliers")
    assert energy.frames[0] == "argon, frame 39"
    assert not found([changed(f, energy=f.energy + 8.0 * (i % 8 == 0)) for i, f in enumerate(frames)], "outliers")
    calm = argon(40, rattle=0.001)
    assert not found([*calm[:-1], changed(calm[-1], energy=calm[-1].energy + 0.8)], "outliers")
    forces = frames[7].forces.copy()
    forces[:2, 0] += 45, -45
    (force,) = found([*frames[:7], changed(frames[7], forces=forces), *frames[8:]], "outliers")
    assert "forces above 30 eV/Å" in force.message
    assert force.frames == ("argon, frame 7",)


def test_a44_overlaps_and_atoms_alone():
    frames = argon()
    close = frames[3].atoms.copy()
    close.positions[1] = close.positions[0] + [0.5, 0, 0]
    (overlap,) = found([*frames, changed(frames[3], atoms=close, origin="close, frame 0")], "overlaps")
    assert "0.50 Å apart" in overlap.message
    assert overlap.frames == ("close, frame 0",)
    close.positions[1] = close.positions[0]
    (error,) = found([*frames, changed(frames[3], atoms=close, origin="same, frame 0")], "geometry", "error")
    assert "on top of each other" in error.message
    assert found(frames, "geometry", "error", test=[changed(frames[3], atoms=close)])
    far = Frame(Atoms("Ar3", [[0, 0, 0], [0, 0, 3], [0, 0, 20]]), -0.05, np.zeros((3, 3)), None, "far, frame 0")
    (alone,) = found([*frames, far], "isolated atoms", "warning")
    assert "1 atoms in 1 frames have no neighbour within 5 Å" in alone.message
    atom = Frame(Atoms("Ar"), 0.0, None, None, "atom, frame 0")
    assert found([*frames, atom], "isolated atoms", "note")[0].frames == ("atom, frame 0",)
    assert not found([*frames, atom], "isolated atoms", "warning")


def test_a44_doubts_about_cells():
    frames = argon()
    (unused,) = found([with_atoms(frame, pbc=False) for frame in frames], "pbc", "warning")[:1]
    assert "14 frames have a cell and no periodic direction" in unused.message
    (missing,) = found([*frames, changed(with_atoms(frames[0], cell=np.zeros((3, 3))), stress=None)], "pbc", "error")
    assert "without a lattice vector" in missing.message
    outside = found([*frames, with_atoms(frames[0], positions=frames[0].atoms.positions + 100)], "pbc", "note")
    assert "unwrapped" in outside[0].message
    for shift in (-0.6, 0.6):
        assert not found([with_atoms(f, positions=f.atoms.positions + shift * f.atoms.cell.array.sum(axis=0)) for f in frames], "pbc")
    slabs = [with_atoms(frame, pbc=[True, True, False]) for frame in frames]
    assert found([*frames, slabs[0]], "pbc", "warning")
    assert found([*frames, slabs[0]], "pbc", "note")
    assert not found(slabs, "pbc", "note")


def test_a44_offset_energies():
    frames = argon(compositions=(8, 4))
    (note,) = found([changed(f, energy=f.energy - 500.0 * len(f.atoms)) for f in frames], "reference energies")
    assert "about -500 eV/atom" in note.message
    mixed = [changed(f, energy=f.energy - 200.0 * 8 * (i % 3)) for i, f in enumerate(frames)]
    assert "a fit will refuse them" in found(mixed, "offset energies", "error")[0].message
    # Both files hold both compositions, so that the references take up little of the shift.
    files = [changed(f, energy=f.energy + 16.0 * (i // 7), origin=f"{'ab'[i // 7]}, frame {i}") for i, f in enumerate(frames)]
    (warning,) = found(files, "offset energies", "warning")
    assert re.match(r"Energies of a and b are (1\.[5-9]|2\.0) eV/atom apart", warning.message)
    assert "rank 1 for 2 elements" in found(argon(compositions=(4,)), "reference energies", "warning")[0].message


def test_a44_missing_labels():
    frames = argon()
    some = [changed(frames[0], energy=None), changed(frames[1], stress=None), *frames[2:]]
    assert [(f.level, f.message.split(";")[0]) for f in found(some, "labels")] == [
        ("warning", "1 of 14 frames have no energy"),
        ("note", "1 of 14 frames have no stress"),
    ]


@pytest.mark.parametrize(
    ("factor", "message"), [(-1, "its sign is wrong"), (1 / KCAL_PER_MOL, "units differ"), (KCAL_PER_MOL, "units differ")]
)
def test_a44_forces_of_other_sign_or_unit_than_the_energy(factor, message):
    frames = [changed(f, forces=f.forces * factor) for f in argon(30)]
    (error,) = found(frames, "forces and energy", "error")
    assert message in error.message
    (note,) = found(argon(30), "forces and energy")
    assert "signs and units fit" in note.message
    wrapped = [with_atoms(f, positions=f.atoms.get_positions(wrap=True)) for f in argon(30)]
    assert "signs and units fit" in found(wrapped, "forces and energy")[0].message


def test_a44_stress_of_other_sign_unit_or_with_a_pressure_missing():
    frames = argon(40, strain=0.003, rattle=0.005)
    assert [f.level for f in found(frames, "stress and energy")] == ["note"]
    (sign,) = found([changed(f, stress=-f.stress) for f in frames], "stress and energy", "error")
    assert "sign is wrong" in sign.message
    assert found([changed(f, stress=f.stress / GIGAPASCAL) for f in frames], "stress and energy", "error")
    shifted = [changed(f, stress=f.stress + 3.0 * GIGAPASCAL * np.eye(3)) for f in frames]
    (pressure,) = found(shifted, "stress and energy", "warning")
    missing = float(pressure.message.split("pressure of ")[1].split(" GPa")[0])
    assert missing == pytest.approx(3.0, abs=0.15)


def test_a44_long_cells_are_compared_as_they_stretch():
    """Atoms far from the origin move with the cell by more than those of structures that are compared."""
    frames = argon(40, strain=0.015, rattle=0.005)
    long = [changed(f, atoms=f.atoms.repeat((4, 1, 1)), energy=4 * f.energy, forces=np.tile(f.forces, (4, 1))) for f in frames]
    assert "signs and units fit" in found(long, "stress and energy")[0].message


def test_a44_stress_so_large_that_its_unit_is_another():
    frames = argon()
    kbar = [changed(f, stress=f.stress / (0.1 * GIGAPASCAL) + np.eye(3)) for f in frames]
    assert "is it in kbar or GPa" in found(kbar, "stress", "warning")[0].message
    assert not found(frames, "stress")


def test_a44_stress_that_cannot_be_checked_is_said():
    (note,) = found(argon(), "stress and energy")
    assert note.level == "note"
    assert "could not be checked: 0 pairs" in note.message
    assert not found([changed(f, stress=None) for f in argon()], "stress and energy")


@pytest.mark.parametrize(("shift", "is_told"), [(0.0, False), (0.1, True)])
def test_a_free_energy_is_told_of_where_it_is_another(tmp_path, shift, is_told):
    atoms = ase.io.read(SILICON)
    energy = atoms.get_potential_energy()
    atoms.calc = SinglePointCalculator(atoms, energy=energy, free_energy=energy + shift, forces=atoms.get_forces())
    ase.io.write(tmp_path / "a.extxyz", atoms)
    assert any("also holds free_energy" in f.message for f in examine([tmp_path / "a.extxyz"])[1]) == is_told


def test_a44_reading_goes_on_after_a_bad_frame_and_names_unused_labels(tmp_path):
    frames = ase.io.read(SILICON, ":4")
    for atoms in frames:
        atoms.info["REF_energy"] = 1.0
    frames[2].calc = SinglePointCalculator(frames[2], energy=np.nan, forces=frames[2].get_forces())
    ase.io.write(tmp_path / "a.extxyz", frames, format="extxyz")
    read, findings = examine([tmp_path / "a.extxyz", tmp_path / "none.xyz"])
    assert len(read) == 3
    errors = [f for f in findings if f.level == "error"]
    assert "1 of 4 frames" in errors[0].message
    assert "frame 2: the label energy is not finite" in errors[0].frames[0]
    assert "no data file" in errors[1].message
    assert any("also holds REF_energy, which" in f.message for f in findings)
    assert findings[0].level == "error"
    assert examine([tmp_path / "a.extxyz"], keys=LabelKeys("E"))[0] == []
    (leaks,) = (f for f in examine([tmp_path / "a.extxyz"], [tmp_path / "a.extxyz"], LabelKeys("REF_energy"))[1] if f.check == "leaks")
    assert "4 of 4 test frames" in leaks.message
