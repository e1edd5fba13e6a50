"""Atoms too close or alone, and cells that do not fit their periodicity."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.data import covalent_radii

from eqpot.data.doctor.findings import Finding, first
from eqpot.data.frames import Frame
from eqpot.data.reference_energies import is_isolated_atom
from eqpot.errors import NeighborError
from eqpot.graph import edge_vectors
from eqpot.neighbors import build_graph

CLOSE = 0.5
"""Share of the sum of covalent radii (Cordero et al. 2008) below which two atoms overlap; bonds under pressure keep above 0.7."""

_SAMPLES = 64
"""Distances of a frame by which it is compared with others."""


@dataclass(frozen=True)
class Shape:
    """What is remembered of a frame's distances.

    closeness: smallest distance over the sum of covalent radii, and that distance in Å. n_alone: atoms without neighbours in the cutoff.
    kind: composition and number of distances of each pair of elements; frames of different kinds are different structures.
    distances [n_samples]: some of the distances, sorted by pair of elements and size.
    """

    closeness: tuple[float, float]
    n_alone: int
    kind: tuple[bytes, bytes]
    distances: np.ndarray


def measure(frames: Sequence[Frame], cutoff: float) -> tuple[list[Shape | None], list[Finding]]:
    """Return the shape of every frame, None for one whose neighbours cannot be found, which is an error."""
    shapes: list[Shape | None] = []
    refused: dict[str, list[str]] = {}
    for frame in frames:
        try:
            shapes.append(_shape(frame, cutoff))
        except NeighborError as error:
            shapes.append(None)
            refused.setdefault(str(error), []).append(frame.origin)
    findings = [Finding("error", "geometry", message, first(origins)) for message, origins in list(refused.items())[:5]]
    return shapes, findings


def _shape(frame: Frame, cutoff: float) -> Shape:
    graph = build_graph(frame.atoms, cutoff)
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
    distances = np.linalg.norm(vectors.numpy(), axis=1)
    source, target = frame.atoms.numbers[graph.edge_index.numpy()]
    composition = np.bincount(frame.atoms.numbers).tobytes()
    n_alone = len(frame.atoms) - len(np.unique(graph.edge_index[1].numpy()))
    if len(distances) == 0:
        return Shape((np.inf, np.inf), n_alone, (composition, b""), np.zeros(0))
    closeness = distances / (covalent_radii[source] + covalent_radii[target])
    worst = int(np.argmin(closeness))
    pairs = np.minimum(source, target) * 128 + np.maximum(source, target)
    order = np.lexsort((distances, pairs))
    sampled = order[np.linspace(0, len(order) - 1, min(_SAMPLES, len(order))).astype(int)]
    counts = np.stack(np.unique(pairs, return_counts=True)).tobytes()
    return Shape((float(closeness[worst]), float(distances[worst])), n_alone, (composition, counts), distances[sampled])


def check_distances(frames: Sequence[Frame], shapes: Sequence[Shape | None], cutoff: float) -> list[Finding]:
    """Overlaps, atoms beyond the cutoff of all others, and isolated atoms."""
    findings = []
    known = [(frame, shape) for frame, shape in zip(frames, shapes, strict=True) if shape is not None]
    close = sorted((shape.closeness[0], shape.closeness[1], frame.origin) for frame, shape in known if shape.closeness[0] < CLOSE)
    if close:
        message = (
            f"Atoms overlap in {len(close)} frames: the closest are {close[0][1]:.2f} Å apart, {close[0][0]:.0%} of their covalent radii."
        )
        findings.append(Finding("warning", "overlaps", message, first(origin for _, _, origin in close)))
    single = [frame.origin for frame, _ in known if is_isolated_atom(frame.atoms)]
    if single:
        message = f"{len(single)} frames hold one isolated atom; data.reference_energies: isolated_atoms refers energies to them."
        findings.append(Finding("note", "isolated atoms", message, first(single)))
    lonely = [(frame.origin, shape.n_alone) for frame, shape in known if shape.n_alone and not is_isolated_atom(frame.atoms)]
    if lonely:
        message = (
            f"{sum(count for _, count in lonely)} atoms in {len(lonely)} frames have no neighbour within {cutoff:g} Å: a potential with "
            "this cutoff gives them no force."
        )
        findings.append(Finding("warning", "isolated atoms", message, first(origin for origin, _ in lonely)))
    return findings


def check_cells(frames: Sequence[Frame]) -> list[Finding]:
    """Cells that are there without periodicity, periodicity without a cell, atoms outside."""
    findings = []
    closed = [frame for frame in frames if frame.atoms.cell.rank == 3]
    unused = [frame.origin for frame in closed if not frame.atoms.pbc.any()]
    if unused:
        message = f"{len(unused)} frames have a cell and no periodic direction: is pbc missing in the file?"
        findings.append(Finding("warning", "pbc", message, first(unused)))
    missing = [frame.origin for frame in frames if any(frame.atoms.pbc & ~frame.atoms.cell.any(axis=1))]
    if missing:
        message = f"{len(missing)} frames are periodic in a direction without a lattice vector; correct pbc or the cell."
        findings.append(Finding("error", "pbc", message, first(missing)))
    partial = [frame.origin for frame in frames if frame.atoms.pbc.any() and not frame.atoms.pbc.all()]
    if partial and len(partial) < len(frames):
        findings.append(
            Finding("note", "pbc", f"{len(partial)} of {len(frames)} frames are periodic in one or two directions.", first(partial))
        )
    outside = [frame.origin for frame in closed if frame.atoms.pbc.all() and _far_outside(frame)]
    if outside:
        message = f"{len(outside)} frames have atoms more than a cell away from it (unwrapped); energies and forces do not depend on that."
        findings.append(Finding("note", "pbc", message, first(outside)))
    stressed = [frame.origin for frame in frames if frame.stress is not None and not frame.atoms.pbc.all()]
    if stressed:
        message = f"{len(stressed)} frames have a stress and are not periodic in all directions: over which volume is it?"
        findings.append(Finding("warning", "pbc", message, first(stressed)))
    return findings


def _far_outside(frame: Frame) -> bool:
    scaled = frame.atoms.cell.scaled_positions(frame.atoms.positions)
    return bool((scaled < -1).any() or (scaled > 2).any())
