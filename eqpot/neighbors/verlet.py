"""Neighbour lists that outlive a step: pairs within cutoff plus skin are kept until atoms or cell have moved too far (Verlet 1967)."""

from dataclasses import dataclass
from numbers import Real
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms

from eqpot.errors import ConfigError, NeighborError
from eqpot.graph import AtomGraph
from eqpot.neighbors.cells import dual_vectors, times_matrix
from eqpot.neighbors.search import all_pairs, check_finite, find_pairs, near_pairs, within

_SMALL = 64
"""Atoms up to which all pairs of an open structure are kept: to look at each is cheaper than ever to search."""

_BUILD_COST = 3.0
"""Cost of finding an edge over that of looking at it again, about; benchmarks/neighbors.py measures both."""


@dataclass
class _Reference:
    """Structures when their pairs were found, the pairs, and how long they have served; skins, ages [n_structures].

    is_whole: all pairs of open structures are kept, so that no motion can outdate them.
    """

    positions: torch.Tensor
    cells: torch.Tensor
    pbc: torch.Tensor
    batch: torch.Tensor
    skins: torch.Tensor
    ages: torch.Tensor
    edge_index: torch.Tensor
    shifts: torch.Tensor
    is_whole: bool = False

    def is_of(self, positions: torch.Tensor, cells: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor) -> bool:
        """Whether these are the same atoms and boundaries on the same device, wherever they have moved."""
        return (
            self.positions.device == positions.device
            and len(self.cells) == len(cells)
            and torch.equal(self.batch, batch)
            and torch.equal(self.pbc, pbc)
        )


class VerletList:
    """The pairs within a cutoff of structures in motion, searched anew only where that is needed.

    What it returns is, to the last bit, what `neighbor_list` returns, whatever skin and history. Each structure of a batch has its own
    reference: with x' = x A + d, where A takes the reference's periodic lattice vectors to the present ones and d is what
    remains after lattice translations, no pair within the cutoff is missed as long as (cutoff + 2 max |d|) |A^-1| <= cutoff + skin.

    skin: in Å, or "auto": none as long as structures come unrelated, then what costs least at the speed that is observed.
    Attributes: `skin` in use (Å; infinity where all pairs of small open structures are kept), `n_calls`, `n_builds`.
    """

    def __init__(self, cutoff: float, skin: float | Literal["auto"] = "auto", builder: str = "auto") -> None:
        """Raise ConfigError for a cutoff that is not positive or a skin that is negative."""
        if not cutoff > 0:
            raise ConfigError(f"The cutoff is {cutoff} Å; it must be positive.")
        if skin != "auto" and not (isinstance(skin, Real) and 0 <= skin < np.inf):
            raise ConfigError(f"The skin is {skin!r}; give a number of Å that is not negative, or auto.")
        self.cutoff = float(cutoff)
        self.wanted_skin = skin
        self.builder = builder
        self.n_calls = self.n_builds = 0
        self._reference: _Reference | None = None

    def __getstate__(self) -> dict[str, Any]:
        # Copies and other processes search anew.
        return self.__dict__ | {"_reference": None}

    @property
    def skin(self) -> float:
        return 0.0 if self._reference is None else max(self._reference.skins.tolist(), default=0.0)

    @property
    def is_whole(self) -> bool:
        """Whether all pairs of open structures are kept, so that no motion can outdate them."""
        return self._reference is not None and self._reference.is_whole

    def graph(self, atoms: Atoms, device: torch.device | str = "cpu", near: bool = True) -> AtomGraph:
        """Return the `AtomGraph` of one structure, found on the device; errors as in `neighbor_list`.

        near: only the edges within the cutoff; without it those of `candidates`.
        """
        # A user's array may run backwards in memory or have foreign byte order, which torch does not read.
        positions = torch.tensor(np.ascontiguousarray(atoms.positions, dtype=np.float64), device=device)
        numbers = torch.tensor(atoms.numbers, dtype=torch.int64, device=device)
        cells = torch.tensor(atoms.cell.array, dtype=torch.float64, device=device).unsqueeze(0)
        batch = torch.zeros(len(atoms), dtype=torch.int64, device=device)
        if near and self.builder == "auto" and positions.device.type == "cpu" and len(atoms) <= _SMALL and not atoms.pbc.any():
            check_finite(positions, "positions")
            check_finite(cells[0], "lattice vectors")
            self.n_calls, self.n_builds, self._reference = self.n_calls + 1, self.n_builds + 1, None
            return AtomGraph(positions, numbers, cells, *near_pairs(positions.numpy(), self.cutoff), batch)
        find = self.update if near else self.candidates
        edge_index, shifts = find(positions, cells, torch.tensor(atoms.pbc, device=device).unsqueeze(0), batch)
        return AtomGraph(positions, numbers, cells, edge_index, shifts, batch)

    @torch.inference_mode(False)
    def update(
        self, positions: torch.Tensor, cells: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return edge_index [2, n_edges] and shifts [n_edges, 3] of a batch; arguments as in `AtomGraph`, pbc [n_structures, 3] bool.

        Raises what `neighbor_list` raises.
        """
        edge_index, shifts = self.candidates(positions, cells, pbc, batch)
        return within(positions.detach().to(torch.float64), cells.detach().to(torch.float64), batch, edge_index, shifts, self.cutoff)

    @torch.inference_mode(False)
    def candidates(
        self, positions: torch.Tensor, cells: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Do as `update` does, but leave in what is kept beyond the cutoff, as `Potential.evaluate` passes it over at less cost."""
        # What is kept must neither hold a caller's autograd graph nor lie in an inference mode, and needs the digits.
        positions, cells = positions.detach().to(torch.float64), cells.detach().to(torch.float64)
        check_finite(positions, "positions")
        check_finite(cells.reshape(-1, 3), "lattice vectors")
        self.n_calls += 1
        reference = self._reference
        if reference is None or not reference.is_of(positions, cells, pbc, batch):
            reference = self._reference = self._start(positions, cells, pbc, batch)
            needed, wraps = torch.full_like(reference.skins, torch.inf), None
        elif reference.is_whole:
            return reference.edge_index, reference.shifts
        else:
            needed, wraps = _motion(reference, positions, cells, self.cutoff)
        reference.ages += 1
        stale = ~(needed <= reference.skins)
        if stale.any():
            # Those that are halfway there come along: structures searched at different times would need a search at every step.
            stale = ~(2 * needed <= reference.skins)
            self._build(reference, positions, cells, stale, needed)
            wraps = None if wraps is None else torch.where(stale.index_select(0, batch).unsqueeze(1), 0, wraps)
        edge_index, shifts = reference.edge_index, reference.shifts
        if wraps is not None and wraps.any():
            shifts = shifts + wraps.index_select(0, edge_index[1]) - wraps.index_select(0, edge_index[0])
        return edge_index, shifts

    def _start(self, positions: torch.Tensor, cells: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor) -> _Reference:
        """Return a reference of which no structure has been searched yet: their skins are NaN."""
        if self.cutoff == np.inf and pbc.any():
            raise NeighborError(
                "The potential has no cutoff, so an atom of a periodic structure would have endless neighbours; use a potential with a "
                "cutoff, or set pbc to False for a molecule."
            )
        nothing = torch.zeros((0, 3), dtype=torch.int64, device=positions.device)
        skins = torch.full_like(cells[:, 0, 0], torch.nan)
        return _Reference(positions, cells, pbc.clone(), batch.clone(), skins, torch.zeros_like(skins), nothing[:, :2].T, nothing)

    def _build(
        self, reference: _Reference, positions: torch.Tensor, cells: torch.Tensor, stale: torch.Tensor, needed: torch.Tensor
    ) -> None:
        """Search the pairs of the stale structures; `needed` [n_structures]: the skins that they would have needed."""
        self.n_builds += 1
        batch, pbc = reference.batch, reference.pbc
        small = (torch.bincount(batch, minlength=len(cells)) <= _SMALL) & (self.builder == "auto")
        whole = ~pbc.any(1) & small | (self.cutoff == np.inf)
        searched = stale & ~whole
        rates = needed / reference.ages
        skin = 0.0
        if searched.any():
            skin = self._best_skin(float(rates[searched].max())) if self.wanted_skin == "auto" else float(self.wanted_skin)
        parts = []
        if not stale.all():
            kept = ~stale.index_select(0, batch.index_select(0, reference.edge_index[1]))
            parts.append((reference.edge_index[:, kept], reference.shifts[kept]))
        if (stale & whole).any():
            _, _, members, atoms = _members(stale & whole, positions, cells, batch)
            edge_index, shifts = all_pairs(members)
            parts.append((atoms[edge_index], shifts))
        if searched.all():
            parts.append(find_pairs(positions, cells, pbc, batch, self.cutoff + skin, self.builder))
        elif searched.any():
            places, lattices, members, atoms = _members(searched, positions, cells, batch)
            edge_index, shifts = find_pairs(places, lattices, pbc[searched], members, self.cutoff + skin, self.builder)
            parts.append((atoms[edge_index], shifts))
        edge_index, shifts = parts[0]
        if len(parts) > 1:
            edge_index, shifts = torch.cat([edges for edges, _ in parts], dim=1), torch.cat([shifts for _, shifts in parts])
            order = torch.sort(edge_index[1], stable=True)[1]
            edge_index, shifts = edge_index[:, order], shifts[order]
        reference.edge_index, reference.shifts = edge_index, shifts
        reference.positions = torch.where(stale.index_select(0, batch).unsqueeze(1), positions, reference.positions)
        reference.cells = torch.where(stale.view(-1, 1, 1), cells, reference.cells)
        reference.skins[stale] = skin
        reference.skins[stale & whole] = torch.inf
        reference.is_whole = bool(torch.isinf(reference.skins).all()) and not bool(pbc.any())
        reference.ages[stale] = 0

    def _best_skin(self, rate: float) -> float:
        """Return the skin of least cost if every step needs `rate` more of it; 0 where no skin would outlive a step."""
        skins = np.arange(0.0, 2.01, 0.05)
        steps = np.floor(skins / rate) + 1 if rate > 0 else np.full_like(skins, np.inf)
        steps[0] = 1
        return float(skins[np.argmin((1 + skins / self.cutoff) ** 3 * (1 + _BUILD_COST / steps))])


def _members(
    chosen: torch.Tensor, positions: torch.Tensor, cells: torch.Tensor, batch: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return positions, cells and batch of the chosen structures alone, and the numbers that their atoms have among all."""
    atoms = torch.nonzero(chosen.index_select(0, batch)).squeeze(1)
    members = (torch.cumsum(chosen, 0) - 1).index_select(0, batch.index_select(0, atoms))
    return positions.index_select(0, atoms), cells[chosen], members, atoms


def _motion(reference: _Reference, positions: torch.Tensor, cells: torch.Tensor, cutoff: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the skins that are needed now [n_structures] and the lattice translations since the reference [n_atoms, 3]."""
    batch, pbc = reference.batch, reference.pbc
    dual = dual_vectors(cells, pbc)
    moved, stretch = reference.positions, torch.ones_like(cells[:, 0, 0])
    if not torch.equal(cells, reference.cells):
        # Takes the periodic lattice vectors along and leaves what is orthogonal to them.
        transform = torch.eye(3, dtype=cells.dtype, device=cells.device) + dual_vectors(reference.cells, pbc) @ (cells - reference.cells)
        moved = times_matrix(moved, transform, batch)
        stretch = 1 / torch.linalg.svdvals(transform).amin(1)
    displacements = positions - moved
    wraps = torch.round(times_matrix(displacements, dual, batch))
    lengths = torch.linalg.vector_norm(displacements - times_matrix(wraps, cells, batch), dim=1)
    largest = torch.zeros_like(stretch).scatter_reduce(0, batch, lengths, "amax")
    return (cutoff + 2 * largest) * stretch - cutoff, wraps.to(torch.int64)
