"""Orientation grids: spherical designs, on which sums over orientations are exact integrals.

A set of O unit vectors n_o is a spherical t-design when the mean of every polynomial of degree <= t over
the set equals its mean over the sphere (Delsarte, Goethals, Seidel 1977). All of the network's angular
algebra is polynomial, so on a design of high enough degree it is exactly equivariant; `required_degree`
says how high.
"""

import itertools
import math

import torch

from eqpot.errors import ConfigError
from eqpot.network.invariants import spherical_harmonics

_GOLDEN_RATIO = (1 + math.sqrt(5)) / 2

DESIGN_DEGREES = {12: 5, 24: 7, 48: 9}
"""Number of points -> degree t of the spherical design that `spherical_design` returns."""

_GENERATORS_48 = (
    (0.3018400579657684, 0.639740098619792, 0.7068416977125503),
    (0.35354218892147193, 0.06195377423185978, 0.9333646931993099),
)
"""The means of the octahedral invariants of degrees 4, 6, 8 and 9 vanish over the union of the two orbits: four equations for
the four angles, solved to rounding; `design_residual` checks them."""


def spherical_design(n_points: int) -> torch.Tensor:
    """Return the unit vectors [n_points, 3] (float64) of a spherical design, the same on every machine.

    12 points are the icosahedron (t = 5), 24 the improved snub cube of McLaren (1963; t = 7), 48 two orbits of the rotations of the
    cube (t = 9).

    Raises ConfigError for a number of points without a known design.
    """
    if n_points == 12:
        return _icosahedron()
    if n_points == 24:
        return _octahedral_orbit(_mclaren_generator())
    if n_points == 48:
        return torch.cat([_octahedral_orbit(generator) for generator in _GENERATORS_48])
    known = ", ".join(str(n) for n in DESIGN_DEGREES)
    raise ConfigError(f"No spherical design with {n_points} points is known to eqpot; use one of {known}.")


def _icosahedron() -> torch.Tensor:
    points = []
    for a in (1.0, -1.0):
        for b in (_GOLDEN_RATIO, -_GOLDEN_RATIO):
            points += [(0.0, a, b), (a, b, 0.0), (b, 0.0, a)]
    vectors = torch.tensor(points, dtype=torch.float64)
    return vectors / vectors.norm(dim=1, keepdim=True)


def _octahedral_orbit(point: tuple[float, float, float]) -> torch.Tensor:
    """Return the images [24, 3] of a point under the rotations of the cube.

    The orbit integrates degrees 1, 2, 3, 5 and 7 for any point: the rotation group has no invariant harmonics there.
    """
    x, y, z = point
    # Even permutations with an even number of sign changes and odd ones with an odd number.
    even = [(1, order) for order in ((x, y, z), (y, z, x), (z, x, y))]
    odd = [(-1, order) for order in ((y, x, z), (x, z, y), (z, y, x))]
    signs = list(itertools.product((1, -1), repeat=2))
    points = [(sx * a, sy * b, parity * sx * sy * c) for parity, (a, b, c) in even + odd for sx, sy in signs]
    return torch.tensor(points, dtype=torch.float64)


def _mclaren_generator() -> tuple[float, float, float]:
    """Return the point whose orbit integrates degrees 4 and 6 too, which have one invariant each.

    On the unit sphere the conditions read x^4 + y^4 + z^4 = 3/5 and x^2 y^2 z^2 = 1/105, so the squares of the coordinates are
    the roots of a cubic.
    """
    # Elementary symmetric polynomials of the squares: e1 = 1, e2 = (1 - 3/5) / 2, e3 = 1 / 105.
    e1, e2, e3 = 1.0, 0.2, 1.0 / 105.0
    p, q = e2 - e1 * e1 / 3, -2 * e1**3 / 27 + e1 * e2 / 3 - e3
    angle = math.acos(3 * q / (2 * p) * math.sqrt(-3 / p)) / 3
    x, y, z = (math.sqrt(2 * math.sqrt(-p / 3) * math.cos(angle - 2 * math.pi * k / 3) + e1 / 3) for k in range(3))
    return x, y, z


def required_degree(feature_degree: int, kernel_degree: int) -> int:
    """Design degree t at which the network is exactly equivariant.

    The convolution integrates a feature of degree Lf times a kernel of degree Lk against a harmonic of degree Lf:
    t >= Lk + 2 Lf. The product of two features needs t >= 3 Lf.
    """
    return max(kernel_degree + 2 * feature_degree, 3 * feature_degree)


def design_residual(orientations: torch.Tensor, degree: int) -> float:
    """Return the largest |mean over the points of Y_lm| for 1 <= l <= degree: rounding error on a design of that degree."""
    return float(spherical_harmonics(orientations, degree).mean(dim=0)[1:].abs().max())
