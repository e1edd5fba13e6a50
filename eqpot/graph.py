"""`AtomGraph`: a batch of structures as the tensors that a network reads."""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import torch


def edge_vectors(
    positions: torch.Tensor, cells: torch.Tensor, edge_index: torch.Tensor, shifts: torch.Tensor, batch: torch.Tensor
) -> torch.Tensor:
    """Return r = x_j + shifts @ cell - x_i for every edge j -> i, [n_edges, 3] in Å.

    The one place where positions, cells and shifts become edge vectors; scripted exports use it too.
    """
    source, target = edge_index[0], edge_index[1]
    # Products of matrices would round differently for one structure and for a batch of them.
    along = shifts.to(positions.dtype)
    if cells.shape[0] == 1:
        # The same without a cell for every edge.
        vectors = cells[0]
        offsets = along[:, 0:1] * vectors[0] + along[:, 1:2] * vectors[1] + along[:, 2:3] * vectors[2]
    else:
        edge_cells = cells.index_select(0, batch.index_select(0, target))
        offsets = along[:, 0:1] * edge_cells[:, 0] + along[:, 1:2] * edge_cells[:, 1] + along[:, 2:3] * edge_cells[:, 2]
    return positions.index_select(0, source) - positions.index_select(0, target) + offsets


@dataclass(frozen=True)
class AtomGraph:
    """A batch of structures.

    positions  [n_atoms, 3] float64, Å
    numbers    [n_atoms] int64, atomic numbers
    cells      [n_structures, 3, 3] float64, lattice vectors as rows, Å; zeros where there is no cell
    edge_index [2, n_edges] int64, row 0 the source atom j, row 1 the target atom i, sorted by target
    shifts     [n_edges, 3] int64, lattice translations of the source atom
    batch      [n_atoms] int64, the structure of each atom, ascending
    """

    positions: torch.Tensor
    numbers: torch.Tensor
    cells: torch.Tensor
    edge_index: torch.Tensor
    shifts: torch.Tensor
    batch: torch.Tensor

    @property
    def n_atoms(self) -> int:
        return self.positions.shape[0]

    @property
    def n_structures(self) -> int:
        return self.cells.shape[0]

    def to(self, device: torch.device | str) -> "AtomGraph":
        """Return the graph on another device."""
        return AtomGraph(*(getattr(self, field.name).to(device) for field in fields(self)))

    def tensors(self) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the fields in the order in which `Potential.forward` takes them."""
        return self.positions, self.numbers, self.cells, self.edge_index, self.shifts, self.batch


def collate(graphs: Sequence[AtomGraph]) -> AtomGraph:
    """Join graphs into one batch; atoms and edges keep their order."""
    edge_index, batch = [], []
    n_atoms = n_structures = 0
    for graph in graphs:
        edge_index.append(graph.edge_index + n_atoms)
        batch.append(graph.batch + n_structures)
        n_atoms += graph.n_atoms
        n_structures += graph.n_structures
    return AtomGraph(
        positions=torch.cat([graph.positions for graph in graphs]),
        numbers=torch.cat([graph.numbers for graph in graphs]),
        cells=torch.cat([graph.cells for graph in graphs]),
        edge_index=torch.cat(edge_index, dim=1),
        shifts=torch.cat([graph.shifts for graph in graphs]),
        batch=torch.cat(batch),
    )
