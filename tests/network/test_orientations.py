import math

import pytest
import torch

from eqpot.errors import ConfigError
from eqpot.network.invariants import legendre_polynomials, spherical_harmonics
from eqpot.network.orientations import DESIGN_DEGREES, design_residual, spherical_design


@pytest.mark.parametrize(("n_points", "degree"), DESIGN_DEGREES.items())
def test_design_integrates_up_to_its_degree_and_not_beyond(n_points, degree):
    points = spherical_design(n_points)
    assert points.shape == (n_points, 3)
    assert torch.allclose(points.norm(dim=1), torch.ones(n_points, dtype=torch.float64), atol=1e-15)
    assert torch.cdist(points, points).fill_diagonal_(2).min() > 0.7 * (4 * math.pi / n_points) ** 0.5
    assert design_residual(points, degree) < 1e-14
    assert design_residual(points, degree + 1) > 1e-2


def test_unknown_design_names_the_known_ones():
    with pytest.raises(ConfigError, match="13 points.*12, 24, 36, 48, 60, 84"):
        spherical_design(13)


def test_harmonics_obey_the_addition_theorem():
    torch.manual_seed(0)
    directions = torch.nn.functional.normalize(torch.randn(20, 3, dtype=torch.float64), dim=1)
    directions[0] = torch.tensor([0.0, 0.0, 1.0])
    harmonics = spherical_harmonics(directions, 5)
    legendre = legendre_polynomials(directions @ directions.T, 5)
    for n in range(6):
        band = harmonics[:, n * n : (n + 1) ** 2]
        assert torch.allclose(band @ band.T, (2 * n + 1) * legendre[n], atol=1e-12)
