"""Standard deviations of one potential and of committees; A19b, A45."""

import copy
import json
import pickle
from pathlib import Path

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms
from ase.calculators.calculator import PropertyNotImplementedError
from ase.calculators.singlepoint import SinglePointCalculator
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from eqpot import EqpotCalculator, load_potential
from eqpot.calibration import N_DIRECTIONS, Reliability, _directions, calibrate, reliability
from eqpot.cli.main import app
from eqpot.compress import compress
from eqpot.data import Frame
from eqpot.errors import ConfigError, DataError, ModelFileError, UnknownElementError
from eqpot.model_file import load_uncertainty, read_header, save_potential
from eqpot.neighbors import build_graph
from eqpot.uncertainty import Uncertainty, last_layer_parts, last_layer_weights
from helpers import NETWORKS, ROOT, SMALL, crystal, ethanol, random_potential

STANDARD = {"energy", "free_energy", "energies", "forces", "stress"}
FUSED = SMALL.model_copy(update={"n_channels": 16})
NOISE = 0.3


def structures(count, seed):
    random = np.random.default_rng(seed)
    result = []
    for index in range(count):
        atoms = crystal() if index % 4 == 0 else ethanol()
        atoms.rattle(random.uniform(0.02, 0.25), seed=int(random.integers(1 << 30)))
        result.append(atoms)
    return result


def features(potential, atoms_list):
    """dE/dw [n, n_weights], by changing one weight after the other."""
    columns = []
    graphs = [build_graph(atoms, potential.cutoff) for atoms in atoms_list]
    before = torch.cat([potential.evaluate(graph, forces=False)["energy"] for graph in graphs])
    for weight in last_layer_weights(potential.network).values():
        for index in range(weight.numel()):
            with torch.no_grad():
                weight[0, index] += 1
                columns.append(torch.cat([potential.evaluate(graph, forces=False)["energy"] for graph in graphs]) - before)
                weight[0, index] -= 1
    return torch.stack(columns, dim=1)


def labelled(potential, atoms_list, inverse=None, seed=0):
    """Frames that each have weights of their own, drawn from the distribution that the method assumes; right ones without `inverse`."""
    generator = torch.Generator().manual_seed(seed)
    weights = last_layer_weights(potential.network)
    original = [weight.clone() for weight in weights.values()]
    frames = []
    for index, atoms in enumerate(atoms_list):
        if inverse is not None:
            drawn = NOISE * torch.randn(len(inverse), dtype=torch.float64, generator=generator) @ inverse
            with torch.no_grad():
                for weight, old, change in zip(weights.values(), original, drawn.split(weight_sizes(weights)), strict=True):
                    weight.copy_(old + change)
        result = potential.evaluate(build_graph(atoms, potential.cutoff))
        stress = result["stress"][0].numpy() if atoms.cell.volume else None
        frames.append(Frame(atoms, float(result["energy"]), result["forces"].numpy(), stress, f"frame {index}"))
    with torch.no_grad():
        for weight, old in zip(weights.values(), original, strict=True):
            weight.copy_(old)
    return frames


def weight_sizes(weights):
    return [weight.numel() for weight in weights.values()]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory):
    """A potential, its calibrated file, and test frames whose errors have the distribution that the method assumes."""
    folder = tmp_path_factory.mktemp("calibrated")
    potential = random_potential()
    save_potential(potential, folder / "plain.safetensors", {"data_sha256": "abc"})
    train = structures(60, seed=1)
    per_atom = features(potential, train) / torch.tensor([[len(atoms)] for atoms in train])
    covariance = per_atom.T @ per_atom
    covariance += 1e-8 * torch.linalg.eigvalsh(covariance)[-1] * torch.eye(len(covariance))
    inverse = torch.linalg.inv(torch.linalg.cholesky(covariance))
    valid = labelled(potential, structures(80, seed=2), inverse, seed=2)
    found = calibrate(folder / "plain.safetensors", labelled(potential, train), valid, folder / "calibrated.safetensors")
    return potential, folder, covariance, labelled(potential, structures(80, seed=3), inverse, seed=3), found


@pytest.mark.parametrize("name", NETWORKS)
def test_parts_sum_to_the_potential(name):
    """The energy is linear in the last layers: with the weights themselves as direction only biases and references are missing."""
    potential = random_potential(config=NETWORKS[name])
    graph = build_graph(crystal(), potential.cutoff)
    own = torch.cat([weight.flatten() for weight in last_layer_weights(potential.network).values()])
    (part,) = last_layer_parts(potential, graph, own.unsqueeze(0))
    whole = potential.evaluate(graph)
    biases = sum(float(bias) for name, bias in potential.network.named_parameters() if name.endswith("readout.2.bias"))
    references = potential.reference_energies[potential.species_of_number[graph.numbers]]
    torch.testing.assert_close(part["energies"] + potential.scale * biases + references, whole["energies"], rtol=1e-9, atol=1e-9)
    for quantity in ("forces", "stress"):
        torch.testing.assert_close(part[quantity], whole[quantity], rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize("forces", [True, False])
def test_the_fused_kernel_gives_the_same_parts(forces):
    potential, graph = random_potential(config=FUSED), build_graph(crystal(), 4.0)
    directions = torch.randn((3, 32), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    eager = list(last_layer_parts(potential, graph, directions, forces))
    before = potential.evaluate(graph)
    potential.fuse()
    assert potential.fused_kernel() is not None
    fused = list(last_layer_parts(potential, graph, directions, forces))
    for one, other in zip(eager, fused, strict=True):
        assert one.keys() == other.keys() == ({"energy", "energies"} | ({"forces", "stress"} if forces else set()))
        for quantity, value in one.items():
            torch.testing.assert_close(other[quantity], value, rtol=1e-7, atol=1e-7)
    torch.testing.assert_close(potential.evaluate(graph)["energy"], before["energy"], rtol=1e-9, atol=1e-9)


def test_tables_of_new_pairs_outlive_the_parts():
    """Tables are made when two elements first meet, here while parts are computed; the check at the start has met six elements alone."""
    elements = (1, 6, 7, 8, 9, 15, 16, 17)
    potential = random_potential(elements, FUSED.model_copy(update={"cutoff": 3.0}))
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) * 1.6
    atoms = Atoms([17, 16] * 13 + [17], grid + np.random.default_rng(1).normal(scale=0.1, size=grid.shape))
    graph = build_graph(atoms, potential.cutoff)
    eager = potential.evaluate(graph)
    potential.fuse()
    kernel = potential.fused_kernel()
    met = set(kernel._pairs)
    for _ in last_layer_parts(potential, graph, torch.ones((2, 32), dtype=torch.float64)):
        pass
    assert kernel._pairs > met
    # The memory that the kernel reads is the kernel's own, long after that with other readouts is gone.
    starts = {tensor.data_ptr() for tensor in kernel._table_memory}
    assert {address for address in kernel._tables if address} == starts
    torch.testing.assert_close(potential.evaluate(graph)["forces"], eager["forces"], rtol=1e-7, atol=1e-7)


def test_a45_deviations_are_those_of_the_equation(calibrated):
    potential, folder, covariance, _, _ = calibrated
    calculator = EqpotCalculator(folder / "calibrated.safetensors", dtype="float64")
    scales = calculator.uncertainty.record.scales
    atoms, step = ethanol(), 1e-4
    moved = [atoms.copy() for _ in range(2)]
    for sign, structure in zip((1, -1), moved, strict=True):
        structure.positions[2, 1] += sign * step
    energy, plus, minus = features(potential, [atoms, *moved])
    expected = scales["energy"] * torch.sqrt(energy @ torch.linalg.solve(covariance, energy))
    assert calculator.get_property("energy_std", atoms) == pytest.approx(float(expected), rel=1e-6)
    # The energy of an atom that is alone is that of the structure.
    assert calculator.get_property("energies_std", atoms[:1])[0] == pytest.approx(calculator.get_property("energy_std", atoms[:1]))
    force = (plus - minus) / (2 * step)
    expected = scales["forces"] * torch.sqrt(force @ torch.linalg.solve(covariance, force))
    assert calculator.get_property("forces_std", atoms)[2, 1] == pytest.approx(float(expected), rel=1e-4)


def test_a45_fewer_directions_than_weights_give_the_same_deviations_on_average():
    generator = torch.Generator().manual_seed(0)
    factor, vectors = (torch.randn(shape, dtype=torch.float64, generator=generator) for shape in ((128, 128), (128, 400)))
    covariance = factor @ factor.T + torch.eye(128)
    directions = _directions(covariance)
    assert directions.shape == (N_DIRECTIONS, 128)
    ratio = (directions @ vectors).square().sum(dim=0) / (vectors * torch.linalg.solve(covariance, vectors)).sum(dim=0)
    assert float(ratio.mean()) == pytest.approx(1.0, abs=0.1)
    assert torch.equal(directions, _directions(covariance))


def test_a45_scales_are_found_and_hold_on_other_frames(calibrated):
    _, folder, _, test, on_valid = calibrated
    record = read_header(folder / "calibrated.safetensors").uncertainty
    assert (record.training_frames, record.calibration_frames) == (60, 80)
    found = reliability(EqpotCalculator(folder / "calibrated.safetensors", dtype="float64"), test)
    assert set(found) == set(on_valid) == {"energy", "forces", "stress"}
    for name, pairs in found.items():
        assert record.scales[name] == pytest.approx(NOISE, rel=0.25)
        assert on_valid[name].scale() == pytest.approx(1.0, abs=1e-9)
        assert pairs.coverage(1) == pytest.approx(0.683, abs=0.12)
        assert pairs.coverage(2) == pytest.approx(0.954, abs=0.06)
        assert pairs.miscalibration_area() < 0.1
        baseline = pairs.constant(record.rmse[name])
        assert pairs.negative_log_likelihood() < baseline.negative_log_likelihood() - 0.05
        assert pairs.rank_correlation() > 0.2


def test_a45_a_wrong_scale_is_seen():
    random = np.random.default_rng(0)
    deviations = np.exp(random.normal(size=20_000))
    pairs = Reliability.of(deviations * random.normal(size=20_000), deviations)
    assert pairs.scale() == pytest.approx(1.0, rel=0.02)
    assert pairs.miscalibration_area() < 0.01
    for z, share in ((1, 0.6827), (2, 0.9545)):
        assert pairs.coverage(z) == pytest.approx(share, abs=0.01)
    for factor in (0.5, 2.0):
        wrong = pairs.scaled(factor)
        assert wrong.scale() == pytest.approx(1 / factor, rel=0.02)
        assert wrong.miscalibration_area() > 0.1
        assert wrong.negative_log_likelihood() > pairs.negative_log_likelihood() + 0.1
    # By no deviation at all, and by endless ones, everything is promised wrongly.
    assert pairs.scaled(1e-3).miscalibration_area() == pytest.approx(0.5, abs=0.01)
    assert pairs.scaled(1e3).miscalibration_area() == pytest.approx(0.5, abs=0.01)
    sigma, rmse = pairs.bins(5)
    np.testing.assert_allclose(sigma, rmse, rtol=0.1)
    assert pairs.rmse_of_most_certain(0.5) < 0.3
    with_zeros = Reliability.of(np.append(pairs.errors, 1e-9), np.append(deviations, 1e-14))
    assert len(with_zeros.errors) == 20_000, "what symmetry makes zero says nothing"
    assert len(Reliability.of(np.append(pairs.errors, 1.0), np.append(deviations, 1e-14)).errors) == 20_001, "a true surprise stays"


def test_a19b_deviations_are_computed_where_they_are_asked_for(calibrated, monkeypatch):
    path = calibrated[1] / "calibrated.safetensors"
    asked = []
    deviations = Uncertainty.deviations
    monkeypatch.setattr(Uncertainty, "deviations", lambda *arguments: asked.append(arguments[-1]) or deviations(*arguments))
    calculator = EqpotCalculator(path, dtype="float64")
    atoms = crystal()
    for name in STANDARD | {"stresses"}:
        calculator.get_property(name, atoms)
    assert not asked
    calculator.reset()
    assert isinstance(calculator.get_property("energy_std", atoms), float)
    assert set(calculator.results) == {"energy", "free_energy", "energies", "energy_std", "energies_std"}
    assert calculator.get_property("forces_std", atoms).shape == (2, 3)
    assert calculator.get_property("stress_std", atoms).shape == (6,)
    assert asked == [False, True]
    molecule = ethanol()
    assert calculator.get_property("energies_std", molecule).shape == (9,)
    assert "stress_std" not in calculator.results
    with pytest.raises(PropertyNotImplementedError):
        EqpotCalculator(calibrated[1] / "plain.safetensors").get_property("energy_std", atoms)


def test_calibration_changes_no_other_result_and_the_file_keeps_it(calibrated, tmp_path):
    _, folder, *_ = calibrated
    plain, with_it = folder / "plain.safetensors", folder / "calibrated.safetensors"
    assert load_uncertainty(plain) is None
    assert read_header(with_it).training == {"data_sha256": "abc"}
    one, other = (load_potential(path).evaluate(build_graph(ethanol(), 4.0)) for path in (plain, with_it))
    for name, value in one.items():
        assert torch.equal(other[name], value)
    compress(with_it, tmp_path / "small.safetensors", [build_graph(ethanol(), 4.0)])
    values = [
        EqpotCalculator(path, dtype="float64").get_property("forces_std", ethanol()) for path in (with_it, tmp_path / "small.safetensors")
    ]
    np.testing.assert_allclose(values[1], values[0], rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("change", ["no tensor", "no header", "shape", "dtype", "nan", "scales"])
def test_a37_files_whose_parts_disagree_are_refused(calibrated, tmp_path, change):
    path = calibrated[1] / "calibrated.safetensors"
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["eqpot"])
    directions = tensors["uncertainty.directions"]
    if change == "no tensor":
        del tensors["uncertainty.directions"]
    elif change == "no header":
        header["uncertainty"] = None
    elif change == "scales":
        header["uncertainty"]["scales"] = {"energy": 1.0}
    else:
        changed = {"shape": directions[:, 1:].contiguous(), "dtype": directions.float(), "nan": directions * torch.nan}
        tensors["uncertainty.directions"] = changed[change]
    save_file(tensors, tmp_path / "p.safetensors", metadata={"eqpot": json.dumps(header)})
    with pytest.raises(ModelFileError, match="does not hold together|is wrong"):
        EqpotCalculator(tmp_path / "p.safetensors")


def test_a37_an_old_calibrated_file_keeps_its_deviations():
    path = ROOT / "tests" / "museum" / "format_3.safetensors"
    expected = json.loads(path.with_suffix(".json").read_text())["energy_std"]
    assert EqpotCalculator(path, dtype="float64").get_property("energy_std", ethanol()) == pytest.approx(expected, rel=1e-6)


def test_what_cannot_be_calibrated_is_refused(calibrated, tmp_path):
    plain = calibrated[1] / "plain.safetensors"
    frames = calibrated[3][:2]
    with pytest.raises(DataError, match="no validation frames"):
        calibrate(plain, frames, [], tmp_path / "p")
    strange = Frame(crystal("CN"), 0.0, np.zeros((2, 3)), None, "strange.xyz, frame 3")
    with pytest.raises(UnknownElementError, match="strange.xyz, frame 3"):
        calibrate(plain, frames, [strange], tmp_path / "p")
    with pytest.raises(ConfigError, match="ponita has no last layers"):
        calibrate(ROOT / "tests" / "museum" / "format_2_ponita.safetensors", frames, frames, tmp_path / "p")
    still = Frame(crystal("CC"), -1.0, None, None, "energy alone")
    with pytest.raises(DataError, match="no validation frames that have both energy and forces"):
        calibrate(plain, frames, [still], tmp_path / "p")
    with pytest.raises(ConfigError, match="not calibrated"):
        reliability(EqpotCalculator(plain), frames)
    with pytest.raises(DataError, match="Of the validation frames 1 are training frames too, .* such as frame 1;"):
        calibrate(plain, frames, [calibrated[3][5], frames[1]], tmp_path / "p")
    with pytest.raises(DataError, match="The errors of .*forces.* are zero on the validation frames"):
        calibrate(plain, frames, labelled(calibrated[0], structures(3, seed=9)), tmp_path / "p")
    assert not (tmp_path / "p").exists()


def test_elements_that_are_unknown_are_refused(calibrated):
    calculator = EqpotCalculator(calibrated[1] / "calibrated.safetensors")
    with pytest.raises(UnknownElementError, match="Ar"):
        calculator.get_property("forces_std", Atoms("Ar2", [[0, 0, 0], [0, 0, 2.0]]))


def test_atoms_without_neighbours_have_no_share_in_the_scales(calibrated, tmp_path):
    """The last layers say nothing of the force on a lone atom, whose label is small and not zero."""
    frames, held_out = calibrated[3][:6], calibrated[3][6:12]
    atoms = ethanol() + Atoms("H", [[30.0, 0, 0]])
    potential = calibrated[0]
    result = potential.evaluate(build_graph(atoms, potential.cutoff))
    alone = Frame(atoms, float(result["energy"]) + 0.1, result["forces"].numpy() + 2e-3, None, "far")
    partial = Frame(ethanol(), -1.0, None, None, "energy alone")
    found = calibrate(calibrated[1] / "plain.safetensors", frames, [*held_out, alone, partial], tmp_path / "p")
    assert np.isfinite(found["forces"].deviations).all()
    record = load_uncertainty(tmp_path / "p").record
    assert np.isfinite(list(record.scales.values())).all()
    assert record.calibration_frames == 7


def write_frames(frames, path: Path) -> Path:
    written = []
    for frame in frames:
        atoms = frame.atoms.copy()
        atoms.calc = SinglePointCalculator(atoms, energy=frame.energy, forces=frame.forces)
        written.append(atoms)
    ase.io.write(path, written)
    return path


def run(*arguments):
    return CliRunner().invoke(app, ["calibrate", *map(str, arguments)])


def test_a45_the_command_calibrates_one_potential(calibrated, tmp_path, caplog):
    plain, test = calibrated[1] / "plain.safetensors", calibrated[3]
    train, valid = write_frames(test[:10], tmp_path / "train.xyz"), write_frames(test[10:18], tmp_path / "valid.xyz")
    result = run(plain, "--train", train, "--valid", valid, "-o", tmp_path / "a.safetensors")
    assert result.exit_code == 0, result.output
    assert "scaled on 8 held-out frames, so that of the energy is itself uncertain by 25 %" in caplog.text
    recipe = tmp_path / "config.yaml"
    recipe.write_text(f"output: x\ndata: {{train: {train}, valid: {valid}}}\n")
    assert run(plain, "--recipe", recipe, "-o", tmp_path / "b.safetensors").exit_code == 0
    # The recipe takes the frames in another order.
    a, b = (load_uncertainty(tmp_path / f"{name}.safetensors").record.scales for name in "ab")
    assert a == pytest.approx(b, rel=1e-3)
    # Named frames are taken as they are, whatever the recipe's split would keep of its own.
    recipe.write_text(f"output: x\ndata: {{train: {train}, valid: {valid}, n_train: 4, n_valid: 2}}\n")
    for name, more, counts in (("c", ("--valid", valid), (4, 8)), ("d", ("--train", train), (10, 2))):
        assert run(plain, "--recipe", recipe, *more, "-o", tmp_path / f"{name}.safetensors").exit_code == 0
        record = load_uncertainty(tmp_path / f"{name}.safetensors").record
        assert (record.training_frames, record.calibration_frames) == counts
    for arguments, message in (
        ((plain, "--train", train, "--valid", valid), "needs --output"),
        ((plain, "--valid", valid, "-o", tmp_path / "c"), "frames are missing"),
        ((plain, "--train", train, "--valid", valid, "-o", tmp_path / "a.safetensors"), "exists"),
    ):
        result = run(*arguments)
        assert result.exit_code == 1
        assert message in result.output


def test_a45_the_command_prints_the_factor_of_a_committee(calibrated, tmp_path):
    """Labels far from the members compared with how far these are from one another: the factor says how far."""
    paths = []
    for seed in (1, 2, 3):
        potential = random_potential()
        with torch.no_grad():
            for weight in last_layer_weights(potential.network).values():
                weight.add_(0.01 * torch.randn(weight.shape, dtype=weight.dtype, generator=torch.Generator().manual_seed(seed)))
        save_potential(potential, tmp_path / f"{seed}.safetensors")
        paths.append(tmp_path / f"{seed}.safetensors")
    frames = calibrated[3][:12]
    result = run(*paths, "--valid", write_frames(frames, tmp_path / "valid.xyz"))
    assert result.exit_code == 0, result.output
    found = reliability(EqpotCalculator(paths), frames)
    for name in ("energy", "forces"):
        row = next(line for line in result.output.splitlines() if name in line)
        assert float(row.split("│")[2]) == pytest.approx(found[name].scale(), rel=1e-2)
    assert found["forces"].scale() > 2
    assert "the potentials are the same" in " ".join(run(paths[0], paths[0], "--valid", tmp_path / "valid.xyz").output.split())
    assert "leave --train out" in run(*paths, "--train", tmp_path / "none.xyz", "--valid", tmp_path / "valid.xyz").output
    assert "no --output" in run(*paths, "--valid", tmp_path / "valid.xyz", "-o", tmp_path / "x").output


@pytest.mark.parametrize("name", NETWORKS)
def test_deviations_without_the_fused_kernel_in_either_precision(name, tmp_path):
    potential = random_potential(config=NETWORKS[name])
    test = labelled(potential, structures(6, seed=5))
    shifted = [
        Frame(frame.atoms, frame.energy + 0.01 * k, 1.01 * frame.forces, None if frame.stress is None else 1.01 * frame.stress, "")
        for k, frame in enumerate(test[3:], 1)
    ]
    for dtype in ("float32", "float64"):
        save_potential(copy.deepcopy(potential).to(getattr(torch, dtype)), tmp_path / f"{dtype}.safetensors")
        calibrate(tmp_path / f"{dtype}.safetensors", test[:3], shifted, tmp_path / f"calibrated_{dtype}.safetensors")
    crystals = [EqpotCalculator(tmp_path / "calibrated_float64.safetensors", dtype=dtype) for dtype in ("float32", "float64")]
    single, double = (calculator.get_property("stress_std", crystal()) for calculator in crystals)
    np.testing.assert_allclose(single, double, rtol=1e-2, atol=1e-7)


def test_copies_keep_the_uncertainty(calibrated):
    calculator = EqpotCalculator(calibrated[1] / "calibrated.safetensors", dtype="float64")
    twin = pickle.loads(pickle.dumps(calculator))
    np.testing.assert_array_equal(twin.get_property("forces_std", ethanol()), calculator.get_property("forces_std", ethanol()))
    calculator.set(model=calibrated[1] / "plain.safetensors")
    assert calculator.uncertainty is None
    assert "energy_std" not in calculator.implemented_properties
