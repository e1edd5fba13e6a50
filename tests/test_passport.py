"""A passport finds what is wrong with a potential, and says what it found."""

import json
import shutil

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from ase.constraints import FixAtoms
from ase.stress import full_3x3_to_voigt_6_stress
from ase.units import GPa
from typer.testing import CliRunner

from eqpot import EqpotCalculator, passport
from eqpot.cli.main import app
from eqpot.data import Frame, read_frames
from eqpot.errors import ConfigError, ModelFileError
from eqpot.exactness import cutoff_jump, extensivity_error, force_deviation, rotation_error, stress_deviation
from eqpot.model_file import load_potential, save_potential
from eqpot.network.config import NetworkConfig
from eqpot.observables.series import drift
from eqpot.passport import _calmest, _difference, _speed, errors_on, issue, issue_of_run, read_passport, rows
from eqpot.training import TrainConfig, Trainer
from helpers import ROOT, SILICON, ethanol, random_potential


@pytest.fixture(scope="module")
def silicon():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    return atoms


class Wrong:
    """A potential with a flaw: change(results, graph) spoils what it returns."""

    def __init__(self, potential, change):
        self.potential, self.change, self.cutoff, self.scale = potential, change, potential.cutoff, potential.scale
        self.device = potential.device

    def evaluate(self, graph):
        return self.change(dict(self.potential.evaluate(graph)), graph)


def test_what_is_sound(silicon):
    potential = random_potential([14]).double()
    assert force_deviation(potential, silicon) < 1e-5
    assert stress_deviation(potential, silicon) < 1e-5
    assert max(rotation_error(potential, silicon, 3)) < 1e-9
    assert cutoff_jump(potential, silicon) < 1e-6
    assert extensivity_error(potential, silicon) < 1e-12
    assert cutoff_jump(random_potential([1, 8]).double(), molecule("H2O")) < 1e-6
    assert extensivity_error(random_potential([1, 8]).double(), molecule("H2O")) < 1e-12


def test_one_atom_is_enough():
    potential = random_potential([14]).double()
    crystal = bulk("Si", "fcc", a=3.9)
    assert 0 < cutoff_jump(potential, crystal) < 1e-6
    assert cutoff_jump(potential, Atoms("Si")) == 0
    # Nothing is divided by forces that symmetry makes zero.
    assert force_deviation(potential, crystal) < 1e-5
    assert force_deviation(potential, Atoms("Si")) == 0
    assert stress_deviation(potential, Atoms("Si", cell=[9, 9, 9], pbc=True)) == 0
    assert extensivity_error(potential, crystal) < 1e-12
    assert extensivity_error(potential, Atoms("Si")) < 1e-12


def test_what_is_wrong_is_found(silicon):
    potential = random_potential([14]).double()
    scaled = Wrong(potential, lambda results, _: {**results, "forces": 1.001 * results["forces"], "stress": 1.001 * results["stress"]})
    assert force_deviation(scaled, silicon) > 5e-4
    assert stress_deviation(scaled, silicon) > 5e-4
    # A force that every neighbour inside the cutoff switches on, as networks without envelope have.
    abrupt = Wrong(potential, lambda results, graph: {**results, "forces": results["forces"] + 1e-3 * graph.edge_index.shape[1]})
    assert cutoff_jump(abrupt, silicon) > 5e-4
    absolute = Wrong(potential, lambda results, _: {**results, "energy": results["energy"] + 1.0})
    assert extensivity_error(absolute, silicon) == pytest.approx(1 / 16)
    turned = Wrong(potential, lambda results, graph: {**results, "energy": results["energy"] + graph.positions[0, 0]})
    assert rotation_error(turned, silicon, 3)[0] > 1e-2
    handed = Wrong(random_potential(), lambda results, graph: {**results, "energy": results["energy"] + graph.positions[1:4].det()})
    assert rotation_error(handed, ethanol(), 2)[0] > 1e-2
    sampled = random_potential([14], NetworkConfig(block="pointwise", n_orientations=12, feature_degree=1, kernel_degree=2)).double()
    assert rotation_error(sampled, silicon, 3)[1] > 1e-9


def test_nothing_that_is_no_number_passes(silicon):
    silent = Wrong(random_potential([14]), lambda results, _: {name: value * torch.nan for name, value in results.items()})
    measured = (*rotation_error(silent, silicon, 2), force_deviation(silent, silicon), stress_deviation(silent, silicon))
    assert np.isnan([*measured, extensivity_error(silent, silicon)]).all()


def test_a_slab_is_repeated_within_its_plane(silicon):
    slab = silicon.copy()
    slab.pbc = [False, True, True]
    assert extensivity_error(random_potential([14]), slab) < 1e-12


def test_of_a_large_structure_the_last_atom_is_moved_too():
    atoms = Atoms("Si70", [[0, 0, 9 * k] for k in range(70)])
    pushed = Wrong(random_potential([14]), lambda results, _: {**results, "forces": torch.eye(70, 3).flip(0)})
    assert force_deviation(pushed, atoms) == pytest.approx(1.0)


def test_commands(tmp_path, silicon):
    path = tmp_path / "potential.safetensors"
    shutil.copy(ROOT / "potentials" / "silicon" / "potential.safetensors", path)
    silicon.write(tmp_path / "structure.extxyz")
    runner = CliRunner()
    assert "no passport" in runner.invoke(app, ["info", str(path)]).output
    said = runner.invoke(app, ["passport", str(path), "--data", str(SILICON), "--picoseconds", "0.1", "--markdown"])
    assert said.exit_code == 0, said.output
    found = read_passport(tmp_path / "passport.json")
    assert all(f"| {name} | {value} |" in said.output for name, value in rows(found))
    assert found.errors.frames == len(read_frames(SILICON))
    assert found.errors.stress_mae_gpa > 0
    assert found.conservation.angular_momentum_change is None
    assert "force component" in runner.invoke(app, ["info", str(path), "--json", str(tmp_path / "info.json")]).output
    written = json.loads((tmp_path / "info.json").read_text())
    assert written["header"]["elements"] == ["Si"]
    assert written["passport"] == json.loads((tmp_path / "passport.json").read_text())
    assert runner.invoke(app, ["info", "--json", str(tmp_path / "shipped.json")]).exit_code == 0
    assert "ethanol" in {entry["name"] for entry in json.loads((tmp_path / "shipped.json").read_text())}
    save_potential(random_potential([14], seed=3), path)
    assert "another model file" in " ".join(runner.invoke(app, ["info", str(path)]).output.split())


def test_an_open_structure_and_no_data():
    folder = ROOT / "potentials" / "ethanol"
    found = issue(folder / "potential.safetensors", ase.io.read(folder / "structure.extxyz"), picoseconds=0.1)
    assert found.errors is None
    assert found.stress_against_strain is None
    assert found.conservation.angular_momentum_change < 1e-9
    assert found.domain.elements == ["H", "C", "O"]
    assert torch.__version__ == found.speed.torch


def test_an_atom_on_its_way_into_another():
    """Along [111] of a bcc crystal the next atom stands in the way, within the cutoff."""
    potential = load_potential("MoNbTaW", dtype="float64")
    assert 0 < cutoff_jump(potential, bulk("W", "bcc", cubic=True).repeat(2)) < 1e-6
    assert cutoff_jump(potential, Atoms("W3", [[0, 0, 0], [0, 0, 1], [0, 0, -3]])) == 0


def test_stresses_are_compared_in_gigapascals():
    calculator, frames = EqpotCalculator("silicon", dtype="float64"), read_frames(SILICON)[:2]
    errors = [calculator.get_stress(frame.atoms) - full_3x3_to_voigt_6_stress(frame.stress) for frame in frames]
    found = errors_on(calculator.potentials[0], frames, [SILICON])
    assert found.stress_mae_gpa == pytest.approx(np.abs(errors).mean() / GPa)


def test_the_run_is_fitted_in_picoseconds_and_millielectronvolts_per_atom(silicon, monkeypatch):
    seen = []
    monkeypatch.setattr(passport, "drift", lambda *series: seen.append(series) or drift(*series))
    issue("silicon", silicon, picoseconds=0.1)
    (times, energies), energy = seen[0], EqpotCalculator("silicon", dtype="float64").get_potential_energy(silicon)
    np.testing.assert_allclose(times, 0.01 * np.arange(10))
    # Beside the potential energy there is the kinetic one, 3/2 kT an atom.
    np.testing.assert_allclose(energies, 1000 * energy / 8 + 39, rtol=0, atol=20)


def test_differences_are_in_millielectronvolts_and_of_energies_per_atom():
    found = _difference(-0.009, 0.2, ethanol())
    assert (found.energy_mev_per_atom, found.force_mev_per_ang) == pytest.approx((1.0, 200.0))


def test_the_timing_leaves_the_number_of_threads(monkeypatch):
    numbers = []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    monkeypatch.setattr(torch, "set_num_threads", numbers.append)
    _speed(random_potential([1, 8]), molecule("H2O"), rounds=1)
    assert numbers == [1, 3]


def test_atoms_that_the_structure_holds_move(silicon):
    held = silicon.copy()
    held.set_constraint(FixAtoms(range(8)))
    assert issue("silicon", held, picoseconds=0.1).conservation == issue("silicon", silicon, picoseconds=0.1).conservation


@pytest.mark.parametrize("picoseconds", [0.01, float("inf"), float("nan")])
def test_a_run_of_no_length_or_no_end_is_refused(silicon, picoseconds):
    with pytest.raises(ConfigError, match=f"last {picoseconds} ps"):
        issue("silicon", silicon, picoseconds=picoseconds)


def test_a_run_that_ends_early_is_said(tmp_path):
    path = tmp_path / "potential.safetensors"
    save_potential(random_potential([1, 8]), path)
    found = issue(path, molecule("H2O"), picoseconds=0.1)
    assert "In step" in found.conservation
    assert ("NVE, float64", found.conservation) in rows(found)


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\xff", json.dumps({"model_sha256": 3}).encode()])
def test_files_that_are_none(tmp_path, content):
    (tmp_path / "passport.json").write_bytes(content)
    with pytest.raises(ModelFileError, match="is not a passport"):
        read_passport(tmp_path / "passport.json")


def test_a_potential_without_cutoff_has_none_to_be_smooth_at():
    found = issue(ROOT / "tests" / "museum" / "format_2_ponita.safetensors", molecule("H2O"), picoseconds=0.1)
    assert found.cutoff_jump_mev_per_ang is None
    assert found.extensivity_mev_per_atom is None
    assert not any("cutoff" in name for name, _ in rows(found))


def test_a_structure_whose_atoms_do_not_meet_is_no_test():
    calm = [Atoms("Si2", [[0, 0, 0], [0, 0, z]]) for z in (7.0, 2.3)]
    frames = [Frame(atoms, 0.0, np.full((2, 3), force), None, "") for atoms, force in zip(calm, (0.0, 0.5), strict=True)]
    assert _calmest(frames, 5.0) is frames[1]
    assert _calmest(frames[:1], 5.0) is frames[0]


def test_a_run_is_measured_on_its_test_files_or_else_on_its_validation_frames(tmp_path):
    data = {"train": str(SILICON), "n_train": 6, "n_valid": 2, "reference_energies": "mean"}
    network = {"n_channels": 8, "radial_width": 8, "cutoff": 3.5}
    found = {}
    for name, more in (("validation", {}), ("test", {"test": str(SILICON)})):
        config = TrainConfig.model_validate(
            {"output": tmp_path / name, "data": data | more, "network": network, "training": {"epochs": 1, "compile": False}}
        )
        Trainer(config).run()
        found[name] = issue_of_run(tmp_path / name, picoseconds=0.1)
        assert found[name] == read_passport(tmp_path / name / "passport.json")
    assert {name: passport.errors.frames for name, passport in found.items()} == {"validation": 2, "test": len(read_frames(SILICON))}
    assert {name: passport.errors.kind for name, passport in found.items()} == {"validation": "validation", "test": "test"}
    low, high = found["test"].domain.densities_g_per_cm3
    # The lowest is that of a slab and its vacuum.
    assert 1.1 < low < 2.2 < high < 2.7
    calmest = ase.io.read(tmp_path / "test" / "structure.extxyz")
    labels = {frame.atoms.positions.tobytes(): abs(frame.forces).max() for frame in read_frames(SILICON)}
    assert labels[calmest.positions.tobytes()] < sorted(labels.values())[len(labels) // 2]
