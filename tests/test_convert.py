"""Official checkpoints as model files."""

import hashlib
import json

import numpy as np
import pytest
import torch
from ase import Atoms
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eqpot import EqpotCalculator, load_potential
from eqpot.convert import convert_ponita
from eqpot.errors import ConfigError, ModelFileError, NeighborError, UnknownElementError
from eqpot.export.torchscript import export_torchscript
from eqpot.graph import collate
from eqpot.hessian import hessian
from eqpot.model_file import read_header
from eqpot.neighbors import build_graph
from eqpot.network.reference import load_reference
from helpers import crystal, ethanol
from reference_helpers import BUNDLE, GEOMETRIES, GOLDEN, golden, molecule_inputs, random_weights


def convert_golden(name, folder, **options):
    convert_ponita(GOLDEN / f"{name}_weights.npz", GOLDEN / f"{name}_config.json", folder / "p.safetensors", **options)
    return folder / "p.safetensors"


def convert_random(config, folder, dtype=np.float64, **options):
    np.savez(folder / "weights.npz", **{name: value.astype(dtype) for name, value in random_weights(config).items()})
    (folder / "config.json").write_text(config.model_dump_json())
    convert_ponita(folder / "weights.npz", folder / "config.json", folder / "p.safetensors", **options)
    return folder / "p.safetensors"


@pytest.mark.parametrize(
    ("name", "molecule"), [("A_small", "water"), ("A_small", "ethanol"), ("R_position_only", "ethanol"), ("P_point_cloud", "ethanol")]
)
def test_the_calculator_gives_the_numbers_of_the_official_code(tmp_path, name, molecule):
    expected = golden(f"{name}_{molecule}")
    atoms = Atoms(expected["numbers"], expected["positions"])
    atoms.calc = EqpotCalculator(convert_golden(name, tmp_path), dtype="float64")
    assert atoms.get_potential_energy() == pytest.approx(float(expected["energy"]), abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), expected["forces"], rtol=0, atol=1e-10)


def test_scale_shift_and_elements(tmp_path):
    path = convert_golden("A_small", tmp_path, scale=0.5, shift=-3.0, elements=["O", "H"])
    expected = golden("A_small_water")
    atoms = Atoms(expected["numbers"], expected["positions"])
    atoms.calc = EqpotCalculator(path, dtype="float64")
    assert atoms.get_potential_energy() == pytest.approx(0.5 * float(expected["energy"]) - 9.0, abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), 0.5 * expected["forces"], rtol=0, atol=1e-10)
    with pytest.raises(UnknownElementError, match="it knows H, O"):
        EqpotCalculator(path).calculate(ethanol())


def test_the_header_says_what_the_network_is(tmp_path):
    header = read_header(convert_golden("A_small", tmp_path))
    assert header.architecture == "ponita"
    assert header.cutoff is None
    assert header.elements == ["H", "He", "Li", "Be", "B", "C", "N", "O"]
    assert header.network.num_ori == 12
    assert "ponita" in header.training["converted_from"]
    assert header.training["weights_sha256"] == hashlib.sha256((GOLDEN / "A_small_weights.npz").read_bytes()).hexdigest()
    assert header.dtype == "float64"


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_a_cutoff_makes_periodic_structures_possible(tmp_path, geometry):
    config = GEOMETRIES[geometry].model_copy(
        update={"radius": 3.4, "layer_scale": 0.7, "multiple_readouts": False, "task_level": "node", "output_dim": 2}
    )
    path = convert_random(config, tmp_path)
    reference = load_reference(dict(np.load(tmp_path / "weights.npz")), config)
    calculator, atoms = EqpotCalculator(path, dtype="float64"), ethanol()
    energy, forces = reference.energy_and_forces(*molecule_inputs(atoms, 3.4))
    atoms.calc = calculator
    assert calculator.potentials[0].cutoff == 3.4
    assert atoms.get_potential_energy() == pytest.approx(float(energy), abs=1e-10)
    np.testing.assert_allclose(atoms.get_forces(), forces, rtol=0, atol=1e-10)
    # Pairs that the calculator keeps beyond the cutoff have no part in it.
    expected = hessian(calculator.potentials[0], build_graph(atoms, 3.4)).numpy()
    np.testing.assert_allclose(calculator.get_hessian(atoms), expected, atol=1e-10 * abs(expected).max())
    # Atoms whose own images are neighbours.
    cell = crystal()
    single, double = (calculator.get_potential_energy(atoms) for atoms in (cell, cell.repeat((1, 2, 1))))
    assert double == pytest.approx(2 * single, rel=1e-10)


def test_the_jumps_of_a_point_cloud_are_told(tmp_path, caplog):
    for geometry, radius, jumps in (("cloud", 3.4, True), ("cloud", None, False), ("bundle", 3.4, False)):
        caplog.clear()
        convert_random(GEOMETRIES[geometry].model_copy(update={"radius": radius}), tmp_path)
        assert ("jump where a neighbour reaches the radius" in caplog.text) == jumps


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
@pytest.mark.parametrize(("geometry", "radius"), [("bundle", 3.4), ("positions", None), ("cloud", None)])
def test_float32_weights_stay_float32_and_export(tmp_path, geometry, radius):
    path = convert_random(GEOMETRIES[geometry].model_copy(update={"radius": radius}), tmp_path, np.float32, elements=["H", "C", "O"])
    potential = load_potential(path)
    assert potential.dtype == torch.float32
    assert export_torchscript(potential, tmp_path / "p.pt") < 1e-4


@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_molecules_of_a_batch_do_not_meet_where_there_is_no_cutoff(tmp_path):
    potential = load_potential(convert_golden("A_small", tmp_path))
    export_torchscript(potential, tmp_path / "p.pt")
    whole = collate([build_graph(atoms, potential.cutoff) for atoms in (ethanol(), ethanol()[:3])])
    inputs = (whole.positions, whole.numbers, whole.cells, torch.zeros((2, 3), dtype=torch.bool), whole.batch)
    for name, expected in potential(*whole.tensors()).items():
        torch.testing.assert_close(torch.jit.load(tmp_path / "p.pt").batch(*inputs)[name], expected, rtol=1e-10, atol=1e-10)


def test_a_periodic_structure_without_a_cutoff_is_refused(tmp_path):
    calculator = EqpotCalculator(convert_golden("A_small", tmp_path))
    with pytest.raises(NeighborError, match="no cutoff"):
        calculator.calculate(crystal(pbc=[False, True, False]))
    with pytest.raises(NeighborError, match="on top of each other"):
        calculator.calculate(Atoms("O2", [[0, 0, 0], [0, 0, 0.01]]))


@pytest.mark.parametrize(
    ("weights", "config", "options", "error", "words"),
    [
        ("C_options", "C_options", {}, ConfigError, "2 vector outputs.*no vectors"),
        ("A_small", "R_position_only", {}, ModelFileError, "no place for the weight"),
        ("A_small", "A_small", {"elements": ["H", "F"]}, ConfigError, r"1 \.\.\. 8"),
        ("A_small", "A_small", {"elements": ["Hh"]}, ConfigError, "'Hh' is no chemical symbol"),
        ("A_small", "A_small", {"scale": -1.0}, ConfigError, "scale must be positive"),
        ("A_small", "A_small", {"shift": np.nan}, ConfigError, "shift nan; .* both finite"),
        ("none", "A_small", {}, ModelFileError, "no file none"),
        ("A_small", "none", {}, ConfigError, "no configuration file none"),
        ("text", "A_small", {}, ModelFileError, "cannot be read as npz"),
        ("A_small", "text", {}, ConfigError, "cannot be read as JSON"),
        ("A_small", "list", {}, ConfigError, "keys and values"),
        ("A_small", "deep", {}, ConfigError, "cannot be read as JSON"),
    ],
)
def test_what_cannot_become_a_potential_is_refused(tmp_path, monkeypatch, weights, config, options, error, words):
    monkeypatch.chdir(tmp_path)
    for name in ("text_weights.npz", "text_config.json"):
        (tmp_path / name).write_text("words")
    (tmp_path / "list_config.json").write_text("[1]")
    (tmp_path / "deep_config.json").write_text(100_000 * "[")
    folders = dict.fromkeys(["none", "text", "list", "deep"], "")
    weights = f"{folders.get(weights, f'{GOLDEN}/')}{weights}_weights.npz"
    config = f"{folders.get(config, f'{GOLDEN}/')}{config}_config.json"
    with pytest.raises(error, match=words):
        convert_ponita(weights, config, tmp_path / "p.safetensors", **options)
    assert not (tmp_path / "p.safetensors").exists()


@pytest.mark.parametrize("change", ["features", "weight", "header", "cutoff"])
def test_a_damaged_file_is_refused(tmp_path, change):
    path = convert_random(BUNDLE, tmp_path)
    tensors = load_file(path)
    with safe_open(path, framework="pt") as file:
        header = json.loads(file.metadata()["eqpot"])
    if change == "features":
        tensors["network.embedding.weight"] = tensors["network.embedding.weight"].roll(1, 0)
    elif change == "weight":
        del tensors["network.reference.ori_grid"]
    elif change == "header":
        header["network"]["num_ori"] = -7
    else:
        header["cutoff"] = 5.0
    save_file(tensors, path, metadata={"eqpot": json.dumps(header)})
    with pytest.raises(
        ModelFileError,
        match={"features": "input features", "weight": "does not hold", "header": "num_ori", "cutoff": "cutoff is 5.0"}[change],
    ):
        load_potential(path)


@pytest.mark.parametrize("geometry", GEOMETRIES)
def test_the_hessian_is_finite(tmp_path, geometry):
    """Self edges and nodes that look along their own edge have a length of zero, whose second derivative must not be NaN."""
    potential = load_potential(convert_random(GEOMETRIES[geometry], tmp_path))
    graph = build_graph(ethanol(), potential.cutoff)
    positions = graph.positions.requires_grad_()
    forces = potential(positions, *graph.tensors()[1:], create_graph=True)["forces"]
    assert torch.isfinite(torch.autograd.grad(forces[0, 0], positions)[0]).all()
