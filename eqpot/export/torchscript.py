"""Export to TorchScript: one file that plain torch loads, without eqpot."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from torch import nn

from eqpot.elements import symbols_of
from eqpot.errors import EqpotError
from eqpot.files import write_atomically
from eqpot.graph import AtomGraph
from eqpot.neighbors import build_graph
from eqpot.potential import Potential

_TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest relative deviation from eager that an export may have."""


class ExportedPotential(nn.Module):
    """The signature of the exported file: one structure in, (energy, forces, stress) out.

    positions [n_atoms, 3] float64 Å, numbers [n_atoms] int64, cell [3, 3] float64 Å (zeros for a molecule), edge_index [2, n_edges] int64
    (row 0 source j, row 1 target i), shifts [n_edges, 3] int64, with r = x_j + shifts @ cell - x_i for every pair within the
    attribute `cutoff` (Å; infinite for a potential without one). Returns energy [] eV, forces [n_atoms, 3] eV/Å, stress [3, 3] eV/Å^3
    (tension positive), float64.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.cutoff = potential.cutoff
        self.known = ", ".join(symbols_of(potential.elements))

    def forward(
        self, positions: torch.Tensor, numbers: torch.Tensor, cell: torch.Tensor, edge_index: torch.Tensor, shifts: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        if bool((self.potential.species_of_number.index_select(0, numbers) < 0).any()):
            raise ValueError("The structure holds an element that this potential was not fitted to; it knows " + self.known)
        batch = torch.zeros_like(numbers)
        result = self.potential(positions, numbers, cell.unsqueeze(0), edge_index, shifts, batch)
        return result["energy"][0], result["forces"], result["stress"][0]


def export_torchscript(potential: Potential, path: str | Path) -> float:
    """Write the scripted potential and return its largest relative deviation from eager on the check structures.

    The bytes are loaded again and compared before they reach `path`; EqpotError, and no file, if they deviate.
    """
    with warnings.catch_warnings():
        # TorchScript is deprecated in recent torch and still what several engines load.
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(ExportedPotential(potential))
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer)
        buffer.seek(0)
        loaded = torch.jit.load(buffer)
    deviation = float(np.max([_deviation(potential, loaded, structure) for structure in check_structures(potential)]))
    if not deviation <= _TOLERANCE[potential.dtype]:
        raise EqpotError(f"The exported module deviates from eager by {deviation:.1e} relative; nothing was written. Please report this.")
    write_atomically(Path(path), buffer.getvalue())
    return deviation


def check_structures(potential: Potential) -> list[Atoms]:
    """Return fixed structures of the potential's elements: a cluster, a single atom, and, with a cutoff, a triclinic crystal and a slab."""
    random = np.random.default_rng(0)
    open_only = potential.cutoff == np.inf
    spacing = 2.0 if open_only else 0.4 * potential.cutoff
    grid = np.stack(np.meshgrid(*[np.arange(3)] * 3), axis=-1).reshape(-1, 3) * spacing
    positions = grid + random.uniform(-0.1, 0.1, grid.shape) * spacing
    numbers = random.choice(potential.elements, len(grid))
    cell = 3 * spacing * np.array([[1.0, 0.0, 0.0], [0.2, 1.0, 0.0], [-0.1, 0.3, 1.1]])
    molecules = [Atoms(numbers, positions), Atoms(numbers[:1], positions[:1])]
    if open_only:
        return molecules
    return [
        *molecules,
        Atoms(numbers, positions, cell=cell, pbc=True),
        Atoms(numbers, positions, cell=cell, pbc=[True, True, False]),
    ]


def _deviation(potential: Potential, exported: torch.nn.Module, atoms: Atoms) -> float:
    graph: AtomGraph = build_graph(atoms, potential.cutoff).to(potential.device)
    expected = potential(*graph.tensors())
    energy, forces, stress = exported(graph.positions, graph.numbers, graph.cells[0], graph.edge_index, graph.shifts)
    pairs = ((energy, expected["energy"][0]), (forces, expected["forces"]), (stress, expected["stress"][0]))
    # np.max and not max: a NaN must come out.
    return float(np.max([float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in pairs]))
