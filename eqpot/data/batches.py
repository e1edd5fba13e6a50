"""Labelled frames as tensors, and batches of them."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import overload

import numpy as np
import torch

from eqpot.data.cache import VERSION, read_tensors, write_tensors
from eqpot.data.frames import Frame
from eqpot.errors import DataError, NeighborError
from eqpot.graph import AtomGraph, collate
from eqpot.neighbors import build_graph


@dataclass(frozen=True)
class LabelledGraph:
    """A batch of structures with labels, float64; labels are zero where the mask of their name is False.

    energy [n_structures] in eV; forces [n_atoms, 3] in eV/Å; stress [n_structures, 3, 3] in eV/Å^3; has_energy, has_forces and
    has_stress [n_structures] bool; weight [n_structures] that of each structure in the loss.
    """

    graph: AtomGraph
    energy: torch.Tensor
    forces: torch.Tensor
    stress: torch.Tensor
    has_energy: torch.Tensor
    has_forces: torch.Tensor
    has_stress: torch.Tensor
    weight: torch.Tensor


def label_graphs(frames: Sequence[Frame], cutoff: float, cache: Path | None = None) -> Sequence[LabelledGraph]:
    """Build the neighbour list of every frame once; DataError, naming the frame, where that is impossible.

    cache: a folder where the lists are kept for these structures and this cutoff; graphs are then made as they are asked for.
    """
    if cache is None:
        return [_labelled(frame, _graph(frame, cutoff)) for frame in frames]
    path = cache / f"edges-{_digest(frames, cutoff)}.safetensors"
    if read_tensors(path) is None:
        graphs = [_graph(frame, cutoff) for frame in frames]
        edges = {
            "count": np.array([graph.edge_index.shape[1] for graph in graphs]),
            # Half of int64: edges are most of a file.
            "edge_index": torch.cat([graph.edge_index for graph in graphs], dim=1).to(torch.int32).numpy(),
            "shifts": torch.cat([graph.shifts for graph in graphs]).to(torch.int32).numpy(),
        }
        write_tensors(path, edges, {})
    stored = read_tensors(path)
    return label_graphs(frames, cutoff) if stored is None else _MappedGraphs(frames, stored[0])


class _MappedGraphs(Sequence[LabelledGraph]):
    """Labelled graphs whose edges stay in a mapped file until they are asked for."""

    def __init__(self, frames: Sequence[Frame], edges: dict[str, torch.Tensor]) -> None:
        self.frames = frames
        self.edges = edges
        self.starts = [0, *accumulate(edges["count"].tolist())]

    def __len__(self) -> int:
        return len(self.frames)

    @overload
    def __getitem__(self, index: int) -> LabelledGraph: ...

    @overload
    def __getitem__(self, index: slice) -> list[LabelledGraph]: ...

    def __getitem__(self, index: int | slice) -> LabelledGraph | list[LabelledGraph]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        frame, which = self.frames[index], slice(self.starts[index], self.starts[index + 1])
        graph = AtomGraph(
            positions=torch.tensor(frame.atoms.positions),
            numbers=torch.tensor(frame.atoms.numbers),
            cells=torch.tensor(frame.atoms.cell.array).unsqueeze(0),
            edge_index=self.edges["edge_index"][:, which].to(torch.int64),
            shifts=self.edges["shifts"][which].to(torch.int64),
            batch=torch.zeros(len(frame.atoms), dtype=torch.int64),
        )
        return _labelled(frame, graph)


def _graph(frame: Frame, cutoff: float) -> AtomGraph:
    try:
        return build_graph(frame.atoms, cutoff)
    except NeighborError as error:
        raise DataError(f"{frame.origin}: {error}") from error


def _labelled(frame: Frame, graph: AtomGraph) -> LabelledGraph:
    forces, stress = np.zeros((graph.n_atoms, 3)), np.zeros((3, 3))
    return LabelledGraph(
        graph,
        torch.tensor([0.0 if frame.energy is None else frame.energy], dtype=torch.float64),
        torch.tensor(forces if frame.forces is None else frame.forces),
        torch.tensor(stress if frame.stress is None else frame.stress).unsqueeze(0),
        torch.tensor([frame.energy is not None]),
        torch.tensor([frame.forces is not None]),
        torch.tensor([frame.stress is not None]),
        torch.tensor([frame.weight], dtype=torch.float64),
    )


def _digest(frames: Sequence[Frame], cutoff: float) -> str:
    digest = hashlib.sha256(f"{VERSION} {cutoff!r} {len(frames)}".encode())
    for frame in frames:
        atoms = frame.atoms
        for array in (atoms.numbers, atoms.positions, atoms.cell.array, atoms.pbc):
            digest.update(array.tobytes())
    return digest.hexdigest()[:32]


def collate_labelled(items: Sequence[LabelledGraph]) -> LabelledGraph:
    """Join labelled graphs into one batch."""
    labels = ("energy", "forces", "stress", "has_energy", "has_forces", "has_stress", "weight")
    joined = {name: torch.cat([getattr(item, name) for item in items]) for name in labels}
    return LabelledGraph(graph=collate([item.graph for item in items]), **joined)


def batches_by_size(counts: Sequence[int], limit: int) -> list[list[int]]:
    """Cut a sequence of structures, by their counts of atoms or edges, into batches of at most `limit`; indices in order.

    A structure above the limit has a batch of its own.
    """
    batches: list[list[int]] = []
    total = 0
    for index, count in enumerate(counts):
        if not batches or total + count > limit:
            batches.append([])
            total = 0
        batches[-1].append(index)
        total += count
    return batches
