"""The pointwise block is equivariant approximately: how far, and what averaging over rotations does about it."""

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from eqpot.network.config import NetworkConfig
from eqpot.network.perceptron import ResidualPerceptron
from eqpot.network.rotations import rotation_group
from helpers import POINTWISE, crystal, ethanol, evaluate, random_potential, rotation_error

ORDERS = (1, 12, 24, 60)


def averaged(order, **changes):
    return random_potential(config=POINTWISE.model_copy(update={"rotation_average": order, **changes}))


def distances(first, second):
    return (first.unsqueeze(1) - second.unsqueeze(0)).abs().amax(dim=(2, 3))


@pytest.mark.parametrize("order", ORDERS)
def test_rotations_form_a_group_of_their_order(order):
    group = rotation_group(order)
    assert torch.allclose(group @ group.transpose(1, 2), torch.eye(3, dtype=torch.float64), atol=1e-14)
    assert torch.allclose(torch.linalg.det(group), torch.ones(order, dtype=torch.float64))
    assert distances(group, group).fill_diagonal_(1).min() > 0.1
    products = (group.unsqueeze(0) @ group.unsqueeze(1)).reshape(-1, 3, 3)
    assert distances(products, group).min(dim=1).values.max() < 1e-13


@pytest.mark.parametrize("order", ORDERS[1:])
def test_an_average_is_exactly_invariant_under_its_own_group(order):
    potential = averaged(order)
    reference = evaluate(potential, ethanol())
    for matrix in rotation_group(order).numpy()[1 : order : order // 6]:
        turned = ethanol()
        turned.positions = turned.positions @ matrix.T
        result = evaluate(potential, turned)
        assert abs(result["energy"] - reference["energy"]) < 1e-12
        np.testing.assert_allclose(result["forces"], reference["forces"] @ matrix.T, atol=1e-12)


@pytest.mark.parametrize("n_orientations", [24, 60])
def test_rotation_error_is_there_and_falls_with_the_average(n_orientations):
    errors = [rotation_error(averaged(order, n_orientations=n_orientations), ethanol()) for order in ORDERS]
    assert errors[0] > 1e-4
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[0]
    assert errors[3] < 0.1 * errors[0]


def test_rotation_error_falls_with_the_points():
    errors = [rotation_error(averaged(1, n_orientations=n), crystal()) for n in (12, 24, 84)]
    assert errors[2] < 0.3 * errors[1] < 0.3 * errors[0]


def test_small_messages_stay_small():
    """Unlike under a LayerNorm, a lone neighbour that leaves takes its influence along."""
    torch.manual_seed(0)
    perceptron = ResidualPerceptron(8, 2).double().requires_grad_(False)
    features, messages = torch.zeros(1, 8, dtype=torch.float64), torch.randn(1, 8, dtype=torch.float64)
    effects = [(perceptron(features, factor * messages) - perceptron(features, 0 * messages)).norm() for factor in (1e-6, 1e-3, 1e6, 1e9)]
    assert float(effects[0] / effects[1]) == pytest.approx(1e-3, rel=1e-2)
    assert float(effects[3]) == pytest.approx(float(effects[2]), rel=1e-6)


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValidationError, match="position is exactly equivariant without it"):
        NetworkConfig(geometry="position", block="pointwise")
    with pytest.raises(ValidationError, match="changes nothing but block pointwise"):
        NetworkConfig(rotation_average=12)
    with pytest.raises(ValidationError, match="designs are known for 12, 24, 36"):
        NetworkConfig(block="pointwise", n_orientations=13)
    # Designs of too low a degree concern the exact block alone.
    assert NetworkConfig(block="pointwise", n_orientations=12).n_orientations == 12
    assert NetworkConfig(geometry="position", n_orientations=12).n_orientations == 12
