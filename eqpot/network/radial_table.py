"""Radial functions as tables: uniform quintic B-splines, four times continuously differentiable.

Values and derivatives come from the same spline, so forces stay the exact gradient of the energy.
"""

import copy
import math
from typing import Any

import numpy as np
import torch
from scipy.linalg import solve_banded
from torch import nn

from eqpot.errors import ConfigError
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.network.radial import RadialNetwork, smooth_window

SUPPORT = 6
"""Coefficients that a quintic spline has at a point."""

_PADDING = 32  # samples beyond both ends; what the ends do wrong decays by 0.43 a sample


def sample_points(spacing: float, n_intervals: int) -> torch.Tensor:
    """Return the lengths [n_samples], float64, Å, at which `spline_coefficients` wants the functions.

    They lie on a uniform grid that exceeds [0, n_intervals * spacing] at both ends: the functions are tabulated
    without their window, and without it they are smooth beyond the cutoff and even in r.
    """
    points = torch.arange(-_PADDING, n_intervals + _PADDING + 1, dtype=torch.float64) * spacing
    # sin(x) / x at 0 is 0 / 0; its neighbourhood is flat.
    points[_PADDING] = 1e-6 * spacing
    return points


def spline_coefficients(samples: torch.Tensor) -> torch.Tensor:
    """Return the coefficients [n_intervals + SUPPORT, ...] of the splines through `samples` [n_samples, ...], float64.

    Between the knots k and k + 1 the splines are the sum over s of coefficients[k + s] times the s-th uniform quintic B-spline
    (de Boor, A Practical Guide to Splines, ch. IX).
    """
    n_samples = len(samples)
    bands = np.repeat(np.array([[1.0], [26.0], [66.0], [26.0], [1.0]]) / 120, n_samples, axis=1)
    solved = solve_banded((2, 2), bands, samples.reshape(n_samples, -1).numpy())
    # The coefficient of a knot is the third of the five that its value is made of.
    n_rows = n_samples - 2 * _PADDING - 1 + SUPPORT
    return torch.from_numpy(solved[_PADDING - 2 : _PADDING - 2 + n_rows]).reshape(n_rows, *samples.shape[1:])


class TabulatedRadial(nn.Module):
    """The radial functions of all convolutions of a network, in place of its `RadialNetwork` and the linear maps that read it."""

    coefficients: torch.Tensor

    def __init__(self, n_elements: int, n_intervals: int, width: int, cutoff: float) -> None:
        """n_intervals: pieces of the splines from 0 to the cutoff. width: functions per pair of elements.

        The attribute `deviations` says how far the tables are from what they were made of, where that was measured.
        """
        super().__init__()
        self.n_elements = n_elements
        self.n_intervals = n_intervals
        self.cutoff = cutoff
        self.deviations: dict[str, float] = {}
        self.register_buffer("coefficients", torch.zeros(n_elements * n_elements, n_intervals + SUPPORT, width))

    def forward(self, lengths: torch.Tensor, source_species: torch.Tensor, target_species: torch.Tensor) -> torch.Tensor:
        """Map lengths [n_edges] and species indices [n_edges] to functions [n_edges, width] that vanish at the cutoff."""
        return self.unwindowed(lengths, source_species, target_species) * smooth_window(lengths, self.cutoff).unsqueeze(-1)

    def unwindowed(self, lengths: torch.Tensor, source_species: torch.Tensor, target_species: torch.Tensor) -> torch.Tensor:
        """Return the functions before the window."""
        position = lengths * (self.n_intervals / self.cutoff)
        # NaN stays NaN in t and must not become a row.
        knots = position.detach().nan_to_num().floor().clamp(0, self.n_intervals - 1)
        t = position - knots
        v = 1 - t
        weights = [
            v**5,
            26 + t * (-50 + t * (20 + t * (20 + t * (-20 + 5 * t)))),
            66 + t * t * (-60 + t * t * (30 - 10 * t)),
            26 + t * (50 + t * (20 + t * (-20 + t * (-20 + 10 * t)))),
            1 + t * (5 + t * (10 + t * (10 + t * (5 - 5 * t)))),
            t**5,
        ]
        rows = knots.to(torch.int64)
        pairs = target_species * self.n_elements + source_species
        total = torch.zeros([lengths.shape[0], self.coefficients.shape[2]], dtype=lengths.dtype, device=lengths.device)
        for s in range(len(weights)):
            total = total + (weights[s] / 120).unsqueeze(-1) * self.coefficients[pairs, rows + s]
        return total


class Columns(nn.Module):
    """Picks the functions of one convolution from those of all."""

    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self.start = start
        self.stop = stop

    def forward(self, functions: torch.Tensor) -> torch.Tensor:
        """[n_edges, width] -> [n_edges, stop - start]."""
        return functions[:, self.start : self.stop]


def radial_coefficients(network: FibreBundleNetwork, target: int, source: int, n_intervals: int) -> list[torch.Tensor]:
    """Return, for every convolution, the splines' coefficients [n_intervals + SUPPORT, n_degrees * n_channels] of a pair of species.

    They are those of the network's own table where it has one, whatever `n_intervals` says.
    """
    convolutions = _convolutions(network)
    if isinstance(network.radial, TabulatedRadial):
        stored = network.radial.coefficients[target * network.n_elements + source]
        return [convolution.radial(stored) for convolution in convolutions]
    assert isinstance(network.radial, RadialNetwork)
    lengths = sample_points(network.config.cutoff / n_intervals, n_intervals)
    hidden = network.radial.unwindowed(lengths, torch.full((len(lengths),), source), torch.full((len(lengths),), target))
    return [spline_coefficients(convolution.radial(hidden)) for convolution in convolutions]


def tabulate(network: FibreBundleNetwork, n_intervals: int, fill: bool = True) -> FibreBundleNetwork:
    """Return a copy of a network, without gradients, whose radial functions are tables; empty ones without `fill`.

    Raises ConfigError for a network whose radial functions are tables already.
    """
    if isinstance(network.radial, TabulatedRadial):
        raise ConfigError("The radial functions of this potential are tables already; compress the potential that it was made of.")
    exact = copy.deepcopy(network).double().requires_grad_(False)
    tabulated = copy.deepcopy(network).requires_grad_(False)
    convolutions = _convolutions(tabulated)
    stops = np.cumsum([convolution.n_degrees * convolution.n_channels for convolution in convolutions]).tolist()
    for convolution, start, stop in zip(convolutions, [0, *stops[:-1]], stops, strict=True):
        convolution.radial = Columns(start, stop)
    table = TabulatedRadial(network.n_elements, n_intervals, stops[-1], network.config.cutoff).to(network.dtype)
    if fill:
        for pair in range(network.n_elements**2):
            target, source = divmod(pair, network.n_elements)
            table.coefficients[pair] = torch.cat(radial_coefficients(exact, target, source, n_intervals), dim=1)
    tabulated.radial = table
    return tabulated


def intervals_of(cutoff: float, spacing: float) -> int:
    """Return how many intervals no longer than `spacing` fill the cutoff."""
    return math.ceil(cutoff / spacing)


def _convolutions(network: FibreBundleNetwork) -> list[Any]:
    blocks: list[Any] = list(network.blocks)
    return [network.lift, *(block.convolution for block in blocks)]
