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

DESIGN_DEGREES = {12: 5, 24: 7, 36: 8, 48: 9, 60: 10, 84: 12}
"""Number of points -> degree t of the spherical design that `spherical_design` returns."""

_GENERATORS_48 = (
    (0.3018400579657684, 0.639740098619792, 0.7068416977125503),
    (0.35354218892147193, 0.06195377423185978, 0.9333646931993099),
)
"""The means of the octahedral invariants of degrees 4, 6, 8 and 9 vanish over the union of the two orbits: four equations for
the four angles, solved to rounding; `design_residual` checks them."""


_TETRAHEDRAL_GENERATORS = {
    36: (
        (-0.24352777540919507, -0.6263636702652701, 0.7405152092807202),
        (0.805425492011663, -0.30620001323956986, 0.5074754464108168),
        (-0.2862487234260353, 0.04452356458541976, -0.9571203270924575),
    ),
    60: (
        (-0.07705072072573568, -0.9579979399532583, -0.2762302182617933),
        (0.7131510658477928, 0.03408954976125582, -0.70018101936373),
        (-0.4268641162190681, -0.451819102555245, -0.7833559375218183),
        (0.12033144886678546, 0.33858435995926023, 0.9332100372395263),
        (0.365621190026288, -0.7538286671970171, -0.5459519080612596),
    ),
    84: (
        (-0.7375418249214933, 0.5386718227041037, 0.40726493086946736),
        (-0.9439553533962598, -0.2643592080057571, 0.197642353601426),
        (0.8384145917645976, 0.1619047862766864, -0.5204304108109974),
        (0.7630917989518411, -0.46507356967251046, -0.44877330709893104),
        (-0.973956298034231, -0.09937286944589636, -0.20379931878577334),
        (0.7402660189400041, 0.16183719125960974, 0.6525449752529844),
        (-0.5020478203490204, -0.08000996410974864, -0.861130879556618),
    ),
}
"""Orbits of the rotations of the tetrahedron. Those have 6, 10 and 14 invariant harmonics of degrees 1 to 8, 10 and 12, as many as 3, 5
and 7 points have angles; the means of all of them vanish, solved to rounding from random starts, the one with the widest spacing kept."""


def spherical_design(n_points: int) -> torch.Tensor:
    """Return the unit vectors [n_points, 3] (float64) of a spherical design, the same on every machine.

    12 points are the icosahedron (t = 5), 24 the improved snub cube of McLaren (1963; t = 7), 48 two orbits of the rotations of the
    cube (t = 9); 36, 60 and 84 are 3, 5 and 7 orbits of the rotations of the tetrahedron (t = 8, 10 and 12).

    Raises ConfigError for a number of points without a known design.
    """
    if n_points == 12:
        return _icosahedron()
    if n_points == 24:
        return _octahedral_orbit(_mclaren_generator())
    if n_points == 48:
        return torch.cat([_octahedral_orbit(generator) for generator in _GENERATORS_48])
    if n_points in _TETRAHEDRAL_GENERATORS:
        return torch.cat([_tetrahedral_orbit(generator) for generator in _TETRAHEDRAL_GENERATORS[n_points]])
    known = ", ".join(str(n) for n in DESIGN_DEGREES)
    raise ConfigError(f"No spherical design with {n_points} points is known to eqpot; use one of {known}.")


def _icosahedron() -> torch.Tensor:
    points = []
    for a in (1.0, -1.0):
        for b in (_GOLDEN_RATIO, -_GOLDEN_RATIO):
            points += [(0.0, a, b), (a, b, 0.0), (b, 0.0, a)]
    vectors = torch.tensor(points, dtype=torch.float64)
    return vectors / vectors.norm(dim=1, keepdim=True)


def _tetrahedral_orbit(point: tuple[float, float, float]) -> torch.Tensor:
    """Return the images [12, 3] of a point under the rotations of the tetrahedron: even permutations, even numbers of sign changes."""
    x, y, z = point
    signs = list(itertools.product((1, -1), repeat=2))
    points = [(sx * a, sy * b, sx * sy * c) for a, b, c in ((x, y, z), (y, z, x), (z, x, y)) for sx, sy in signs]
    return torch.tensor(points, dtype=torch.float64)


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
    means = spherical_harmonics(orientations, degree).mean(dim=0)[1:].abs()
    return float(means.max()) if len(means) else 0.0
