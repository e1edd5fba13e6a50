"""Export to TorchScript: one file that plain torch loads, in Python or C++, without eqpot."""

import io
import warnings
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.units import kJ, mol
from torch import nn

from eqpot.elements import symbols_of
from eqpot.errors import EqpotError
from eqpot.files import write_atomically
from eqpot.graph import AtomGraph
from eqpot.neighbors import build_graph
from eqpot.neighbors.cells import are_flat, dual_vectors, wrap
from eqpot.neighbors.torch_cell_list import torch_cell_list
from eqpot.potential import Potential

TOLERANCE = {torch.float32: 1e-4, torch.float64: 1e-10}
"""Largest relative deviation from eager that an export may have."""

HEADER_NAME = "eqpot.json"
"""The extra file of the archive that holds the header of the model file."""


class ExportedPotential(nn.Module):
    """What the file holds: structures in, a dictionary of `energy`, `energies`, `forces` and `stress` out, as `Potential.forward` has them.

    Everything is float64, in Å, eV, eV/Å and eV/Å^3 (tension positive); numbers are int64. `forward` takes one structure and finds its
    neighbours, `batch` several at once, and `edges` takes the pairs from whoever knows them. Attribute `cutoff`, Å, infinite for a
    potential without one.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.cutoff = potential.cutoff
        self.known = ", ".join(symbols_of(potential.elements))

    def forward(self, positions: torch.Tensor, numbers: torch.Tensor, cell: torch.Tensor, pbc: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return the results of one structure: positions [n_atoms, 3], numbers [n_atoms], cell [3, 3] (rows), pbc [3] bool.

        energy [], energies [n_atoms], forces [n_atoms, 3], stress [3, 3], which is zero where the cell has no volume.
        """
        results = self.batch(positions, numbers, cell.unsqueeze(0), pbc.unsqueeze(0), torch.zeros_like(numbers))
        results["energy"] = results["energy"][0]
        results["stress"] = results["stress"][0]
        return results

    @torch.jit.export
    def batch(
        self, positions: torch.Tensor, numbers: torch.Tensor, cells: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        """Return the results of several structures: cells [m, 3, 3], pbc [m, 3], batch [n_atoms] the structure of each atom, ascending."""
        positions, cells = positions.detach().to(torch.float64), cells.to(torch.float64)
        if not bool(torch.isfinite(positions).all()):
            raise ValueError("The positions hold NaN or infinity; correct the structure.")
        if bool(are_flat(cells, pbc).any()):
            raise ValueError("The periodic lattice vectors are zero or linearly dependent, so the cell has no volume; correct the cell.")
        inside, _ = wrap(positions, dual_vectors(cells, pbc), cells, batch)
        cutoff = self.cutoff
        # math.isinf of an attribute is scripted by torch 2.6, saved, and cannot be loaded.
        if cutoff == torch.inf:
            if bool(pbc.any()):
                raise ValueError("This potential has no cutoff, so it takes structures without periodic directions only.")
            same = batch.unsqueeze(0) == batch.unsqueeze(1)
            edge_index = torch.nonzero(same & ~torch.eye(batch.shape[0], dtype=torch.bool, device=batch.device)).t()
            shifts = torch.zeros([edge_index.shape[1], 3], dtype=torch.int64, device=batch.device)
        else:
            edge_index, shifts = torch_cell_list(inside, cells, pbc, batch, cutoff)
        return self.edges(inside, numbers, cells, edge_index, shifts, batch)

    @torch.jit.export
    def edges(
        self,
        positions: torch.Tensor,
        numbers: torch.Tensor,
        cells: torch.Tensor,
        edge_index: torch.Tensor,
        shifts: torch.Tensor,
        batch: torch.Tensor,
    ) -> dict[str, torch.Tensor]:
        """Return the results of structures whose pairs are known: those within `cutoff`, both directions, others do no harm.

        edge_index [2, n_edges] (row 0 source j, row 1 target i), shifts [n_edges, 3] int64, with r = x_j + shifts @ cell - x_i.
        """
        if not torch.is_grad_enabled():
            raise ValueError("Forces are derivatives, so this module cannot run under no_grad or inference_mode; call it without.")
        if bool((self.potential.species_of_number.index_select(0, numbers) < 0).any()):
            raise ValueError("The structure holds an element that this potential was not fitted to; it knows " + self.known)
        return self.potential(positions, numbers, cells, edge_index, shifts, batch)


class GromacsPotential(nn.Module):
    """The same in the form that GROMACS reads as an NNPot model: nm and kJ/mol.

    Inputs `atom-positions`, `atom-numbers`, `box` and `pbc`, in this order. Returns the energy [], and forces [n_atoms, 3] in
    kJ/(mol nm), both float32.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.exported = ExportedPotential(potential)
        self.kilojoule_per_mole = kJ / mol

    def forward(
        self, positions: torch.Tensor, numbers: torch.Tensor, box: torch.Tensor, pbc: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        results = self.exported(10 * positions.to(torch.float64), numbers.to(torch.int64), 10 * box.to(torch.float64), pbc.to(torch.bool))
        unit = self.kilojoule_per_mole
        return (results["energy"] / unit).to(torch.float32), (10 * results["forces"] / unit).to(torch.float32)


def export_torchscript(potential: Potential, path: str | Path, header: str = "{}", gromacs: bool = False) -> float:
    """Write the scripted potential and return its largest relative deviation from eager on the check structures.

    The bytes are loaded again and compared before they reach `path`; EqpotError, and no file, if they deviate. `header` is kept in
    the file. gromacs: write a `GromacsPotential`.
    """
    with warnings.catch_warnings():
        # TorchScript is deprecated in recent torch and still what several engines load.
        warnings.simplefilter("ignore")
        scripted = torch.jit.script(GromacsPotential(potential) if gromacs else ExportedPotential(potential))
        buffer = io.BytesIO()
        torch.jit.save(scripted, buffer, _extra_files={HEADER_NAME: header})
        buffer.seek(0)
        loaded = torch.jit.load(buffer)
    exported = loaded.exported if gromacs else loaded
    deviation = float(np.max([_deviation(potential, exported, structure) for structure in check_structures(potential)]))
    if not deviation <= TOLERANCE[potential.dtype]:
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
    pbc = torch.tensor(atoms.pbc, device=potential.device)
    own_list = exported(graph.positions, graph.numbers, graph.cells[0], pbc)
    given_list = exported.edges(*graph.tensors())  # type: ignore[operator]
    pairs = [(found[name], expected[name]) for found in (own_list, given_list) for name in expected]
    # np.max and not max: a NaN must come out.
    return float(np.max([float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in pairs]))
