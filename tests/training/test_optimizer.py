"""Muon: what its update is, and which weights it moves."""

import pytest
import torch

from eqpot.training.config import OptimizationConfig
from eqpot.training.muon import Muon, orthogonal_updates, orthogonalise
from eqpot.training.optimizer import Optimizer, update_average
from helpers import random_potential


@pytest.mark.parametrize("shape", [(8, 8), (8, 24), (24, 8)])
def test_orthogonalised_matrices_keep_their_directions_and_lose_their_singular_values(shape):
    torch.manual_seed(0)
    matrices = torch.randn(40, *shape, dtype=torch.float64) * torch.logspace(-11, 15, 40, dtype=torch.float64).view(-1, 1, 1)
    torch.testing.assert_close(orthogonalise(matrices.float()).double(), orthogonalise(matrices), rtol=0, atol=1e-2)
    u, s, vt = torch.linalg.svd(matrices, full_matrices=False)
    rotated = u.mT @ orthogonalise(matrices) @ vt.mT
    diagonal = torch.diagonal(rotated, dim1=1, dim2=2)
    assert (rotated - torch.diag_embed(diagonal)).abs().max() < 1e-9
    # Directions far below the largest one need more iterations; all others end near 1.
    strong = s > 0.01 * s.norm(dim=1, keepdim=True)
    assert ((diagonal[strong] > 0.7) & (diagonal[strong] < 1.3)).all()
    assert strong.double().mean() > 0.9


def test_every_block_is_orthogonalised_alone():
    torch.manual_seed(1)
    weight = torch.randn(3, 4, 12, dtype=torch.float64)
    gate = torch.randn(8, 4, dtype=torch.float64)
    odd = torch.randn(8, 5, dtype=torch.float64)
    updates = orthogonal_updates([weight, gate, odd], block=4)
    assert [update.shape for update in updates] == [weight.shape, gate.shape, odd.shape]
    for degree in range(3):
        for factor in range(3):
            part = (degree, slice(None), slice(4 * factor, 4 * factor + 4))
            assert torch.allclose(updates[0][part], 0.4 * orthogonalise(weight[part][None])[0], atol=1e-12)
    assert torch.allclose(updates[1][4:], 0.4 * orthogonalise(gate[None, 4:])[0], atol=1e-12)
    assert torch.allclose(updates[2][:4], 0.2 * 5**0.5 * orthogonalise(odd[None, :4])[0], atol=1e-12)
    assert 0.1 < updates[0].square().mean().sqrt() < 0.3


def test_a_block_without_gradient_stays():
    weight = torch.ones(4, 4)
    weight.grad = torch.zeros(4, 4)
    Muon([weight], lr=0.1, block=4).step()
    assert torch.equal(weight, torch.ones(4, 4))


def test_momentum_and_decay():
    weight = torch.zeros(1, 4)
    muon = Muon([weight], lr=0.1, block=4, momentum=0.5, weight_decay=0.5)
    first, second = torch.tensor([[1.0, 0.0, 0.0, 0.0]]), torch.tensor([[0.0, 3.0, 0.0, 0.0]])
    weight.grad = first
    muon.step()
    assert torch.allclose(weight, -0.1 * orthogonal_updates([first], 4)[0])
    before = weight.clone()
    weight.grad = second
    muon.step()
    # m = g1 / 4 + g2 / 2, and the direction is m / 2 + g2 / 2.
    expected = orthogonal_updates([0.125 * first + 0.75 * second], 4)[0]
    assert torch.allclose(weight, before * 0.95 - 0.1 * expected)


def test_the_average_forgets_its_first_weights_soon():
    average = [torch.zeros(3, dtype=torch.float64)]
    update_average(average, [torch.ones(3, dtype=torch.float64)], step=1, decay=0.99)
    torch.testing.assert_close(average[0], torch.full((3,), 9 / 11, dtype=torch.float64))
    update_average(average, [torch.zeros(3, dtype=torch.float64)], step=10_000, decay=0.99)
    torch.testing.assert_close(average[0], torch.full((3,), 0.99 * 9 / 11, dtype=torch.float64))


def test_muon_moves_the_weights_of_linear_maps_and_adam_the_rest():
    network = random_potential().network
    optimizer = Optimizer(network, OptimizationConfig())
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step(1e-3)
    names = {name for name, parameter in network.named_parameters() if "momentum" in optimizer.state(parameter)}
    assert {"radial.input.weight", "lift_mixing.weight", "lift_product.gates.weight", "blocks.0.convolution.radial.weight"} <= names
    others = {name for name, _ in network.named_parameters()} - names
    assert {"embedding.weight", "radial.source_element.weight", "radial.hidden.bias", "lift_product.readout.2.weight"} <= others
    assert all("max_exp_avg_sq" in optimizer.state(parameter) for name, parameter in network.named_parameters() if name in others)
    momenta = [optimizer.state(parameter)["momentum"] for name, parameter in network.named_parameters() if name in names]
    assert all(torch.allclose(momentum, torch.full_like(momentum, 0.05)) for momentum in momenta)


def test_weight_decay_is_that_of_the_matrices():
    network = random_potential().network
    optimizer = Optimizer(network, OptimizationConfig(weight_decay=0.5))
    before = {name: parameter.clone() for name, parameter in network.named_parameters()}
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step(0.1)
    for name, parameter in network.named_parameters():
        torch.testing.assert_close(parameter.data, (0.95 if "momentum" in optimizer.state(parameter) else 1.0) * before[name])
