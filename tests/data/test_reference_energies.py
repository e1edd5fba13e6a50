"""Reference energies and the scale; A18."""

import numpy as np
import pytest
from ase import Atoms

from eqpot.config_file import load_config
from eqpot.data import Frame, fit_reference_energies, fit_scale, is_isolated_atom
from eqpot.errors import DataError
from eqpot.training import TrainConfig
from eqpot.training.trainer import read_split
from helpers import SILICON


def frame(symbols, energy, forces=0.0, **options):
    atoms = Atoms(symbols, positions=3.0 * np.arange(3 * len(Atoms(symbols))).reshape(-1, 3), **options)
    return Frame(atoms, energy, None if forces is None else np.full((len(atoms), 3), forces), None, f"made, frame {energy}")


def test_isolated_atoms_define_the_references():
    cell = {"cell": [12, 12, 12], "pbc": True}
    frames = [frame("H", -13.0), frame("O", -430.0, **cell), frame("H2O", -470.0)]
    np.testing.assert_array_equal(fit_reference_energies(frames, "isolated_atoms"), [-13.0, -430.0])
    np.testing.assert_array_equal(fit_reference_energies(frames[2:], {"H": -13, "O": -430}), [-13.0, -430.0])
    with pytest.raises(DataError, match="no isolated atom of O"):
        fit_reference_energies([frame("H", -13.0), frame("H2O", -470.0)], "isolated_atoms")
    with pytest.raises(DataError, match="same isolated atom with -13.0 and -13.2 eV"):
        fit_reference_energies([*frames, frame("H", -13.2)], "isolated_atoms")


def test_a_primitive_cell_is_no_isolated_atom():
    cell = [[0, 2, 2], [2, 0, 2], [2, 2, 0]]
    assert not is_isolated_atom(Atoms("Cu", cell=cell, pbc=True))
    assert not is_isolated_atom(Atoms("Cu", cell=[[20, 0, 0], [20, 2, 0], [0, 0, 20]], pbc=True))
    assert is_isolated_atom(Atoms("Cu", cell=cell))
    assert is_isolated_atom(Atoms("Cu", cell=[9, 9, 9], pbc=True))
    assert not is_isolated_atom(Atoms("Cu2"))


def test_zero_and_frames_without_energy():
    frames = [frame("H2O", -1.5), frame("HO", None, forces=1.0), frame("H4", -2.0)]
    np.testing.assert_array_equal(fit_reference_energies(frames, "zero"), [0, 0])
    np.testing.assert_allclose(fit_reference_energies(frames, "mean"), [-0.5, -0.5])
    np.testing.assert_allclose(fit_reference_energies(frames, "least_squares"), [-0.5, -0.5])
    with pytest.raises(DataError, match="No frame has an energy"):
        fit_reference_energies([frame("H", None)], "mean")


def test_a18_an_offset_above_50_ev_per_atom_is_refused_with_its_numbers():
    frames = [frame("H2O", -470.0), frame("H2O2", -900.0)]
    with pytest.raises(DataError, match=r"leave -225.0 eV/atom in made, frame -900.0 and more than 50 in 2 of 2 frames"):
        fit_reference_energies(frames, "zero")
    # Two methods in one set: all electrons and valence electrons.
    mixed = [frame("H2O", -470.0), frame("H4", -52.0), frame("H2O", -2070.0)]
    with pytest.raises(DataError, match="in 2 of 3 frames"):
        fit_reference_energies(mixed, "least_squares")
    fit_reference_energies(frames, "least_squares")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a18_statistics_that_are_not_finite_are_refused(bad):
    with pytest.raises(DataError, match=f"made, frame {bad}: the energy is {bad}"):
        fit_reference_energies([frame("H", -1.0), frame("H", bad)], "mean")
    with pytest.raises(DataError, match="not finite"):
        fit_scale([frame("H", -1.0, forces=bad)])


def test_a18_a_missing_element_is_named():
    with pytest.raises(DataError, match="lack O"):
        fit_reference_energies([frame("HO", -1.0)], {"H": -1.0})


def test_the_scale_is_that_of_the_forces_there_are():
    assert fit_scale([frame("H2", -1.0, forces=2.0), frame("H2", -1.0, forces=None)]) == 2.0
    with pytest.raises(DataError, match="forces are zero"):
        fit_scale([frame("H2", -1.0)])
    with pytest.raises(DataError, match="No training frame has forces"):
        fit_scale([frame("H2", -1.0, forces=None)])


def test_isolated_atoms_are_trained_on_whatever_the_split(tmp_path):
    Atoms("Si", cell=[15, 15, 15], pbc=True, info={"energy": -0.8}).write(tmp_path / "atom.extxyz")
    (tmp_path / "c.yaml").write_text(
        f"""output: run
data:
  train: [{SILICON}, {{path: {tmp_path / "atom.extxyz"}, forces_key: null}}]
  n_train: 5
  n_valid: 7
  reference_energies: isolated_atoms
"""
    )
    config = load_config(TrainConfig, tmp_path / "c.yaml")
    for seed in range(3):
        train, valid = read_split(config.model_copy(update={"seed": seed}))
        assert [len(train), len(valid)] == [6, 7]
        assert [len(each.atoms) for each in (train[-1],)] == [1]
        np.testing.assert_array_equal(fit_reference_energies(train, "isolated_atoms"), [-0.8])
