"""Keys, units, signs, partial labels and several sources; A16, A19."""

import json
import logging

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.calculators.lj import LennardJones

from eqpot.config_file import load_config
from eqpot.data import LabelKeys, Source, Units, collate_labelled, label_graphs, read_frames
from eqpot.data.sources import bare_sources
from eqpot.errors import ConfigError, DataError
from eqpot.training import TrainConfig
from eqpot.training.trainer import read_split
from helpers import SILICON


def crystal(energy=-1.0, forces=None, **info):
    atoms = Atoms("HO", [[0, 0, 0], [0.1, 0.2, 2.0]], cell=[[4, 0, 0], [1, 4, 0], [0, 0.5, 4]], pbc=True)
    if energy is not None:
        atoms.info["E"] = energy
    if forces is not None:
        atoms.arrays["F"] = np.full((2, 3), forces)
    atoms.info.update(info)
    return atoms


def written(tmp_path, *frames, name="a.xyz"):
    ase.io.write(tmp_path / name, list(frames), format="extxyz")
    return tmp_path / name


KEYS = LabelKeys("E", "F")


def test_a19_labels_that_are_missing_in_a_frame_are_masked(tmp_path, caplog):
    path = written(tmp_path, crystal(-1.0, 0.5, S=np.eye(3)), crystal(None, 0.25), crystal(-3.0))
    with caplog.at_level(logging.INFO):
        frames = read_frames(path, LabelKeys("E", "F", "S"))
    assert "energy from 'E' in 2 of them, forces from 'F' in 2 of them, stress from 'S' in 1 of them" in caplog.text
    assert "some frames lack an energy or forces" in caplog.text
    assert [frame.energy for frame in frames] == [-1.0, None, -3.0]
    assert [frame.forces is None for frame in frames] == [False, False, True]
    batch = collate_labelled(label_graphs(frames, 3.0))
    assert batch.has_energy.tolist() == [True, False, True]
    assert batch.has_forces.tolist() == [True, True, False]
    assert batch.has_stress.tolist() == [True, False, False]
    assert batch.energy.tolist() == [-1.0, 0.0, -3.0]
    assert batch.forces[:, 0].tolist() == [0.5, 0.5, 0.25, 0.25, 0.0, 0.0]
    assert batch.stress[1:].abs().max() == 0


def test_a_stress_under_another_name_is_warned_of(tmp_path, caplog):
    path = written(tmp_path, crystal(-1.0, 0.5, REF_stress=np.eye(3)))
    read_frames(path, KEYS)
    assert "also holds REF_stress, which is not used; name it with stress_key or virial_key" in caplog.text
    caplog.clear()
    assert read_frames(path, LabelKeys("E", "F", None))[0].stress is None
    assert read_frames(path, LabelKeys("E", "F", "REF_stress"))[0].stress is not None
    assert not caplog.text


def test_isolated_atoms_need_no_forces_and_no_warning(tmp_path, caplog):
    atom = Atoms("H", info={"E": -1.0})
    read_frames(written(tmp_path, crystal(-1.0, 0.5), atom), KEYS)
    assert not caplog.text


def test_a16_a_frame_without_energy_and_forces_is_an_error(tmp_path):
    path = written(tmp_path, crystal(-1.0, 0.5), crystal(None, None, dft=-2.0))
    with pytest.raises(DataError, match="frame 1: neither an energy nor forces; the keys there are: dft"):
        read_frames(path, KEYS)


def test_a16_a_label_is_left_out_only_where_that_is_said(tmp_path):
    path = written(tmp_path, crystal(-1.0))
    with pytest.raises(DataError, match="frame 0: no forces under the key 'F'"):
        read_frames(path, KEYS)
    assert read_frames(path, LabelKeys("E", None))[0].forces is None
    with pytest.raises(DataError, match="no label is asked for"):
        read_frames(path, LabelKeys(None, None, None))


def test_a_virial_is_minus_the_volume_times_the_stress(tmp_path):
    """The convention of extended xyz, checked with the stress and the sign of ASE's own Lennard-Jones."""
    atoms = crystal()
    atoms.calc = LennardJones(sigma=2.5, rc=8)
    stress, volume = atoms.get_stress(voigt=False), atoms.get_volume()
    strained = [crystal() for _ in range(2)]
    for sign, each in zip((1, -1), strained, strict=True):
        each.set_cell(each.cell.array * (1 + sign * 1e-5), scale_atoms=True)
        each.calc = LennardJones(sigma=2.5, rc=8)
    slope = (strained[0].get_potential_energy() - strained[1].get_potential_energy()) / 2e-5
    virial = -stress * volume
    assert -np.trace(virial) == pytest.approx(slope, rel=1e-3)
    path = written(tmp_path, crystal(-1.0, 0.5, virial=virial))
    np.testing.assert_allclose(read_frames(path, LabelKeys("E", "F", virial="virial"))[0].stress, stress, rtol=1e-6)
    milli = LabelKeys("E", "F", virial="virial", units=Units(energy="meV"))
    np.testing.assert_allclose(read_frames(path, milli)[0].stress, 1e-3 * stress, rtol=1e-6)
    with pytest.raises(DataError, match="no frame has a virial under the key 'W'.*virial_key"):
        read_frames(path, LabelKeys("E", "F", virial="W"))


def test_units_are_converted_and_logged(tmp_path, caplog):
    path = written(tmp_path, crystal(-1.0, 0.5, S=np.diag([1.0, 2.0, 3.0])))
    keys = LabelKeys("E", "F", "S", units=Units(energy="Hartree", forces="Hartree/Bohr", length="Bohr", stress="-kbar"))
    with caplog.at_level(logging.INFO):
        frame = read_frames(path, keys)[0]
    assert "energy in Hartree converted, forces in Hartree/Bohr converted" in caplog.text
    assert frame.energy == pytest.approx(-units.Hartree)
    assert frame.forces[0, 0] == pytest.approx(0.5 * units.Hartree / units.Bohr)
    assert frame.atoms.cell[0, 0] == pytest.approx(4 * units.Bohr)
    assert frame.atoms.positions[1, 2] == pytest.approx(2 * units.Bohr)
    np.testing.assert_allclose(np.diag(frame.stress), -0.1 * units.GPa * np.array([1, 2, 3]))
    for factor, unit in ((units.kcal / units.mol, "kcal/mol/Ang"), (0.1 * units.kJ / units.mol, "kJ/mol/nm"), (1e-3, "meV/Å")):
        assert Units(forces=unit).factor("forces") == pytest.approx(factor)
    for factor, unit in ((1e-3, "meV/Å^3"), (units.Rydberg / units.Bohr**3, "Ry/Bohr^3"), (-1e-4 * units.GPa, "-bar")):
        assert Units(stress=unit).factor("stress") == pytest.approx(factor)


def config(tmp_path, text):
    (tmp_path / "c.yaml").write_text(f"output: run\n{text}")
    return load_config(TrainConfig, tmp_path / "c.yaml")


def test_sources_have_weights_keys_and_units_of_their_own(tmp_path):
    here = written(tmp_path, crystal(-1.0, 0.5), crystal(-2.0, 0.5))
    text = f"""data:
  train:
    - {SILICON}
    - {{path: {here}, weight: 3.5, energy_key: E, forces_key: F, stress_key: null, units: {{energy: meV}}}}
  n_valid: 1
  split: ordered
"""
    made = config(tmp_path, text)
    train, valid = read_split(made)
    assert [frame.weight for frame in train + valid] == [1.0] * 12 + [3.5] * 2
    assert valid[0].energy == -2e-3
    batch = collate_labelled(label_graphs([train[0], train[12]], 3.0))
    assert batch.weight.tolist() == [1.0, 3.5]
    # What a run folder keeps reads as the same: a key that is null stays null.
    values = json.loads(made.model_dump_json())
    assert TrainConfig.model_validate(values) == made
    values["data"] = bare_sources(values["data"])
    assert TrainConfig.model_validate(values) == made


def test_keys_of_a_stored_configuration_reach_its_files(tmp_path):
    """Files have keys of their own in it only where these are not the section's."""
    text = f"data: {{train: [{SILICON}, {{path: {SILICON}, stress_key: null}}], energy_key: E, units: {{stress: GPa, energy: meV}}}}\n"
    values = json.loads(config(tmp_path, text).model_dump_json())
    values["data"] = {**bare_sources(values["data"]), "energy_key": "energy", "stress_key": "S", "units": {"energy": "eV"}}
    train = TrainConfig.model_validate(values).data.train
    assert [(entry.energy_key, entry.stress_key, entry.units.energy, entry.units.stress) for entry in train] == [
        ("energy", "S", "eV", None),
        ("energy", None, "eV", None),
    ]


def test_keys_of_the_section_serve_every_file(tmp_path):
    here = written(tmp_path, crystal(-1.0, 0.5), crystal(-2.0, 0.5))
    made = config(tmp_path, f"data: {{train: {here}, valid: [{{path: {here}, weight: 2}}], energy_key: E, forces_key: F}}\n")
    train, valid = read_split(made)
    assert [frame.energy for frame in train + valid] == [-1.0, -2.0, -1.0, -2.0]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (
            "{train: [{path: a.xyz, enrgy_key: E}]}",
            "'data.train.0.enrgy_key' is unknown; the nearest known key is 'data.train.0.energy_key'",
        ),
        ("{train: a.xyz, valid: [{path: b, weights: 2}]}", "the nearest known key is 'data.valid.0.weight'"),
        ("{train: a.xyz, units: {energy: hartree}}", "the unit 'hartree' is unknown; use eV, meV"),
        ("{train: a.xyz, units: {forces: eV}}", "the unit 'eV' is unknown; use an energy over a length"),
        ("{train: [{path: a.xyz, weight: 0}]}", "data.train.0.weight is 0, and should be greater than 0"),
    ],
)
def test_a38_mistakes_in_a_source_are_told(tmp_path, data, message):
    with pytest.raises(ConfigError) as error:
        config(tmp_path, f"data: {data}\n")
    assert message in str(error.value)


def test_weights_belong_to_sources():
    frames = read_frames([SILICON, Source(SILICON, weight=2.0)])
    assert {frame.weight for frame in frames[:12]} == {1.0}
    assert {frame.weight for frame in frames[12:]} == {2.0}


def test_a_file_of_isolated_atoms_needs_no_forces(tmp_path):
    frames = [Atoms(symbol, info={"E": energy}) for symbol, energy in (("H", -13.0), ("O", -430.0))]
    assert [frame.energy for frame in read_frames(written(tmp_path, *frames), KEYS)] == [-13.0, -430.0]
    with pytest.raises(DataError, match="no energy under the key 'energy'"):
        read_frames(written(tmp_path, *frames))
