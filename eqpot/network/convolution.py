"""Convolutions over space: messages along edges with kernels that are Legendre series in the angle edge-orientation."""

import math

import torch
from torch import nn

from eqpot.network.fibre import OrientationGrid
from eqpot.network.radial import radial_kernel


class LiftConvolution(nn.Module):
    """Convolution of features that are constant over the orientations (the lift of the elements).

    With f_j independent of n and the kernel K = sum_l R_l (2 l + 1) P_l(n . u), sum_j K f_j has the coefficients
    sum_j R_l(r_ij) Y_lm(u_ij) f_j, by the addition theorem, so no grid is needed. The degrees l are those of the features.
    """

    degree_of: torch.Tensor

    def __init__(self, degree: int, n_channels: int, radial_width: int, average_neighbors: float) -> None:
        super().__init__()
        self.n_degrees = degree + 1
        self.n_channels = n_channels
        self.norm = 1 / math.sqrt(average_neighbors)
        self.radial = radial_kernel(radial_width, self.n_degrees * n_channels)
        degree_of = [n for n in range(degree + 1) for _ in range(2 * n + 1)]
        self.register_buffer("degree_of", torch.tensor(degree_of), persistent=False)

    def forward(
        self,
        scalars: torch.Tensor,
        radial_features: torch.Tensor,
        harmonics: torch.Tensor,
        source: torch.Tensor,
        target: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Return coefficients [n_local, (L + 1)^2, C] from scalars [n_atoms, C] and edge harmonics [n_edges, (L + 1)^2]."""
        radial = self.radial(radial_features).view(-1, self.n_degrees, self.n_channels)
        radial = radial * scalars.index_select(0, source).unsqueeze(1)
        messages = radial.index_select(1, self.degree_of) * harmonics.unsqueeze(-1)
        total = torch.zeros([n_local, messages.shape[1], self.n_channels], dtype=messages.dtype, device=messages.device)
        return total.index_add(0, target, messages) * self.norm


class GridConvolution(nn.Module):
    """Convolution on the grid, m_i(n_o) = sum_j sum_l R_l(r_ij) sqrt(2l + 1) P_l(n_o . u_ij) f_j(n_o), projected to the band L."""

    def __init__(self, grid: OrientationGrid, kernel_degree: int, n_channels: int, radial_width: int, average_neighbors: float) -> None:
        super().__init__()
        self.grid = grid
        self.n_degrees = kernel_degree + 1
        self.n_channels = n_channels
        self.norm = 1 / math.sqrt(average_neighbors * self.n_degrees)
        self.radial = radial_kernel(radial_width, self.n_degrees * n_channels)

    def forward(
        self,
        features: torch.Tensor,
        radial_features: torch.Tensor,
        legendre: list[torch.Tensor],
        source: torch.Tensor,
        target: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Map coefficients [n_atoms, (L + 1)^2, C] to [n_local, ...]; `legendre` holds P_l(n_o . u), each [n_edges, n_orientations]."""
        return self.convolve_values(self.grid.to_grid(features), radial_features, legendre, source, target, n_local)

    def convolve_values(
        self,
        values: torch.Tensor,
        radial_features: torch.Tensor,
        legendre: list[torch.Tensor],
        source: torch.Tensor,
        target: torch.Tensor,
        n_local: int,
    ) -> torch.Tensor:
        """Do what `forward` does for features given as values on the grid, [n_atoms, n_orientations, C], of any angular degree."""
        radial = self.radial(radial_features).view(-1, self.n_degrees, self.n_channels)
        kernel = legendre[0].unsqueeze(-1) * radial[:, 0].unsqueeze(1)
        for n in range(1, self.n_degrees):
            kernel = kernel + math.sqrt(2 * n + 1) * legendre[n].unsqueeze(-1) * radial[:, n].unsqueeze(1)
        messages = kernel * values.index_select(0, source)
        empty = torch.zeros([n_local, values.shape[1], self.n_channels], dtype=messages.dtype, device=messages.device)
        total = empty.index_add(0, target, messages)
        return self.grid.to_coefficients(total) * self.norm
