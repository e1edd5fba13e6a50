"""Model files; A21, A36, A37."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from eqpot import load_potential, save_potential
from eqpot.errors import ConfigError, ModelFileError
from eqpot.model_file import FORMAT_VERSION, ModelHeader, read_header
from eqpot.neighbors import build_graph
from eqpot.network.config import NetworkConfig
from helpers import NETWORKS, POINTWISE, ROOT, SMALL, ethanol, random_potential


def rewrite_header(source, target, **changes):
    with safe_open(source, framework="pt") as file:
        header = json.loads(file.metadata()["eqpot"])
    save_file(load_file(source), target, metadata={"eqpot": json.dumps({**header, **changes})})


def test_a21_a_fresh_process_computes_the_same_bits(tmp_path):
    path = tmp_path / "p.safetensors"
    potential = random_potential(dtype=torch.float32)
    save_potential(potential, path)
    result = potential.evaluate(build_graph(ethanol(), potential.cutoff))
    script = (
        "import sys; sys.path.insert(0, sys.argv[2])\n"
        "from eqpot import load_potential; from eqpot.neighbors import build_graph; from helpers import ethanol\n"
        "p = load_potential(sys.argv[1]); r = p.evaluate(build_graph(ethanol(), p.cutoff))\n"
        "print(r['energy'].numpy().tobytes().hex(), r['forces'].numpy().tobytes().hex())\n"
    )
    command = [sys.executable, "-c", script, str(path), str(ROOT / "tests")]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    assert printed == [result[name].numpy().tobytes().hex() for name in ("energy", "forces")]


def test_a37_header_says_what_the_file_is(tmp_path):
    save_potential(random_potential(), tmp_path / "p.safetensors", {"data_sha256": "abc"})
    header = read_header(tmp_path / "p.safetensors")
    assert header.format_version == FORMAT_VERSION
    assert header.elements == ["H", "C", "O"]
    assert header.cutoff == 4.0
    assert header.dtype == "float64"
    assert header.units == {"energy": "eV", "length": "angstrom"}
    assert header.training == {"data_sha256": "abc"}
    assert set(header.versions) == {"eqpot", "torch", "python"}
    assert load_file(tmp_path / "p.safetensors")["orientations"].dtype == torch.float64


def test_orientations_come_from_the_file(tmp_path, model_path):
    """A later change of the designs must not change trained potentials."""
    tensors = load_file(model_path)
    rotation = np.linalg.qr(np.random.default_rng(0).normal(size=(3, 3)))[0]
    tensors["orientations"] = tensors["orientations"] @ torch.from_numpy(rotation)
    with safe_open(model_path, framework="pt") as file:
        save_file(tensors, tmp_path / "turned.safetensors", metadata=file.metadata())
    loaded = load_potential(tmp_path / "turned.safetensors")
    assert torch.equal(loaded.network.grid.exact_orientations, tensors["orientations"])


def test_precision_is_chosen_at_loading(model_path):
    assert load_potential(model_path).dtype == torch.float64
    assert load_potential(model_path, dtype="float32").dtype == torch.float32
    with pytest.raises(ConfigError, match="float32, float64"):
        load_potential(model_path, dtype="float16")


def test_missing_truncated_foreign_and_newer_files_are_refused(tmp_path, model_path):
    with pytest.raises(ModelFileError, match="There is no model file"):
        load_potential(tmp_path / "none.safetensors")
    with pytest.raises(ModelFileError, match=rf"is a folder; name a model file in it .*{model_path.name}"):
        load_potential(model_path.parent)
    content = model_path.read_bytes()
    broken = tmp_path / "broken.safetensors"
    for size in (0, 7, 100, len(content) // 2, len(content) - 1):
        broken.write_bytes(content[:size])
        with pytest.raises(ModelFileError, match="damaged"):
            load_potential(broken)
    save_file({"a": torch.zeros(1)}, broken)
    with pytest.raises(ModelFileError, match="not one of eqpot's"):
        load_potential(broken)
    rewrite_header(model_path, broken, format_version=FORMAT_VERSION + 1)
    with pytest.raises(ModelFileError, match=f"format version {FORMAT_VERSION + 1}.*upgrade"):
        load_potential(broken)


@pytest.mark.parametrize(
    "changes",
    [
        {"elements": ["H", "C"]},
        {"elements": ["H", "C", "Xx"]},
        {"elements": ["H", "C", "C"]},
        {"scale": float("nan")},
        {"scale": "x"},
        {"scale": -1.0},
        {"average_neighbors": 0},
        {"format_version": 0},
        {"architecture": "foo"},
        {"architecture": "position"},
        {"units": {"energy": "kcal/mol", "length": "angstrom"}},
        {"cutoff": 9.0},
        {"network": {"n_channels": 4}},
        {"network": None},
        {"dtype": "float16"},
        {"shortest_distances": {"H-Xe": 1.0}},
        {"shortest_distances": {"H-C": 0.0}},
    ],
    ids=str,
)
def test_headers_that_do_not_fit_are_refused(tmp_path, model_path, changes):
    rewrite_header(model_path, tmp_path / "p.safetensors", **changes)
    with pytest.raises(ModelFileError, match="is wrong|does not hold together"):
        load_potential(tmp_path / "p.safetensors")


def spoiled(name):
    def change(tensors):
        if name == "too few orientations":
            tensors["orientations"] = tensors["orientations"][:12].clone()
        elif name == "no design":
            tensors["orientations"] = torch.nn.functional.normalize(tensors["orientations"] + 0.01, dim=1)
        elif name == "nan weight":
            tensors["network.embedding.weight"][0, 0] = torch.nan
        elif name == "missing weight":
            del tensors["network.embedding.weight"]
        elif name == "half precision":
            tensors["network.embedding.weight"] = tensors["network.embedding.weight"].half()
        elif name == "single orientations":
            tensors["orientations"] = tensors["orientations"].float()
        elif name == "reference energies":
            tensors["reference_energies"] = tensors["reference_energies"].unsqueeze(1)
        return tensors

    return change


@pytest.mark.parametrize(
    "name", ["too few orientations", "no design", "nan weight", "missing weight", "half precision", "reference energies"]
)
def test_tensors_that_would_give_wrong_numbers_are_refused(tmp_path, model_path, name):
    with safe_open(model_path, framework="pt") as file:
        save_file(spoiled(name)(load_file(model_path)), tmp_path / "p.safetensors", metadata=file.metadata())
    with pytest.raises(ModelFileError, match="does not hold together"):
        load_potential(tmp_path / "p.safetensors")


def test_a_grid_that_is_no_design_is_refused_only_where_exactness_rests_on_it(tmp_path):
    """The pointwise block is approximate on any grid, so a file may bring its own."""
    path = tmp_path / "p.safetensors"
    save_potential(random_potential(config=POINTWISE), path)
    with safe_open(path, framework="pt") as file:
        save_file(spoiled("no design")(load_file(path)), path, metadata=file.metadata())
    potential = load_potential(path, dtype="float64")
    assert potential.network.config.block == "pointwise"
    assert torch.equal(potential.network.grid.orientations, load_file(path)["orientations"])
    with safe_open(path, framework="pt") as file:
        save_file(spoiled("single orientations")(load_file(path)), path, metadata=file.metadata())
    with pytest.raises(ModelFileError, match="orientations .* in float64"):
        load_potential(path)


def test_networks_without_a_grid_store_none(tmp_path):
    save_potential(random_potential(config=NETWORKS["position"]), tmp_path / "p.safetensors")
    assert read_header(tmp_path / "p.safetensors").architecture == "position"
    assert "orientations" not in load_file(tmp_path / "p.safetensors")


def test_format_1_means_the_exact_fibre_bundle_whatever_the_defaults(monkeypatch):
    monkeypatch.setattr(NetworkConfig.model_fields["geometry"], "default", "position")
    NetworkConfig.model_rebuild(force=True)
    ModelHeader.model_rebuild(force=True)
    try:
        header = read_header(ROOT / "tests" / "museum" / "format_1.safetensors")
    finally:
        monkeypatch.undo()
        NetworkConfig.model_rebuild(force=True)
        ModelHeader.model_rebuild(force=True)
    assert (header.network.geometry, header.network.block) == ("fibre_bundle", "exact")


def test_a36_a_pickle_is_not_opened(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (tmp_path.joinpath("executed").touch, ())

    path = tmp_path / "evil.safetensors"
    path.write_bytes(pickle.dumps(Malicious()))
    with pytest.raises(ModelFileError):
        load_potential(path)
    torch.save({"x": torch.zeros(1)}, path)
    with pytest.raises(ModelFileError):
        load_potential(path)
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "tests" / "museum").glob("*.safetensors")), ids=lambda path: path.stem)
def test_a37_old_files_keep_loading(path):
    expected = json.loads(path.with_suffix(".json").read_text())
    potential = load_potential(path, dtype="float64")
    result = potential.evaluate(build_graph(ethanol(), potential.cutoff))
    assert float(result["energy"][0]) == pytest.approx(expected["energy"], abs=1e-9)
    np.testing.assert_allclose(result["forces"], expected["forces"], atol=1e-9)


def test_a_network_without_angles_is_saved_and_loaded(tmp_path):
    potential = random_potential(config=SMALL.model_copy(update={"feature_degree": 0, "kernel_degree": 0}))
    save_potential(potential, tmp_path / "p.safetensors")
    energies = [p.evaluate(build_graph(ethanol(), p.cutoff))["energy"] for p in (potential, load_potential(tmp_path / "p.safetensors"))]
    torch.testing.assert_close(*energies)


def test_a_dtype_that_files_do_not_hold_is_refused(tmp_path):
    with pytest.raises(ConfigError, match="torch.bfloat16"):
        save_potential(random_potential(dtype=torch.bfloat16), tmp_path / "p.safetensors")
    assert not (tmp_path / "p.safetensors").exists()


def test_loading_under_another_default_device(model_path):
    with torch.device("meta"):
        potential = load_potential(model_path, dtype="float64")
    assert potential.evaluate(build_graph(ethanol(), potential.cutoff))["energy"].device.type == "cpu"


@pytest.mark.parametrize("device", ["meta", "mps", "nonsense"])
def test_a_device_that_holds_no_potential_is_refused(model_path, device):
    with pytest.raises(ConfigError, match=f"{device}.* cannot be used") as error:
        load_potential(model_path, device=device)
    assert len(str(error.value)) < 350


def test_loading_within_inference_mode(tmp_path):
    path = tmp_path / "p.safetensors"
    save_potential(random_potential(), path)
    with torch.inference_mode():
        potential = load_potential(path)
    graph = build_graph(ethanol(), potential.cutoff)
    assert torch.isfinite(potential.evaluate(graph)["forces"]).all()
    assert torch.isfinite(potential(*graph.tensors())["forces"]).all()
