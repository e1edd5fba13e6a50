"""Cell list in plain torch: batches, any cell, any device; TorchScript compiles it, so that exports can hold it."""

import torch

from eqpot.neighbors.cells import dual_vectors, times_matrix


def torch_cell_list(
    positions: torch.Tensor, cells: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return edge_index [2, n_edges] and shifts [n_edges, 3] of a batch of structures, edges in no particular order.

    positions [n_atoms, 3] float64 in Å, in the cell or near it; cells [n_structures, 3, 3]; pbc [n_structures, 3] bool;
    batch [n_atoms]. Cost linear in the number of atoms. Periodic images are made explicit, and all of them sorted into bins of half
    a cutoff, of which only occupied ones take memory; pairs are searched in pieces of bounded size.
    """
    device = positions.device
    if positions.shape[0] == 0:
        return torch.zeros((2, 0), dtype=torch.int64, device=device), torch.zeros((0, 3), dtype=torch.int64, device=device)
    atoms, shifts, places = _images(positions, cells, pbc, batch, cutoff)
    lowest, highest = _bounds(positions, batch, cells.shape[0])
    # Bins that a cutoff is wide: two leave 125 / 8 of a cutoff cubed to search instead of 27, at the price of more rows.
    reach = 2
    # They grow where there would be more of them than 64-bit numbers count.
    most = int((2.0**60 / cells.shape[0]) ** (1 / 3)) - 2 * reach - 3
    size = torch.clamp((highest - lowest) / most, min=cutoff / reach)
    origin = lowest - (reach + 0.5) * size
    counts = torch.floor((highest - origin) / size).to(torch.int64) + reach + 1
    base = torch.cumsum(counts.prod(1), 0) - counts.prod(1)
    stride = torch.stack([counts[:, 1] * counts[:, 2], counts[:, 2]], 1)
    system = batch.index_select(0, atoms)
    bins = torch.floor((places - origin.index_select(0, system)) / size.index_select(0, system)).to(torch.int64)
    numbers = base.index_select(0, system) + (bins[:, :2] * stride.index_select(0, system)).sum(1) + bins[:, 2]
    # In the order of the bins neighbours in space are neighbours in memory.
    numbers, order = torch.sort(numbers)
    atoms, shifts, places = atoms.index_select(0, order), shifts.index_select(0, order), places.index_select(0, order)
    targets = torch.nonzero((shifts == 0).all(1)).squeeze(1)
    strides = stride.index_select(0, batch.index_select(0, atoms.index_select(0, targets)))
    source, target = _search(places, numbers, targets, strides, reach, cutoff)
    return torch.stack([atoms.index_select(0, source), atoms.index_select(0, target)]), shifts.index_select(0, source)


def _bounds(values: torch.Tensor, batch: torch.Tensor, n_structures: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the lowest and the highest values [n_structures, 3] of each structure."""
    index = batch.unsqueeze(1).expand(-1, 3)
    nothing = torch.zeros((n_structures, 3), dtype=values.dtype, device=values.device)
    return nothing.scatter_reduce(0, index, values, "amin", include_self=False), nothing.scatter_reduce(
        0, index, values, "amax", include_self=False
    )


def _images(
    positions: torch.Tensor, cells: torch.Tensor, pbc: torch.Tensor, batch: torch.Tensor, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return atom [n_images], shift [n_images, 3] and place [n_images, 3] of all images that can lie within the cutoff of an atom."""
    dual = dual_vectors(cells, pbc)
    fractions = times_matrix(positions, dual, batch)
    lowest, highest = _bounds(fractions, batch, cells.shape[0])
    # Rounding must not lose an image; too many do no harm.
    width = cutoff * torch.linalg.vector_norm(dual, dim=1) * (1 + 1e-9) + 1e-9
    atoms = torch.arange(positions.shape[0], device=positions.device)
    shifts = torch.zeros_like(positions, dtype=torch.int64)
    for axis in range(3):
        system = batch.index_select(0, atoms)
        place = fractions.index_select(0, atoms)[:, axis]
        periodic = pbc.index_select(0, system)[:, axis]
        first = torch.ceil((lowest - width).index_select(0, system)[:, axis] - place).to(torch.int64)
        last = torch.floor((highest + width).index_select(0, system)[:, axis] - place).to(torch.int64)
        first, last = torch.where(periodic, first, 0), torch.where(periodic, last, 0)
        counts = last - first + 1
        parents = torch.repeat_interleave(torch.arange(atoms.shape[0], device=atoms.device), counts)
        number = torch.arange(parents.shape[0], device=atoms.device) - (torch.cumsum(counts, 0) - counts).index_select(0, parents)
        atoms, shifts = atoms.index_select(0, parents), shifts.index_select(0, parents)
        shifts[:, axis] = first.index_select(0, parents) + number
    system = batch.index_select(0, atoms)
    places = positions.index_select(0, atoms) + times_matrix(shifts.to(positions.dtype), cells, system)
    # Images beyond the box around the atoms have no partner; a sheared cell has many of them.
    lowest, highest = _bounds(positions, batch, cells.shape[0])
    near = (places >= (lowest - cutoff).index_select(0, system)) & (places <= (highest + cutoff).index_select(0, system))
    kept = torch.nonzero(near.all(1)).squeeze(1)
    return atoms.index_select(0, kept), shifts.index_select(0, kept), places.index_select(0, kept)


def _search(
    places: torch.Tensor, numbers: torch.Tensor, targets: torch.Tensor, strides: torch.Tensor, reach: int, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return sources and targets [n_edges] among the images, sorted by the numbers of their bins, `strides` apart [n_targets, 2]."""
    device = places.device
    side = torch.arange(-reach, reach + 1, device=device)
    rows = torch.cartesian_prod(side, side)
    # A piece fits the cache of a processor, or fills a GPU.
    piece = 1 << (24 if places.is_cuda else 17)
    found_sources: list[torch.Tensor] = []
    found_targets: list[torch.Tensor] = []
    for start in range(0, targets.shape[0], piece >> 6):
        some = targets[start : start + (piece >> 6)]
        # Integers have no matrix product on a GPU.
        offsets = (strides[start : start + (piece >> 6)].unsqueeze(1) * rows).sum(2)
        middle = (numbers.index_select(0, some).unsqueeze(1) + offsets).reshape(-1)
        first = torch.searchsorted(numbers, middle - reach)
        candidates = torch.searchsorted(numbers, middle + reach, right=True) - first
        ends = torch.cumsum(candidates, 0)
        row, done = 0, 0
        while row < ends.shape[0]:
            # As many rows as a piece holds, at least one.
            stop = max(row + 1, int(torch.searchsorted(ends, done + piece, right=True)))
            end = int(ends[stop - 1])
            parents = row + torch.repeat_interleave(torch.arange(stop - row, device=device), candidates[row:stop])
            number = torch.arange(done, end, device=device) - (ends - candidates).index_select(0, parents)
            source = first.index_select(0, parents) + number
            target = some.index_select(0, torch.div(parents, rows.shape[0], rounding_mode="floor"))
            vectors = places.index_select(0, source) - places.index_select(0, target)
            near = torch.nonzero(((vectors * vectors).sum(1) < cutoff * cutoff) & (source != target)).squeeze(1)
            found_sources.append(source.index_select(0, near))
            found_targets.append(target.index_select(0, near))
            row, done = stop, end
    return torch.cat(found_sources), torch.cat(found_targets)
