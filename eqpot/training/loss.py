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
    has_stress [n_structures] 1 or 0.
    """

    vectors: torch.Tensor
    species: torch.Tensor
    edge_index: torch.Tensor
    batch: torch.Tensor
    counts: torch.Tensor
    energy: torch.Tensor
    forces: torch.Tensor
    virial: torch.Tensor
    has_stress: torch.Tensor

    def tensors(self) -> list[torch.Tensor]:
        return [
            self.vectors,
            self.species,
            self.edge_index,
            self.batch,
            self.counts,
            self.energy,
            self.forces,
            self.virial,
            self.has_stress,
        ]


def make_sample(labelled: LabelledGraph, potential: Potential) -> Sample:
    """Turn one labelled structure into what the loss reads."""
    graph, dtype, scale = labelled.graph, potential.dtype, potential.scale.cpu()
    species = potential.species_of_number.cpu()[graph.numbers]
    references = potential.reference_energies.cpu()[species].sum()
    volume = torch.linalg.det(graph.cells).abs().view(-1, 1, 1)
    tensors = (
        edge_vectors(*graph.tensors()[:1], *graph.tensors()[2:]).to(dtype),
        species,
        graph.edge_index,
        graph.batch,
        torch.tensor([graph.n_atoms], dtype=dtype),
        ((labelled.energy - references) / graph.n_atoms / scale).to(dtype),
        (labelled.forces / scale).to(dtype),
        (labelled.stress * volume / graph.n_atoms / scale).to(dtype),
        labelled.has_stress.to(dtype),
    )
    return Sample(*(tensor.to(potential.device) for tensor in tensors))


def collate_samples(samples: Sequence[Sample]) -> Sample:
    """Join samples into one batch."""
    edge_index, batch, n_atoms = [], [], 0
    for structure, sample in enumerate(samples):
        edge_index.append(sample.edge_index + n_atoms)
        batch.append(sample.batch + structure)
        n_atoms += len(sample.species)
    joined = {
        name: torch.cat([getattr(sample, name) for sample in samples])
        for name in ("vectors", "species", "counts", "energy", "forces", "virial", "has_stress")
    }
    return Sample(edge_index=torch.cat(edge_index, dim=1), batch=torch.cat(batch), **joined)


Step = Callable[..., list[torch.Tensor]]
"""(parameters, *Sample.tensors()) -> [loss, gradient of every parameter]."""


def make_step(network: torch.nn.Module, config: OptimizationConfig, with_stress: bool) -> Step:
    """Return the function that gives the loss and its gradient.

    Weighted mean squares of the errors of energy per atom, force components and virial per atom, all in units of the scale.
    """
    names = [name for name, _ in network.named_parameters()]

    def step(
        parameters: Sequence[torch.Tensor],
        vectors: torch.Tensor,
        species: torch.Tensor,
        edge_index: torch.Tensor,
        batch: torch.Tensor,
        counts: torch.Tensor,
        energy: torch.Tensor,
        forces: torch.Tensor,
        virial: torch.Tensor,
        has_stress: torch.Tensor,
    ) -> list[torch.Tensor]:
        leaves = [parameter.detach().requires_grad_() for parameter in parameters]
        vectors = vectors.detach().requires_grad_()
        source, target = edge_index[0], edge_index[1]
        atomic = functional_call(network, dict(zip(names, leaves, strict=True)), (vectors, species, edge_index))
        (gradient,) = torch.autograd.grad(atomic.sum(), vectors, create_graph=True)
        predicted_forces = torch.zeros_like(forces).index_add(0, target, gradient).index_add(0, source, -gradient)
        predicted_energy = torch.zeros_like(energy).index_add(0, batch, atomic) / counts
        loss = config.energy_weight * (predicted_energy - energy).square().mean()
        loss = loss + config.forces_weight * (predicted_forces - forces).square().mean()
        if with_stress:
            dyads = vectors.unsqueeze(2) * gradient.unsqueeze(1)
            strain_derivative = torch.zeros_like(virial).index_add(0, batch.index_select(0, target), dyads)
            errors = (strain_derivative / counts.view(-1, 1, 1) - virial).square().mean(dim=(1, 2))
            loss = loss + config.stress_weight * (errors * has_stress).sum() / has_stress.sum().clamp(min=1)
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True)
        return [loss.detach(), *(torch.zeros_like(leaf) if part is None else part for leaf, part in zip(leaves, gradients, strict=True))]

    return step
