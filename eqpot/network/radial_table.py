"""Radial functions as tables: uniform quintic B-splines, four times continuously differentiable."""

import numpy as np
import torch
from scipy.linalg import solve_banded

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
