"""Which frames to label next: those a committee disagrees on, and different ones."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms

from eqpot.data import read_frames
from eqpot.data.readers.ase_formats import text_format
from eqpot.errors import ConfigError, DataError, NeighborError, UnknownElementError
from eqpot.graph import AtomGraph, edge_vectors
from eqpot.neighbors import build_graph
from eqpot.potential import Potential

POOL = 5
"""Frames that compete for a place: the most uncertain ones, so many times the number asked for."""


@dataclass(frozen=True)
class Choice:
    """A selected frame: its index, the committee's disagreement in eV/Å (nan for one potential), and its distance to earlier choices."""

    index: int
    disagreement: float
    distance: float


def read_structures(path: Path) -> list[Atoms]:
    """Read all structures of a file that ASE reads, or of rMD17 npz, without their labels; DataError if that is impossible."""
    if not path.is_file():
        raise DataError(f"There is no file {path}; check the path.")
    if path.suffix == ".npz":
        return [frame.atoms for frame in read_frames(path)]
    try:
        structures: list[Atoms] = ase.io.read(path, index=":", format=text_format(path), do_not_split_by_at_sign=True)  # type: ignore[assignment]
    except Exception as error:
        raise DataError(f"{path} cannot be read by ASE ({type(error).__name__}: {error}); check the file and its format.") from error
    return [Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc) for atoms in structures]


def committee_graphs(potentials: Sequence[Potential], structures: Sequence[Atoms], path: Path) -> list[AtomGraph]:
    """Return the graphs of structures that all potentials know, or the error, with file and frame, why there is none."""
    if len({potential.cutoff for potential in potentials}) > 1:
        raise ConfigError("The potentials have different cutoffs; use a committee that was trained with one.")
    graphs = []
    for index, atoms in enumerate(structures):
        try:
            graphs.append(build_graph(atoms, potentials[0].cutoff))
            for potential in potentials:
                potential.check_elements(graphs[-1].numbers)
        except (NeighborError, UnknownElementError) as error:
            raise DataError(f"{path}, frame {index}: {error}") from error
    return graphs


def disagreements(potentials: Sequence[Potential], graphs: Sequence[AtomGraph]) -> np.ndarray:
    """Return for every structure the largest sample standard deviation of an atom's force vector over the potentials, eV/Å [n_structures].

    The deviation of a vector is the root of the sum of its components' variances.
    """
    largest = []
    for graph in graphs:
        forces = torch.stack([potential.evaluate(graph)["forces"] for potential in potentials])
        largest.append(float(forces.var(dim=0, correction=1).sum(dim=1).max().sqrt()))
    return np.array(largest)


def descriptors(potential: Potential, graphs: Sequence[AtomGraph]) -> np.ndarray:
    """Return invariants of every structure, [n_structures, n_features]: means over its atoms of what the network's readouts read."""
    # A network that averages over rotations calls its readouts once for each.
    read: dict[torch.nn.Module, list[torch.Tensor]] = {}
    handles = [
        module.register_forward_pre_hook(lambda module, inputs: read.setdefault(module, []).append(inputs[0]))
        for name, module in potential.network.named_modules()
        if name.split(".")[-1] == "readout"
    ]
    if not handles:
        raise ConfigError(
            "The network has no readouts whose inputs could tell structures apart; put a potential that eqpot train wrote first."
        )
    rows = []
    try:
        for graph in graphs:
            read.clear()
            with torch.no_grad():
                potential.atomic_energies(edge_vectors(*graph.tensors()[:1], *graph.tensors()[2:]), graph.numbers, graph.edge_index)
            rows.append(torch.cat([torch.stack(calls).double().mean(dim=(0, 1)) for calls in read.values()]).cpu().numpy())
    finally:
        for handle in handles:
            handle.remove()
    return np.array(rows)


def select(n: int, features: np.ndarray, uncertainty: np.ndarray | None = None) -> list[Choice]:
    """Choose up to n of the structures with `features` [n_structures, n_features]; fewer where the rest repeat those that are chosen.

    The most uncertain one comes first, or without `uncertainty` [n_structures] the one farthest from the mean; then again and again that
    which is farthest from all chosen ones, among the `POOL` n most uncertain. Of equals the earlier frame is taken.
    """
    first = np.linalg.norm(features - features.mean(axis=0), axis=1) if uncertainty is None else uncertainty
    pool = np.arange(len(features)) if uncertainty is None else np.sort(np.argsort(-uncertainty, kind="stable")[: POOL * n])
    distances = np.full(len(pool), np.inf)
    chosen: list[Choice] = []
    while len(chosen) < min(n, len(pool)):
        position = int(np.argmax(distances if chosen else first[pool]))
        if distances[position] == 0:
            break
        index = int(pool[position])
        chosen.append(Choice(index, np.nan if uncertainty is None else float(uncertainty[index]), float(distances[position])))
        distances = np.minimum(distances, np.linalg.norm(features[pool] - features[index], axis=1))
    return chosen
