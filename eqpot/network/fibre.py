"""The two pictures of a feature on the sphere of orientations, and the linear maps between and within them.

A feature of angular band L is held either as values on the grid, [n_atoms, n_orientations, n_channels], where products
are pointwise, or as coefficients of spherical harmonics, [n_atoms, (L + 1)^2, n_channels], where linear maps are cheap.
"""

import math
from collections.abc import Callable

import torch
from torch import nn

from eqpot.network.invariants import spherical_harmonics


class ExactBuffers(nn.Module):
    """A module of constant tensors that come from float64 at every conversion: .float() followed by .double() loses nothing."""

    def __init__(self, constants: dict[str, torch.Tensor]) -> None:
        super().__init__()
        self._exact = constants
        for name, value in constants.items():
            self.register_buffer(name, value, persistent=False)

    def _apply(self, fn: Callable[[torch.Tensor], torch.Tensor], recurse: bool = True) -> "ExactBuffers":  # noqa: ARG002 (torch passes it)
        for name, value in self._exact.items():
            converted = fn(getattr(self, name))
            setattr(self, name, value.to(device=converted.device, dtype=converted.dtype))
        return self


class OrientationGrid(ExactBuffers):
    """Orientations n_o with the synthesis (coefficients to grid) and projection (grid to coefficients) of a band L.

    The projection is a mean over the grid, f_lm = (1 / O) sum_o Y_lm(n_o) f(n_o). On a spherical design it drops every
    degree above L exactly, as long as the design integrates the integrand.
    """

    orientations: torch.Tensor
    synthesis: torch.Tensor
    projection: torch.Tensor

    def __init__(self, orientations: torch.Tensor, degree: int) -> None:
        harmonics = spherical_harmonics(orientations, degree)
        projection = harmonics.T.contiguous() / len(orientations)
        super().__init__({"orientations": orientations, "synthesis": harmonics, "projection": projection})

    @property
    def exact_orientations(self) -> torch.Tensor:
        """The orientations in float64 on the CPU, as they are stored with the weights."""
        return self._exact["orientations"]

    def to_grid(self, coefficients: torch.Tensor) -> torch.Tensor:
        """[n_atoms, (L + 1)^2, n_channels] -> [n_atoms, n_orientations, n_channels]."""
        return torch.matmul(self.synthesis, coefficients)

    def to_coefficients(self, values: torch.Tensor) -> torch.Tensor:
        """[n_atoms, n_orientations, n_channels] -> [n_atoms, (L + 1)^2, n_channels]."""
        return torch.matmul(self.projection, values)


def limit_norm(coefficients: torch.Tensor) -> torch.Tensor:
    """Return f / sqrt(1 + mean over the orientations of f^2), channel by channel.

    Small features pass unchanged and large ones are bounded, so that products of features cannot run away, neither in training nor
    where atoms come closer than they did in the data. Unlike a normalisation it never amplifies: an atom with few neighbours
    stays an atom with few neighbours. The mean of f^2 is invariant, so this is exactly equivariant.
    """
    return coefficients / torch.sqrt(1 + coefficients.square().sum(dim=1, keepdim=True))


class FibreLinear(nn.Module):
    """Mix channels with one matrix per angular degree.

    On the sphere this is the convolution with the zonal kernel Q(n . n') = sum_l (2l + 1) W_l P_l(n . n'), the most
    general rotation-equivariant linear map of such features.
    """

    def __init__(self, degree: int, n_in: int, n_out: int) -> None:
        super().__init__()
        self.degree = degree
        self.weight = nn.Parameter(torch.randn(degree + 1, n_in, n_out) / math.sqrt(n_in))

    def forward(self, coefficients: torch.Tensor) -> torch.Tensor:
        """[n_atoms, (L + 1)^2, n_in] -> [n_atoms, (L + 1)^2, n_out]."""
        mixed = [torch.matmul(coefficients[:, n * n : (n + 1) * (n + 1)], self.weight[n]) for n in range(self.degree + 1)]
        return torch.cat(mixed, dim=1)
