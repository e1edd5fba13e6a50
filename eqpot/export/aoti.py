"""Export to AOTInductor: a package that holds compiled code, with the forces in it."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.fx.experimental.proxy_tensor import make_fx

from eqpot.errors import EqpotError
from eqpot.export.torchscript import TOLERANCE, check_structures
from eqpot.files import write_atomically
from eqpot.graph import AtomGraph, edge_vectors
from eqpot.neighbors import build_graph
from eqpot.potential import Potential


class _Energies(nn.Module):
    """(vectors [n_edges, 3], numbers [n_atoms], edge_index [2, n_edges]) -> (energies [n_atoms], gradient [n_edges, 3]); eV, Å, float64."""

    def __init__(self, traced: torch.fx.GraphModule) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, vectors: torch.Tensor, numbers: torch.Tensor, edge_index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.traced(vectors, numbers, edge_index)


def export_aoti(potential: Potential, path: str | Path, header: str = "{}") -> float:
    """Write a package (.pt2) for processors like this one and this version of torch; return its largest relative deviation from eager.

    `torch._inductor.aoti_load_package(path)`, or `torch::inductor::AOTIModelPackageLoader` in C++, gives a function of edge vectors
    x_j - x_i, atomic numbers and edges, sorted by target or not, that returns atomic energies and the gradient of their sum with respect
    to the vectors. `header` is in its metadata as `eqpot`. Takes minutes. EqpotError, and no file, where it deviates on the check
    structures.
    """
    graphs = [build_graph(atoms, potential.cutoff) for atoms in check_structures(potential)]

    def energies_and_gradient(vectors: torch.Tensor, numbers: torch.Tensor, edge_index: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        energies, gradient = potential.energies_and_gradient(vectors, numbers, edge_index)
        return energies.detach(), gradient.detach()

    example = _inputs(max(graphs, key=lambda graph: graph.edge_index.shape[1]))
    traced = make_fx(energies_and_gradient, tracing_mode="symbolic", _allow_non_fake_inputs=True)(*example)
    edges, atoms = torch.export.Dim("edges", min=2), torch.export.Dim("atoms", min=2)
    program = torch.export.export(_Energies(traced), example, dynamic_shapes=({0: edges}, {0: atoms}, {1: edges}))
    with tempfile.TemporaryDirectory() as folder:
        made = Path(folder) / "potential.pt2"
        torch._inductor.aoti_compile_and_package(
            program, package_path=str(made), inductor_configs={"aot_inductor.metadata": {"eqpot": header}}
        )
        loaded = torch._inductor.aoti_load_package(str(made))
        deviation = float(np.max([_deviation(potential, loaded, graph) for graph in graphs if graph.n_atoms > 1]))
        if not deviation <= TOLERANCE[potential.dtype]:
            raise EqpotError(f"The package deviates from eager by {deviation:.1e} relative; nothing was written. Please report this.")
        write_atomically(Path(path), made.read_bytes())
    return deviation


def _inputs(graph: AtomGraph) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    return edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch), graph.numbers, graph.edge_index


def _deviation(potential: Potential, loaded: object, graph: AtomGraph) -> float:
    inputs = _inputs(graph)
    found = loaded(*inputs)  # type: ignore[operator]
    expected = potential.energies_and_gradient(*inputs)
    pairs = zip(found, expected, strict=True)
    # np.max and not max: a NaN must come out.
    return float(np.max([float((a - b.detach()).abs().max() / b.detach().abs().max().clamp(min=1e-3)) for a, b in pairs]))
