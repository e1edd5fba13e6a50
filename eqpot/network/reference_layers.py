"""Layers of the reference form."""

import torch
from torch import nn


def safe_norm(vectors: torch.Tensor) -> torch.Tensor:
    """Return |v| over the last axis, with all derivatives zero at v = 0."""
    squared = (vectors * vectors).sum(dim=-1)
    positive = squared > 0
    return torch.where(positive, torch.sqrt(torch.where(positive, squared, torch.ones_like(squared))), torch.zeros_like(squared))


class PolynomialFeatures(nn.Module):
    """All monomials up to a degree, repeated ones included: v, v x v, v x v x v, ... flattened row by row and joined."""

    def __init__(self, degree: int) -> None:
        super().__init__()
        self.degree = degree

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """[..., k] -> [..., k + k^2 + ... + k^degree]."""
        powers = [values]
        for _ in range(1, self.degree):
            powers.append((powers[-1].unsqueeze(-1) * values.unsqueeze(-2)).flatten(-2))
        return torch.cat(powers, dim=-1)


def kernel_basis_network(n_attributes: int, degree: int, hidden: int, size: int) -> nn.Sequential:
    """Return the perceptron from invariants [..., n_attributes] to a kernel basis [..., size], with an activation at its end too."""
    n_monomials = sum(n_attributes**power for power in range(1, degree + 1))
    return nn.Sequential(PolynomialFeatures(degree), nn.Linear(n_monomials, hidden), nn.GELU(), nn.Linear(hidden, size), nn.GELU())


class PolynomialWindow(nn.Module):
    """Smooth step from 1 to 0 at the cutoff r_max (Gasteiger et al. 2020, eq. 8), of an order p that comes with the weights."""

    p: torch.Tensor
    r_max: torch.Tensor

    def __init__(self, radius: float) -> None:
        super().__init__()
        # float64, so that a network made for float64 has the radius to all its digits.
        self.register_buffer("p", torch.tensor(6.0, dtype=torch.float64))
        self.register_buffer("r_max", torch.tensor(radius, dtype=torch.float64))

    def forward(self, lengths: torch.Tensor) -> torch.Tensor:
        u, p = lengths / self.r_max, self.p
        window = 1 - u**p * ((p + 1) * (p + 2) / 2 - u * (p * (p + 2) - u * p * (p + 1) / 2))
        return torch.where(u < 1, window, torch.zeros_like(window))


class Convolution(nn.Module):
    """One kernel value a channel: a sum over neighbours, and on a fibre a mean over its orientations."""

    def __init__(self, channels: int, basis: int, on_fibre: bool) -> None:
        super().__init__()
        self.kernel = nn.Linear(basis, channels, bias=False)
        self.fiber_kernel = nn.Linear(basis, channels, bias=False) if on_fibre else None
        self.bias = nn.Parameter(torch.zeros(channels))

    def messages(self, features: torch.Tensor, kernel_basis: torch.Tensor, source: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
        """Return the sum over edges j -> i of K f_j, in the shape of `features`."""
        return torch.zeros_like(features).index_add(0, target, self.kernel(kernel_basis) * features.index_select(0, source))

    def forward(
        self, features: torch.Tensor, kernel_basis: torch.Tensor, fiber_basis: torch.Tensor, source: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        """Features [n_nodes, channels], or [n_nodes, n_orientations, channels] on a fibre, which alone reads `fiber_basis`."""
        messages = self.messages(features, kernel_basis, source, target)
        if self.fiber_kernel is not None:
            messages = torch.einsum("ioc,opc->ipc", messages, self.fiber_kernel(fiber_basis)) / features.shape[1]
        return messages + self.bias


class InteractionLayer(nn.Module):
    """Convolution, normalisation over channels and a pointwise perceptron, added to the layer's input."""

    def __init__(self, channels: int, basis: int, widening: int, on_fibre: bool, layer_scale: float | None) -> None:
        super().__init__()
        self.conv = Convolution(channels, basis, on_fibre)
        self.norm = nn.LayerNorm(channels)
        self.linear_1 = nn.Linear(channels, widening * channels)
        self.linear_2 = nn.Linear(widening * channels, channels)
        self.layer_scale = None if layer_scale is None else nn.Parameter(torch.full([channels], layer_scale))

    def forward(
        self, features: torch.Tensor, kernel_basis: torch.Tensor, fiber_basis: torch.Tensor, source: torch.Tensor, target: torch.Tensor
    ) -> torch.Tensor:
        update = self.norm(self.conv(features, kernel_basis, fiber_basis, source, target))
        update = self.linear_2(nn.functional.gelu(self.linear_1(update)))
        if self.layer_scale is not None:
            update = self.layer_scale * update
        return features + update
