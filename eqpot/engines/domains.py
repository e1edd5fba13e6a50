"""One structure cut into domains, a domain for each process."""

import copy
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import torch
from ase import Atoms

from eqpot.errors import ConfigError, NeighborError
from eqpot.ghosts import GhostExchange, Ghosts, exchanging
from eqpot.neighbors import build_graph
from eqpot.neighbors.cells import dual_vectors, wrap
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.potential import Potential


@dataclass(frozen=True)
class Domain:
    """What one process knows of a structure.

    local [n_local], ghosts [n_ghosts]: indices of atoms, ascending; edge_index [2, n_edges]: rows of the two on end, sorted by target;
    vectors [n_edges, 3], Å.
    """

    local: np.ndarray
    ghosts: np.ndarray
    edge_index: torch.Tensor
    vectors: torch.Tensor

    @property
    def rows(self) -> np.ndarray:
        """The atom of each row [n_local + n_ghosts]."""
        return np.concatenate([self.local, self.ghosts])


def wrapped(atoms: Atoms) -> np.ndarray:
    """Return positions [n_atoms, 3] within the cell along periodic directions, Å."""
    cells, pbc = torch.tensor(atoms.cell.array)[None], torch.tensor(atoms.pbc)[None]
    batch = torch.zeros(len(atoms), dtype=torch.int64)
    positions: np.ndarray = wrap(torch.tensor(atoms.positions), dual_vectors(cells, pbc), cells, batch)[0].numpy()
    return positions


def owners(positions: np.ndarray, n_domains: int) -> np.ndarray:
    """Return the domain [n_atoms] of each atom: boxes with equally many, from cuts across the longest side (recursive bisection)."""
    owner = np.zeros(len(positions), dtype=np.int64)

    def cut(members: np.ndarray, first: int, count: int) -> None:
        if count == 1:
            owner[members] = first
            return
        inside = positions[members]
        axis = int(np.argmax(np.ptp(inside, axis=0))) if len(inside) else 0
        order = members[np.argsort(inside[:, axis], kind="stable")]
        half = count // 2
        place = len(order) * half // count
        cut(order[:place], first, half)
        cut(order[place:], first + half, count - half)

    cut(np.arange(len(positions)), 0, n_domains)
    return owner


def cut_domain(atoms: Atoms, positions: np.ndarray, local: np.ndarray, cutoff: float) -> Domain:
    """Return the domain of the atoms `local` (ascending) with all edges that end in it; positions are those of `wrapped`.

    Raises NeighborError where `build_graph` does.
    """
    images, shifts = _near(atoms, positions, local, cutoff)
    places = positions[images] + shifts @ atoms.cell.array
    try:
        graph = build_graph(Atoms(positions=places), cutoff)
    except NeighborError:
        # It counts the domain's images: the whole structure has the numbers that the user knows.
        build_graph(atoms, cutoff)
        raise
    source, target = graph.edge_index.numpy()
    row = np.full(len(positions), -1)
    row[local] = np.arange(len(local))
    is_local = (row[images] >= 0) & ~shifts.any(axis=1)
    kept = is_local[target]
    source, target = source[kept], target[kept]
    ghosts = np.setdiff1d(images[source], local)
    row[ghosts] = len(local) + np.arange(len(ghosts))
    # `images` is not ascending, and kernels want edges sorted by target.
    order = np.argsort(row[images[target]], kind="stable")
    source, target = source[order], target[order]
    edge_index = torch.from_numpy(np.stack([row[images[source]], row[images[target]]]))
    return Domain(local, ghosts, edge_index, torch.from_numpy(places[source] - places[target]))


def _near(atoms: Atoms, positions: np.ndarray, local: np.ndarray, cutoff: float) -> tuple[np.ndarray, np.ndarray]:
    """Return the atoms and translations [n, 3] of all images within the cutoff of the box around the atoms `local`, and of some others."""
    if not len(local):
        return local, np.zeros((0, 3), dtype=np.int64)
    low, high = positions[local].min(axis=0) - cutoff, positions[local].max(axis=0) + cutoff
    cells, pbc = torch.tensor(atoms.cell.array)[None], torch.tensor(atoms.pbc)[None]
    corners = np.array(list(product(*zip(low, high, strict=True))))
    # Atoms have fractional coordinates from 0 to 1: these translations bring some of them into the box's own range.
    fractional = corners @ dual_vectors(cells, pbc)[0].numpy()
    first = np.where(atoms.pbc, np.floor(fractional.min(axis=0)) - 1, 0).astype(int)
    last = np.where(atoms.pbc, np.ceil(fractional.max(axis=0)), 0).astype(int)
    found, shifts = [], []
    for shift in product(*(range(a, b + 1) for a, b in zip(first, last, strict=True))):
        moved = positions + shift @ atoms.cell.array
        members = np.flatnonzero(((moved >= low) & (moved <= high)).all(axis=1))
        found.append(members)
        shifts.append(np.tile(shift, (len(members), 1)))
    return np.concatenate(found), np.concatenate(shifts)


class DomainPotential:
    """A potential that evaluates domains: by the fused kernel where `Potential.evaluate` uses it, and by the network elsewhere."""

    def __init__(self, potential: Potential) -> None:
        """Raises ConfigError for networks that are no `FibreBundleNetwork`."""
        network = potential.network
        if not isinstance(network, FibreBundleNetwork):
            raise ConfigError(f"The network {network.architecture} cannot be cut into domains; train one with geometry fibre_bundle.")
        self.potential = potential
        shared: dict[int, Any] = {id(tensor): tensor for tensor in [*network.parameters(), *network.buffers()]}
        self._network = copy.deepcopy(network, shared)
        for block in self._network.blocks:
            block.exchange = Ghosts()

    def evaluate(
        self, vectors: torch.Tensor, numbers: torch.Tensor, edge_index: torch.Tensor, ghosts: GhostExchange
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return energies [n_local] of local atoms, eV, and the gradient [n_edges, 3] of the energy of all domains, eV/Å; float64.

        vectors [n_edges, 3] Å; numbers [n_local + n_ghosts]; edge_index [2, n_edges], ending at local atoms. Collective; the caller has
        seen to it that elements are known and vectors finite.
        """
        species = self.potential.species_of_number.index_select(0, numbers)
        reference = self.potential.reference_energies.index_select(0, species[: ghosts.n_local])
        fused = self.potential.fused_kernel()
        if fused is not None:
            energies, gradient = fused(vectors, species, edge_index, ghosts=ghosts)
        else:
            with exchanging(ghosts), torch.enable_grad():
                vectors = vectors.detach().requires_grad_()
                energies = self._network(vectors.to(self._network.dtype), species, edge_index, ghosts.n_local).to(torch.float64)
                gradient = torch.autograd.grad(energies.sum(), vectors)[0]
        return self.potential.scale * energies.detach() + reference, self.potential.scale * gradient.to(torch.float64)
