"""Fused kernels are used only where they agree with the network that they stand for."""

import logging
import math
import os
import threading
from typing import Any

import torch

from eqpot.kernels.compiler import CompilationError
from eqpot.kernels.fibre_bundle import FusedFibreBundle
from eqpot.network.base import Network
from eqpot.network.fibre_bundle import FibreBundleNetwork

_logger = logging.getLogger(__name__)

TOLERANCES = {torch.float32: 3e-5, torch.float64: 1e-8}
"""Largest deviation from float64 eager, in energies and edge gradients, over the largest of them."""


_REFINEMENTS = (1, 3)


class KernelChoice:
    """The fused form of a network as long as its weights stay what they were; made when it is first asked for, and again when they changed.

    Weights that require gradients are being trained and have none. Changes through `tensor.data` go unnoticed: make another choice then.
    Threads that ask while it is made wait for it.
    """

    def __init__(self, network: Network) -> None:
        self.network = network
        self._kernel: FusedFibreBundle | None = None
        self._places: list[tuple[Any, str]] = []
        self._children: list[tuple[Any, str]] = []
        self._held: list[Any] = []
        self._seen: tuple[list[int], ...] | None = None
        self._lock, self._process = threading.Lock(), os.getpid()

    def __getstate__(self) -> dict[str, Any]:
        # Copies and other processes make their own.
        return {"network": self.network}

    def __setstate__(self, state: dict[str, Any]) -> None:
        KernelChoice.__init__(self, state["network"])

    def kernel(self) -> FusedFibreBundle | None:
        """Return the kernel to use now, or None where there is none."""
        if not self._is_current():
            if self._process != os.getpid():
                # Another thread may have held the lock when this process was forked.
                self._lock, self._process = threading.Lock(), os.getpid()
            with self._lock:
                if not self._is_current():
                    self._choose()
        return self._kernel

    def _is_current(self) -> bool:
        return self._seen is not None and self._look() == self._seen

    def _choose(self) -> None:
        """Make the kernel; whatever interrupts that, the next call begins anew, as `_seen` comes last."""
        modules = list(self.network.modules())
        holders = [held for module in modules for held in (module._parameters, module._buffers)]
        places = [(held, name) for held in holders for name, tensor in held.items() if tensor is not None]
        tensors: list[Any] = [held[name] for held, name in places]
        self._seen = None
        self._places = places
        self._children = [(module._modules, name) for module in modules for name in module._modules]
        # While they live, nothing else has their ids.
        self._held = [*tensors, *modules]
        seen = self._look()
        usable = all(t.device.type == "cpu" and not t.requires_grad and not t.is_inference() for t in tensors)
        self._kernel = fused_network(self.network) if usable else None
        self._seen = seen

    def _look(self) -> tuple[list[int], ...] | None:
        """Return what changes with the weights; lists of numbers, as every step looks. None where a tensor is gone."""
        tensors = [held.get(name) for held, name in self._places]
        if any(tensor is None for tensor in tensors):
            return None
        children = [id(held.get(name)) for held, name in self._children]
        addresses, versions = [t.data_ptr() for t in tensors], [-1 if t.is_inference() else t._version for t in tensors]
        return [*map(id, tensors)], children, addresses, versions, [t.requires_grad for t in tensors]


def fused_network(network: Network) -> FusedFibreBundle | None:
    """Return the fused form of a network on the CPU, or None: where there is none, or where it fails its check (logged)."""
    if not isinstance(network, FibreBundleNetwork) or network.dtype not in TOLERANCES:
        return None
    # Copies of weights that are made in inference mode could not be differentiated in the check.
    with torch.inference_mode(False), torch.device("cpu"):
        return _checked(network)


def _checked(network: FibreBundleNetwork) -> FusedFibreBundle | None:
    deviation = math.inf
    # Radial functions that bend sharply need closer knots, which cost memory: few networks have them.
    for refinement in _REFINEMENTS:
        try:
            fused = FusedFibreBundle(network, network.dtype, refinement)
        except CompilationError as error:
            _logger.warning("The fused kernel is not used, evaluation will be slower: %s.", error)
            return None
        deviation = largest_deviation(fused)
        if deviation < TOLERANCES[network.dtype]:
            return fused
    _logger.warning("The fused kernel is not used, evaluation will be slower: it deviates from eager by %.1e.", deviation)
    return None


def largest_deviation(fused: FusedFibreBundle) -> float:
    """Return the largest deviation of energies and gradients from float64 eager, relative, on clusters of the network's elements."""
    network = fused.network
    generator = torch.Generator().manual_seed(0)
    # More than a group of the kernel; of many elements a few, as each pair costs its tables.
    n_atoms, n_species = 20, min(network.n_elements, 6)
    # Distances from a third of the cutoff to beyond it.
    directions = torch.nn.functional.normalize(torch.randn((n_atoms, 3), generator=generator, dtype=torch.float64), dim=1)
    positions = directions * network.config.cutoff * torch.linspace(0.3, 0.8, n_atoms, dtype=torch.float64).unsqueeze(1)
    vectors = positions.unsqueeze(0) - positions.unsqueeze(1)
    near = vectors.norm(dim=-1) < network.config.cutoff
    target, source = torch.nonzero(near & ~torch.eye(n_atoms, dtype=torch.bool)).T
    species = torch.arange(n_atoms) % n_species
    edges = torch.stack([source, target])
    with torch.inference_mode(False), torch.enable_grad():
        exact_vectors = vectors[target, source].requires_grad_()
        exact = network(exact_vectors, species, edges)
        exact_gradient = torch.autograd.grad(exact.sum(), exact_vectors)[0]
    energies, gradient = fused(exact_vectors.detach(), species, edges)
    deviations = [(energies - exact.detach()).abs().max() / exact.detach().abs().max()]
    deviations.append((gradient - exact_gradient).abs().max() / exact_gradient.abs().max())
    # Not Python's max: a NaN must come out.
    return float(torch.stack([deviation.double() for deviation in deviations]).max())
