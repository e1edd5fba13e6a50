"""Compressed potentials."""

import json

import pytest
import torch
from ase import Atoms
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from typer.testing import CliRunner

from eqpot.cli.main import app
from eqpot.compress import compress
from eqpot.errors import ConfigError, ModelFileError, UnknownElementError
from eqpot.export.torchscript import export_torchscript
from eqpot.model_file import load_potential, read_header, save_potential
from eqpot.neighbors import build_graph
from eqpot.network.config import NetworkConfig
from eqpot.network.radial_table import TabulatedRadial
from helpers import ethanol, random_potential


@pytest.fixture
def original(tmp_path):
    path = tmp_path / "potential.safetensors"
    potential = random_potential(config=NetworkConfig(n_channels=16, radial_width=16, cutoff=4.0))
    potential.shortest_distances = {"H-C": 0.95}
    save_potential(potential, path, {"frames": 7})
    return path


def test_the_file_holds_the_tables_and_how_far_they_are_off(original, tmp_path):
    output = tmp_path / "compressed.safetensors"
    graph = build_graph(ethanol(), 4.0)
    table = compress(original, output, [graph], spacing=0.005)
    header = read_header(output)
    assert header.radial_table == table
    assert header.training == {"frames": 7}
    assert header.shortest_distances == {"H-C": 0.95}
    assert table.n_intervals == 800
    exact, compressed = load_potential(original)(*graph.tensors()), load_potential(output)
    assert isinstance(compressed.network.radial, TabulatedRadial)
    for result in (compressed(*graph.tensors()), compressed.evaluate(graph)):
        energy = 1000 * float((result["energy"] - exact["energy"]).abs()) / graph.n_atoms
        force = 1000 * float((result["forces"] - exact["forces"]).abs().max())
        assert energy == pytest.approx(table.deviations["energy_mev_per_atom"], rel=0.1, abs=1e-8)
        assert force == pytest.approx(table.deviations["force_mev_per_ang"], rel=0.1, abs=1e-7)
    assert 0 < table.deviations["radial"] < 1e-6
    assert table.deviations["radial"] < table.deviations["radial_slope"] < 1e-4


def test_of_a_float32_file_the_rounding_of_its_tables_is_measured_in_float64(original, tmp_path):
    output = tmp_path / "compressed.safetensors"
    save_potential(load_potential(original, dtype="float32"), original)
    graph = build_graph(ethanol(), 4.0)
    table = compress(original, output, [graph], spacing=0.005)
    assert read_header(output).dtype == "float32"
    exact, compressed = (load_potential(path, dtype="float64")(*graph.tensors())["forces"] for path in (original, output))
    assert table.deviations["force_mev_per_ang"] == pytest.approx(1000 * float((compressed - exact).abs().max()), rel=1e-3)
    assert table.deviations["radial"] > 1e-8


def test_a_coarser_table_says_that_it_is_worse(original, tmp_path):
    fine, coarse = (compress(original, tmp_path / "c.safetensors", [build_graph(ethanol(), 4.0)], h).deviations for h in (0.02, 0.1))
    assert all(coarse[name] > 10 * fine[name] for name in fine)


def test_the_fused_kernel_uses_the_tables_as_they_are(original, tmp_path):
    """Tables of tables would be off by the fused kernel's own spacing."""
    output = tmp_path / "compressed.safetensors"
    compress(original, output, [build_graph(ethanol(), 4.0)], spacing=0.1)
    potential, graph = load_potential(output), build_graph(ethanol(), 4.0)
    assert potential.fused_kernel() is not None
    torch.testing.assert_close(potential.evaluate(graph)["forces"], potential(*graph.tensors())["forces"], rtol=1e-12, atol=1e-12)


def test_a_compressed_potential_is_exported(original, tmp_path):
    output = tmp_path / "compressed.safetensors"
    compress(original, output, [build_graph(ethanol(), 4.0)])
    assert export_torchscript(load_potential(output), tmp_path / "exported.pt") < 1e-12


def test_what_cannot_be_compressed_is_refused(original, tmp_path):
    graph = build_graph(ethanol(), 4.0)
    for spacing in (0.0, -1.0, 1e-9, float("nan"), 0.5):
        with pytest.raises(ConfigError, match=r"The spacing is .* Å; it must be at least"):
            compress(original, tmp_path / "c.safetensors", [graph], spacing)
    with pytest.raises(ConfigError, match="no structure"):
        compress(original, tmp_path / "c.safetensors", [])
    compress(original, tmp_path / "c.safetensors", [graph])
    with pytest.raises(ConfigError, match="are tables already"):
        compress(tmp_path / "c.safetensors", tmp_path / "d.safetensors", [graph])
    save_potential(random_potential(config=NetworkConfig(geometry="position", n_channels=8)), original)
    with pytest.raises(ConfigError, match="is no exact fibre bundle"):
        compress(original, tmp_path / "c.safetensors", [graph])


def test_the_command(original, tmp_path):
    result = CliRunner().invoke(app, ["compress", str(original), "-o", str(tmp_path / "c.safetensors")])
    assert result.exit_code == 0, result.output
    assert "force_mev_per_ang" in result.output
    assert load_potential(tmp_path / "c.safetensors").fused_kernel() is not None


def test_a_compressed_potential_can_be_saved_again(original, tmp_path):
    table = compress(original, tmp_path / "c.safetensors", [build_graph(ethanol(), 4.0)])
    save_potential(load_potential(tmp_path / "c.safetensors"), tmp_path / "again.safetensors")
    assert read_header(tmp_path / "again.safetensors").radial_table == table
    load_potential(tmp_path / "again.safetensors")


def test_a_header_that_promises_other_tables_is_refused_before_they_are_made(original, tmp_path):
    compress(original, tmp_path / "c.safetensors", [build_graph(ethanol(), 4.0)])
    with safe_open(tmp_path / "c.safetensors", framework="pt") as file:
        header = json.loads(file.metadata()["eqpot"])
    header["radial_table"]["n_intervals"] = 10**12
    save_file(load_file(tmp_path / "c.safetensors"), tmp_path / "wrong.safetensors", metadata={"eqpot": json.dumps(header)})
    with pytest.raises(ModelFileError, match="do not have the intervals"):
        load_potential(tmp_path / "wrong.safetensors")


def test_unknown_elements_of_the_data_are_named(original, tmp_path):
    with pytest.raises(UnknownElementError, match="holds Xe"):
        compress(original, tmp_path / "c.safetensors", [build_graph(Atoms("Xe2", [[0, 0, 0], [0, 0, 2]]), 4.0)])
