"""Exact equivariance of the fibre bundle; A13."""

import pytest
import torch
from pydantic import ValidationError

from eqpot.network import config as network_config
from eqpot.network.config import NetworkConfig
from helpers import SMALL, crystal, ethanol, evaluate, random_potential, rotation_error

TWELVE = SMALL.model_copy(update={"n_orientations": 12, "feature_degree": 1, "kernel_degree": 2})
THIRTY_SIX = SMALL.model_copy(update={"n_orientations": 36, "kernel_degree": 4})
SIXTY = SMALL.model_copy(update={"n_orientations": 60, "feature_degree": 3, "kernel_degree": 4})
EIGHTY_FOUR = SMALL.model_copy(update={"n_orientations": 84, "feature_degree": 4, "kernel_degree": 4})
FORTY_EIGHT = SMALL.model_copy(update={"n_orientations": 48, "feature_degree": 3})
THREE_BLOCKS = SMALL.model_copy(update={"n_blocks": 3})
ONE_BLOCK = SMALL.model_copy(update={"n_blocks": 1})


@pytest.mark.parametrize(
    "config", [SMALL, TWELVE, FORTY_EIGHT, THREE_BLOCKS, ONE_BLOCK], ids=["24", "12", "48", "three blocks", "one block"]
)
def test_a13_energy_and_forces_are_equivariant_to_rounding(config):
    potential = random_potential(config=config)
    assert rotation_error(potential, ethanol()) < 1e-10
    assert rotation_error(potential, crystal()) < 1e-10


def test_equivariance_is_lost_on_a_design_of_too_low_degree(monkeypatch):
    monkeypatch.setitem(network_config.DESIGN_DEGREES, 12, 7)
    potential = random_potential(config=SMALL.model_copy(update={"n_orientations": 12}))
    assert rotation_error(potential, ethanol()) > 1e-4


def test_a_configuration_that_is_not_equivariant_is_refused():
    with pytest.raises(ValidationError, match="design of degree 7, and 12 points have degree 5"):
        NetworkConfig(n_orientations=12)
    with pytest.raises(ValidationError, match="cannot contribute"):
        NetworkConfig(feature_degree=1, kernel_degree=3)


def test_change_of_precision_loses_nothing():
    potential = random_potential()
    expected = evaluate(potential, ethanol())["energy"]
    exact = potential.network.grid.synthesis.clone()
    potential.float().double()
    assert torch.equal(potential.network.grid.synthesis, exact)
    assert potential.reference_energies.dtype == torch.float64
    assert rotation_error(potential, ethanol()) < 1e-10
    assert abs(evaluate(potential, ethanol())["energy"] - expected) < 1e-2
