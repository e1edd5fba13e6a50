"""Second derivatives of the energy."""

import torch

from eqpot.graph import AtomGraph, edge_vectors
from eqpot.potential import Potential

_BATCH_BYTES = 1 << 26
"""Memory for the vectors that go through the graph of the forces together; one goes in any case. More would not stay in the cache."""


def hessian(potential: Potential, graph: AtomGraph) -> torch.Tensor:
    """Return d^2 E / dx_ia dx_jb, [n_atoms, 3, n_atoms, 3] float64, eV/Å^2: exact derivatives of tensor operations, symmetric.

    The forces are differentiated again by products with unit vectors, each about six eager evaluations: the cost grows with the square
    of the number of atoms, the memory beyond that of the result and of one evaluation's graph does not. In a periodic structure
    an atom moves with all its images. Raises UnknownElementError as `Potential.evaluate` does.
    """
    potential.check_elements(graph.numbers)
    n_bytes = 0

    def count(tensor: torch.Tensor) -> torch.Tensor:
        nonlocal n_bytes
        n_bytes += tensor.nbytes
        return tensor

    with torch.enable_grad():
        positions = graph.positions.detach().clone().requires_grad_()
        vectors = edge_vectors(positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
        energy = potential.atomic_energies(vectors, graph.numbers, graph.edge_index).sum()
        # What the graph holds is, to good measure, what one vector needs on its way through it.
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            gradient = torch.autograd.grad(energy, positions, create_graph=True)[0].reshape(-1)
        size = len(gradient)
        units = torch.eye(size, dtype=gradient.dtype, device=gradient.device)
        result = torch.empty_like(units)
        n_rows = max(1, _BATCH_BYTES // max(n_bytes, 1))
        for start in range(0, size, n_rows):
            rows = slice(start, start + n_rows)
            products = torch.autograd.grad(
                gradient, positions, units[rows], retain_graph=True, is_grads_batched=True, materialize_grads=True
            )[0]
            result[rows] = products.reshape(-1, size)
    # Both halves are the same numbers in another order of summation.
    return ((result + result.T) / 2).reshape(graph.n_atoms, 3, graph.n_atoms, 3)
