"""The training loss, and its gradient as one function of tensors that can be traced and compiled."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.func import functional_call

from eqpot.data.batches import LabelledGraph
from eqpot.graph import edge_vectors
from eqpot.potential import Potential
from eqpot.training.config import OptimizationConfig


@dataclass(frozen=True)
class Sample:
    """A structure, or a batch, as the loss reads it: in the network's dtype, labels divided by the potential's scale.

    vectors [n_edges, 3] Å; species [n_atoms]; edge_index [2, n_edges]; batch [n_atoms]; counts [n_structures] atoms of each;
    energy [n_structures] per atom, less the reference energies; forces [n_atoms, 3]; virial [n_structures, 3, 3] V stress per atom;
    energy_weight [n_structures], forces_weight [n_atoms], virial_weight [n_structures]: the structure's weight where the label is
    there, zero where it is not; n_labels [n_structures, 3]: energies, atoms with forces, and stresses that are there.
    """

    vectors: torch.Tensor
    species: torch.Tensor
    edge_index: torch.Tensor
    batch: torch.Tensor
    counts: torch.Tensor
    energy: torch.Tensor
    forces: torch.Tensor
    virial: torch.Tensor
    energy_weight: torch.Tensor
    forces_weight: torch.Tensor
    virial_weight: torch.Tensor
    n_labels: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        """Return what a `Step` takes, in its order: all but n_labels."""
        return list(vars(self).values())[:-1]


def make_sample(labelled: LabelledGraph, potential: Potential) -> Sample:
    """Turn one labelled structure into what the loss reads."""
    graph, dtype, scale = labelled.graph, potential.dtype, potential.scale.cpu()
    species = potential.species_of_number.cpu()[graph.numbers]
    references = potential.reference_energies.cpu()[species].sum()
    volume = torch.linalg.det(graph.cells).abs().view(-1, 1, 1)
    weights = [labelled.weight * there for there in (labelled.has_energy, labelled.has_forces, labelled.has_stress)]
    n_labels = torch.stack([labelled.has_energy, labelled.has_forces * graph.n_atoms, labelled.has_stress], dim=1)
    tensors = (
        edge_vectors(*graph.tensors()[:1], *graph.tensors()[2:]).to(dtype),
        species,
        graph.edge_index,
        graph.batch,
        torch.tensor([graph.n_atoms], dtype=dtype),
        ((labelled.energy - references) / graph.n_atoms / scale).to(dtype),
        (labelled.forces / scale).to(dtype),
        (labelled.stress * volume / graph.n_atoms / scale).to(dtype),
        weights[0].to(dtype),
        weights[1].to(dtype).expand(graph.n_atoms),
        weights[2].to(dtype),
        n_labels.to(dtype),
    )
    return Sample(*(tensor.to(potential.device) for tensor in tensors))


def collate_samples(samples: Sequence[Sample], n_labels: torch.Tensor | None = None) -> Sample:
    """Join samples into one batch; weights become weights over the numbers of labels, so that sums in the loss are means.

    n_labels [3]: those numbers where the samples are a share of a batch, whose other shares have other processes; by default
    the samples are all of it.
    """
    edge_index, batch, n_atoms = [], [], 0
    for structure, sample in enumerate(samples):
        edge_index.append(sample.edge_index + n_atoms)
        batch.append(sample.batch + structure)
        n_atoms += len(sample.species)
    joined = {
        name: torch.cat([getattr(sample, name) for sample in samples]) for name in vars(samples[0]) if name not in ("edge_index", "batch")
    }
    totals = (joined["n_labels"].sum(dim=0) if n_labels is None else n_labels).clamp(min=1)
    for index, name in enumerate(("energy_weight", "forces_weight", "virial_weight")):
        joined[name] = joined[name] / totals[index]
    return Sample(edge_index=torch.cat(edge_index, dim=1), batch=torch.cat(batch), **joined)


Step = Callable[..., list[torch.Tensor]]
"""(parameters, weights [3] of energy, forces and stress, *Sample.tensors()) -> [loss, gradient of every parameter]."""

_NORM_FLOOR = 1e-6
"""Errors, in units of the scale, below which the norm is rounded off: its derivative at zero has no direction."""


def error_sizes(errors: torch.Tensor, config: OptimizationConfig) -> torch.Tensor:
    """Return how much errors [n, k] count, [n]: the mean square, the mean of Huber's function, or the Euclidean norm.

    Huber's function is e^2 up to delta and delta (2 |e| - delta) beyond.
    """
    if config.loss == "norm":
        return torch.sqrt(errors.square().sum(dim=1) + _NORM_FLOOR**2)
    if config.loss == "mse":
        return errors.square().mean(dim=1)
    inner = errors.abs().clamp(max=config.huber_delta)
    return (inner * (2 * errors.abs() - inner)).mean(dim=1)


def make_step(network: torch.nn.Module, config: OptimizationConfig, with_stress: bool, names: Sequence[str] | None = None) -> Step:
    """Return the function that gives the loss and its gradient.

    Weighted means of the `error_sizes` of energy per atom, forces and virial per atom, all in units of the scale. Their weights are
    an argument of the step, so that they may change in a run without another compilation. names: the parameters that the step takes,
    and differentiates with respect to; all by default, and the others keep their values.
    """
    names = [name for name, _ in network.named_parameters()] if names is None else names

    def step(
        parameters: Sequence[torch.Tensor],
        weights: torch.Tensor,
        vectors: torch.Tensor,
        species: torch.Tensor,
        edge_index: torch.Tensor,
        batch: torch.Tensor,
        counts: torch.Tensor,
        energy: torch.Tensor,
        forces: torch.Tensor,
        virial: torch.Tensor,
        energy_weight: torch.Tensor,
        forces_weight: torch.Tensor,
        virial_weight: torch.Tensor,
    ) -> list[torch.Tensor]:
        leaves = [parameter.detach().requires_grad_() for parameter in parameters]
        vectors = vectors.detach().requires_grad_()
        source, target = edge_index[0], edge_index[1]
        atomic = functional_call(network, dict(zip(names, leaves, strict=True)), (vectors, species, edge_index))
        (gradient,) = torch.autograd.grad(atomic.sum(), vectors, create_graph=True)
        predicted_forces = torch.zeros_like(forces).index_add(0, target, gradient).index_add(0, source, -gradient)
        predicted_energy = torch.zeros_like(energy).index_add(0, batch, atomic) / counts
        energy_errors = error_sizes((predicted_energy - energy).unsqueeze(1), config)
        loss = weights[0] * (energy_errors * energy_weight).sum()
        loss = loss + weights[1] * (error_sizes(predicted_forces - forces, config) * forces_weight).sum()
        if with_stress:
            dyads = vectors.unsqueeze(2) * gradient.unsqueeze(1)
            strain_derivative = torch.zeros_like(virial).index_add(0, batch.index_select(0, target), dyads)
            virial_errors = error_sizes((strain_derivative / counts.view(-1, 1, 1) - virial).flatten(1), config)
            loss = loss + weights[2] * (virial_errors * virial_weight).sum()
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        return [loss.detach(), *(torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, gradients, strict=True))]

    return step
