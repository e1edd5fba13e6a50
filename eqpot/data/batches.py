"""Labelled frames as tensors, and batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch

from eqpot.data.frames import Frame
from eqpot.errors import DataError, NeighborError
from eqpot.graph import AtomGraph, collate
from eqpot.neighbors import build_graph


@dataclass(frozen=True)
class LabelledGraph:
    """A batch of structures with labels, float64.

    energy [n_structures] in eV; forces [n_atoms, 3] in eV/Å; stress [n_structures, 3, 3] in eV/Å^3; each is zero where has_energy,
    has_forces or has_stress [n_structures] is False. weight [n_structures]: what a structure counts in the loss.
    """

    graph: AtomGraph
    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor
    has_stress: torch.Tensor
    has_energy: torch.Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.bool))
    has_forces: torch.Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.bool))
    weight: torch.Tensor = field(default_factory=lambda: torch.ones(1, dtype=torch.float64))


def label_graphs(frames: Sequence[Frame], cutoff: float) -> list[LabelledGraph]:
    """Build the neighbour list of every frame once; DataError, naming the frame, where that is impossible."""
    labelled = []
    for frame in frames:
        try:
            graph = build_graph(frame.atoms, cutoff)
        except NeighborError as error:
            raise DataError(f"{frame.origin}: {error}") from error
        stress = torch.zeros(1, 3, 3, dtype=torch.float64)
        if frame.stress is not None:
            stress[0] = torch.from_numpy(frame.stress)
        labelled.append(
            LabelledGraph(
                graph,
                torch.tensor([frame.energy], dtype=torch.float64),
                torch.from_numpy(frame.forces),
                stress,
                torch.tensor([frame.stress is not None]),
            )
        )
    return labelled


def collate_labelled(items: Sequence[LabelledGraph]) -> LabelledGraph:
    """Join labelled graphs into one batch."""
    names = ("energy", "forces", "stress", "has_stress", "has_energy", "has_forces", "weight")
    return LabelledGraph(collate([item.graph for item in items]), *(torch.cat([getattr(item, name) for item in items]) for name in names))
