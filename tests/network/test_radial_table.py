"""Radial functions as splines."""

import pytest
import torch

from eqpot.errors import ConfigError
from eqpot.network.config import NetworkConfig
from eqpot.network.radial_table import SUPPORT, TabulatedRadial, intervals_of, sample_points, spline_coefficients, tabulate
from helpers import random_potential

CONFIG = NetworkConfig(n_channels=8, radial_width=16, n_bessel=6, cutoff=4.0)


def table_of(function, spacing: float, cutoff: float) -> TabulatedRadial:
    n_intervals = intervals_of(cutoff, spacing)
    table = TabulatedRadial(1, n_intervals, 1, cutoff).double()
    table.coefficients[0] = spline_coefficients(function(sample_points(cutoff / n_intervals, n_intervals)).unsqueeze(-1))
    return table


def evaluate(table: TabulatedRadial, lengths: torch.Tensor) -> torch.Tensor:
    species = torch.zeros_like(lengths, dtype=torch.int64)
    return table.unwindowed(lengths, species, species).squeeze(-1)


def test_even_polynomials_up_to_degree_four_are_exact():
    table = table_of(lambda r: 2 - r**2 + 0.3 * r**4, 0.1, 4.0)
    r = torch.linspace(0, 4, 1001, dtype=torch.float64)
    torch.testing.assert_close(evaluate(table, r), 2 - r**2 + 0.3 * r**4, rtol=1e-10, atol=1e-10)


def test_the_error_falls_with_the_sixth_power_of_the_spacing():
    r = torch.linspace(0, 4, 3001, dtype=torch.float64)
    errors = [
        float((evaluate(table_of(lambda x: torch.cos(3 * x), spacing, 4.0), r) - torch.cos(3 * r)).abs().max()) for spacing in (0.1, 0.05)
    ]
    assert 50 < errors[0] / errors[1] < 80


def test_four_derivatives_are_continuous_at_the_knots():
    table = table_of(lambda x: torch.cos(3 * x), 0.1, 4.0)
    before, after = (torch.tensor([1.5 + side * 1e-9], dtype=torch.float64, requires_grad=True) for side in (-1, 1))
    values = [evaluate(table, before), evaluate(table, after)]
    for _ in range(4):
        torch.testing.assert_close(values[0], values[1], rtol=1e-5, atol=1e-5)
        values = [torch.autograd.grad(value, r, create_graph=True)[0] for value, r in zip(values, (before, after), strict=True)]


def test_a_tabulated_network_is_the_network_to_the_accuracy_of_its_tables():
    network = random_potential(config=CONFIG).network
    tabulated = tabulate(network, 400)
    torch.manual_seed(0)
    vectors = torch.randn((40, 3), dtype=torch.float64)
    species, target = torch.arange(10) % 3, torch.arange(40) // 4
    edges = torch.stack([(target + 1 + torch.arange(40) % 4) % 10, target])
    torch.testing.assert_close(tabulated(vectors, species, edges), network(vectors, species, edges), rtol=1e-9, atol=1e-9)
    assert not any("radial.hidden" in name for name in tabulated.state_dict())


def test_tables_of_tables_are_refused():
    tabulated = tabulate(random_potential(config=CONFIG).network, 100)
    with pytest.raises(ConfigError, match="are tables already"):
        tabulate(tabulated, 100)


def test_rows_reach_past_the_cutoff():
    assert len(spline_coefficients(torch.zeros(len(sample_points(0.1, 40)), 2, dtype=torch.float64))) == 40 + SUPPORT
