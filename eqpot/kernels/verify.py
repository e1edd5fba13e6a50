"""Fused kernels are used only where they agree with the network that they stand for."""

import logging

import torch

from eqpot.kernels.compiler import CompilationError
from eqpot.kernels.fibre_bundle import FusedFibreBundle
from eqpot.network.base import Network
from eqpot.network.fibre_bundle import FibreBundleNetwork

_logger = logging.getLogger(__name__)

TOLERANCES = {torch.float32: 3e-5, torch.float64: 1e-8}
"""Largest deviation from float64 eager, in energies and edge gradients, over the largest of them."""


def fused_network(network: Network) -> FusedFibreBundle | None:
    """Return the fused form of a network on the CPU, or None: where there is none, or where it fails its check (logged)."""
    if not isinstance(network, FibreBundleNetwork):
        return None
    try:
        fused = FusedFibreBundle(network, network.dtype)
    except CompilationError as error:
        _logger.warning("The fused kernel is not used, evaluation will be slower: %s.", error)
        return None
    deviation = largest_deviation(fused)
    if not deviation < TOLERANCES[network.dtype]:
        _logger.warning("The fused kernel is not used, evaluation will be slower: it deviates from eager by %.1e.", deviation)
        return None
    return fused


def largest_deviation(fused: FusedFibreBundle) -> float:
    """Return the largest deviation of energies and gradients from float64 eager, relative, on clusters of the network's elements."""
    network = fused.network
    generator = torch.Generator().manual_seed(0)
    n_atoms = 8
    # Distances from a third of the cutoff to beyond it.
    directions = torch.nn.functional.normalize(torch.randn((n_atoms, 3), generator=generator, dtype=torch.float64), dim=1)
    positions = directions * network.config.cutoff * torch.linspace(0.3, 0.8, n_atoms, dtype=torch.float64).unsqueeze(1)
    vectors = positions.unsqueeze(0) - positions.unsqueeze(1)
    near = vectors.norm(dim=-1) < network.config.cutoff
    target, source = torch.nonzero(near & ~torch.eye(n_atoms, dtype=torch.bool)).T
    species = torch.arange(n_atoms) % network.n_elements
    edges = torch.stack([source, target])
    with torch.inference_mode(False), torch.enable_grad():
        exact_vectors = vectors[target, source].requires_grad_()
        exact = network(exact_vectors, species, edges)
        exact_gradient = torch.autograd.grad(exact.sum(), exact_vectors)[0]
    energies, gradient = fused(exact_vectors.detach(), species, edges)
    deviations = [(energies - exact.detach()).abs().max() / exact.detach().abs().max()]
    deviations.append((gradient - exact_gradient).abs().max() / exact_gradient.abs().max())
    return float(max(deviations))
