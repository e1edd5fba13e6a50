"""Symmetric 3 x 3 matrices, one a system; sums of three products, which round alike for one system and for many."""

from collections.abc import Callable

import torch


def apply_matrices(vectors: torch.Tensor, matrices: torch.Tensor) -> torch.Tensor:
    """Apply symmetric matrices [..., 3, 3] to vectors [..., 3]."""
    first, second, third = (vectors[..., axis : axis + 1] * matrices[..., axis, :] for axis in range(3))
    return first + second + third


def matrix_function(matrices: torch.Tensor, function: Callable[[torch.Tensor], torch.Tensor]) -> torch.Tensor:
    """Return symmetric matrices [n, 3, 3] with the same eigenvectors and the function of the eigenvalues."""
    values, vectors = torch.linalg.eigh(matrices)
    scaled = vectors * function(values).unsqueeze(1)
    first, second, third = (scaled[:, :, k : k + 1] * vectors[:, :, k].unsqueeze(1) for k in range(3))
    return first + second + third


def hyperbolic_sine_over_x(x: torch.Tensor) -> torch.Tensor:
    """Return sinh(x) / x, 1 at 0, to rounding."""
    small = x.abs() < 1e-3
    squares = x * x
    return torch.where(small, 1 + squares / 6 * (1 + squares / 20), torch.sinh(x) / torch.where(small, torch.ones_like(x), x))
