"""AOTInductor packages; A40."""

import json

import numpy as np
import pytest
import torch

from eqpot import EqpotCalculator, load_potential
from eqpot.export import aoti
from eqpot.export.aoti import export_aoti
from eqpot.graph import edge_vectors
from eqpot.model_file import read_header
from eqpot.neighbors import build_graph
from helpers import crystal, ethanol

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # torch's own warnings


def test_a41_equals_the_calculator(tmp_path, model_path, monkeypatch):
    header = read_header(model_path).model_dump_json()
    assert export_aoti(load_potential(model_path), tmp_path / "p.pt2", header) < 1e-10
    loaded = torch._inductor.aoti_load_package(str(tmp_path / "p.pt2"))
    assert json.loads(loaded.get_metadata()["eqpot"]) == json.loads(header)
    for atoms in (ethanol(), crystal()):
        graph = build_graph(atoms, 4.0)
        vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
        energies, gradient = loaded(vectors, graph.numbers, graph.edge_index)
        atoms.calc = EqpotCalculator(model_path, dtype="float64")
        np.testing.assert_allclose(energies, atoms.get_potential_energies(), rtol=1e-11)
        forces = torch.zeros(len(atoms), 3, dtype=torch.float64)
        forces.index_add_(0, graph.edge_index[1], gradient).index_add_(0, graph.edge_index[0], -gradient)
        np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-10)
    monkeypatch.setattr(aoti, "_deviation", lambda *_: float("nan"))
    with pytest.raises(aoti.EqpotError, match="nothing was written"):
        export_aoti(load_potential(model_path), tmp_path / "other.pt2")
    assert [path.name for path in tmp_path.iterdir()] == ["p.pt2"]
