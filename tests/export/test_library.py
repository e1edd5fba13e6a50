"""Shared libraries: their numbers, what they know of themselves, and refusals; A40."""

import subprocess

import numpy as np
import pytest

from eqpot import EqpotCalculator, load_potential
from eqpot.errors import EqpotError, UnknownElementError
from eqpot.export import library
from eqpot.export.library import Library, export_library
from eqpot.graph import edge_vectors
from eqpot.model_file import read_header, save_potential
from eqpot.neighbors import build_graph
from helpers import NETWORKS, crystal, ethanol, random_potential


def evaluate(loaded, atoms):
    graph = build_graph(atoms, loaded.cutoff)
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch).numpy()
    return vectors, loaded.evaluate(vectors, atoms.numbers, graph.edge_index.numpy())


@pytest.mark.parametrize("atoms", [ethanol(), crystal()], ids=["molecule", "crystal"])
def test_a41_equals_the_calculator(tmp_path, model_path, atoms):
    assert export_library(model_path, tmp_path / "p.so", "float64") < 1e-9
    loaded = Library(tmp_path / "p.so")
    atoms.calc = EqpotCalculator(model_path, dtype="float64")
    vectors, (energies, gradient) = evaluate(loaded, atoms)
    np.testing.assert_allclose(energies, atoms.get_potential_energies(), rtol=1e-11)
    if atoms.cell.rank == 3:
        virial = atoms.get_stress(voigt=False) * atoms.get_volume()
        np.testing.assert_allclose(vectors.T @ gradient, virial, rtol=0, atol=1e-9 * abs(virial).max())
    assert loaded.header == read_header(model_path).model_dump(mode="json")
    assert loaded.elements == [1, 6, 8]


def test_a_file_that_is_written_anew_is_read_anew(tmp_path, model_path):
    export_library(model_path, tmp_path / "p.so", "float64")
    first = Library(tmp_path / "p.so")
    before = evaluate(first, ethanol())[1][0]
    potential = load_potential(model_path)
    potential.network.embedding.weight.mul_(1.3)
    save_potential(potential, tmp_path / "other.safetensors")
    export_library(tmp_path / "other.safetensors", tmp_path / "p.so", "float64")
    assert abs(evaluate(Library(tmp_path / "p.so"), ethanol())[1][0] - before).max() > 1e-3
    np.testing.assert_array_equal(evaluate(first, ethanol())[1][0], before)


def test_it_needs_no_other_library(tmp_path, model_path):
    export_library(model_path, tmp_path / "p.so")
    needed = subprocess.run(["ldd", tmp_path / "p.so"], check=True, capture_output=True, text=True).stdout
    assert all(word in needed for word in ("libm", "libc"))
    assert not any(word in needed for word in ("torch", "python", "not found"))


def test_what_is_not_finite_gives_nan(tmp_path, model_path):
    export_library(model_path, tmp_path / "p.so", "float64")
    vectors = np.array([[np.nan, 0, 0], [1.0, 0, 0]])
    energies, gradient = Library(tmp_path / "p.so").evaluate(vectors, np.array([1, 1]), np.array([[1, 0], [0, 1]]))
    assert np.isnan(energies).all()
    assert np.isnan(gradient).all()


def test_what_does_not_hold_together_is_refused(tmp_path, model_path):
    export_library(model_path, tmp_path / "p.so", "float64")
    loaded, vectors = Library(tmp_path / "p.so"), np.array([[1.0, 0, 0], [-1.0, 0, 0]])
    for edges in ([[0, 1], [1, 0]], [[1, 2], [0, 1]], [[1, 0], [0, 2]], [[-1, 0], [0, 1]]):
        with pytest.raises(EqpotError, match="not sorted by target, or lead to atoms"):
            loaded.evaluate(vectors, np.array([6, 8]), np.array(edges))
    with pytest.raises(UnknownElementError, match="not fitted to Si; it knows H, C, O"):
        loaded.evaluate(vectors, np.array([6, 14]), np.array([[1, 0], [0, 1]]))


def test_any_text_in_the_header(tmp_path, model_path):
    save_potential(load_potential(model_path), tmp_path / "p.safetensors", {"note": 'a "run" \\ 🚀 \x7f9 ü\n'})
    export_library(tmp_path / "p.safetensors", tmp_path / "p.so")
    assert Library(tmp_path / "p.so").header["training"]["note"] == 'a "run" \\ 🚀 \x7f9 ü\n'


def test_a40_a_library_that_differs_is_not_written(tmp_path, model_path, monkeypatch):
    monkeypatch.setattr(library, "_deviation", lambda *_: float("nan"))
    with pytest.raises(EqpotError, match="nothing was written"):
        export_library(model_path, tmp_path / "p.so")
    assert not list(tmp_path.iterdir())


def test_a40_gradients_are_compared_too(tmp_path, model_path, monkeypatch):
    honest = Library.evaluate

    def tampered(self, *inputs):
        energies, gradient = honest(self, *inputs)
        return energies, 1.001 * gradient

    monkeypatch.setattr(Library, "evaluate", tampered)
    with pytest.raises(EqpotError, match="nothing was written"):
        export_library(model_path, tmp_path / "p.so")


def test_other_networks_say_what_to_do(tmp_path):
    save_potential(random_potential(config=NETWORKS["position"]), tmp_path / "p.safetensors")
    with pytest.raises(EqpotError, match="Export torchscript instead"):
        export_library(tmp_path / "p.safetensors", tmp_path / "p.so")
