"""A43: whatever a model file holds, loading it gives a potential or one sentence that names it."""

import json

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save

from eqpot import load_potential, model_file
from eqpot.errors import ModelFileError
from eqpot.model_file import load_uncertainty, read_header
from fuzzing import VALUES, assert_one_sentence, fuzz, garbled, replaced
from helpers import ROOT

MUSEUM = ROOT / "tests" / "museum"
NETWORKS = ["1", "2_compressed", "2_point_cloud", "2_pointwise", "2_ponita", "2_position", "3"]
"""Every geometry, the oldest format, a table for radial functions and an uncertainty."""

DTYPES = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.int32, torch.int64, torch.uint8, torch.bool, torch.complex64]


def parts(name):
    path = MUSEUM / f"format_{name}.safetensors"
    with safe_open(path, framework="pt") as file:
        return json.loads(file.metadata()["eqpot"]), load_file(path)


PARTS = {name: parts(name) for name in NETWORKS}


def load(folder, content):
    """Read a file with such a content in all ways there are."""
    path = folder / "p.safetensors"
    path.write_bytes(content)
    for function in (read_header, load_potential, load_uncertainty):
        try:
            function(path)
        except ModelFileError as error:
            assert_one_sentence(error, "p.safetensors")


@fuzz(100)
@given(name=st.sampled_from(NETWORKS), data=st.data())
def test_a43_cut_and_garbled_files(tmp_path, name, data):
    content = (MUSEUM / f"format_{name}.safetensors").read_bytes()
    load(tmp_path, garbled(data, content))
    # Most bytes are weights, so the header gets its own share.
    begin = data.draw(st.integers(0, 3000))
    load(tmp_path, content[:begin] + garbled(data, content[begin : begin + 200]) + content[begin + 200 :])


@pytest.mark.parametrize("name", NETWORKS)
@fuzz(100)
@given(data=st.data())
def test_a43_any_value_anywhere_in_the_header(tmp_path, name, data):
    header, tensors = PARTS[name]
    load(tmp_path, save(tensors, metadata={"eqpot": json.dumps(replaced(data, header))}))


@pytest.mark.parametrize("name", NETWORKS)
@fuzz(100)
@given(data=st.data())
def test_a43_any_size_of_the_network(tmp_path, name, data):
    header, tensors = PARTS[name]
    network = dict(header["network"])
    for key in data.draw(st.lists(st.sampled_from(sorted(network)), min_size=1, max_size=3)):
        network[key] = data.draw(VALUES)
    load(tmp_path, save(tensors, metadata={"eqpot": json.dumps({**header, "network": network})}))


def spoil(data, tensors):
    """Return tensors one of which is of another kind, of another shape, not finite, too many or missing."""
    changed = dict(tensors)
    name = data.draw(st.sampled_from(sorted(tensors)))
    tensor = tensors[name]
    how = data.draw(st.sampled_from(["dtype", "shape", "values", "missing", "unknown"]))
    if how == "dtype":
        changed[name] = tensor.to(data.draw(st.sampled_from(DTYPES)))
    elif how == "shape":
        shapes = [(), (0,), (1,), (*tensor.shape, 1), (*tensor.shape[:-1], 2 * tensor.shape[-1] if tensor.ndim else 3), (0, *tensor.shape)]
        changed[name] = torch.ones(data.draw(st.sampled_from(shapes)), dtype=tensor.dtype)
    elif how == "values":
        changed[name] = torch.full_like(tensor, data.draw(st.sampled_from([torch.nan, torch.inf, 1e300, 0.0])))
    elif how == "missing":
        del changed[name]
    else:
        changed[data.draw(st.sampled_from(["x", "network.x", "orientations", "uncertainty.directions", ""]))] = tensor.clone()
    return changed


@pytest.mark.parametrize("name", NETWORKS)
@fuzz(60)
@given(data=st.data())
def test_a43_tensors_of_another_kind(tmp_path, name, data):
    header, tensors = PARTS[name]
    load(tmp_path, save(spoil(data, tensors), metadata={"eqpot": json.dumps(header)}))


@pytest.mark.parametrize("dtype", [torch.float16, torch.int64, torch.complex64], ids=str)
def test_weights_that_would_lose_digits_are_refused(tmp_path, dtype):
    header, tensors = PARTS["2_position"]
    weight = tensors["network.embedding.weight"].to(dtype)
    (tmp_path / "p.safetensors").write_bytes(save({**tensors, "network.embedding.weight": weight}, metadata={"eqpot": json.dumps(header)}))
    with pytest.raises(ModelFileError, match="network.embedding.weight is in (float16|int64|complex64)"):
        load_potential(tmp_path / "p.safetensors")


@pytest.mark.parametrize(("name", "sizes"), [("2_position", {"n_channels": 4096}), ("2_ponita", {"hidden_dim": 4096, "num_layers": 256})])
def test_no_memory_is_taken_for_sizes_that_the_file_does_not_have(tmp_path, monkeypatch, name, sizes):
    header, tensors = PARTS[name]
    network = {**header["network"], **sizes}
    (tmp_path / "p.safetensors").write_bytes(save(tensors, metadata={"eqpot": json.dumps({**header, "network": network})}))
    monkeypatch.setattr(model_file, "_build_network", lambda *_: pytest.fail("a network is built"))
    with pytest.raises(ModelFileError, match="more weights than the file"):
        load_potential(tmp_path / "p.safetensors")


def test_json_that_is_nested_too_deeply(tmp_path):
    load(tmp_path, save({}, metadata={"eqpot": "[" * 100_000}))


def test_an_uncertainty_that_the_file_lacks(tmp_path):
    header, tensors = PARTS["3"]
    del (tensors := dict(tensors))["uncertainty.directions"]
    (tmp_path / "p.safetensors").write_bytes(save(tensors, metadata={"eqpot": json.dumps(header)}))
    with pytest.raises(ModelFileError, match="does not hold the uncertainty"):
        load_uncertainty(tmp_path / "p.safetensors")
