"""Radius search of torch-cluster, for open structures; `pip install --no-build-isolation eqpot[cluster]`."""

import torch


def torch_cluster(
    positions: torch.Tensor, _cells: torch.Tensor, _pbc: torch.Tensor, batch: torch.Tensor, cutoff: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return edge_index [2, n_edges] and zero shifts [n_edges, 3] of a batch of open structures; `Builder` says of what."""
    from torch_cluster import radius

    most = 64
    while True:
        target, source = radius(positions, positions, cutoff, batch, batch, max_num_neighbors=most)
        fullest = int(torch.bincount(target, minlength=1).max())
        # The search stops silently at the number it is told: ask again until no atom reaches it. (Every atom also finds itself.)
        if fullest < most:
            break
        most *= 4
    kept = torch.nonzero(source != target).squeeze(1)
    return torch.stack([source, target]).index_select(1, kept), torch.zeros((len(kept), 3), dtype=torch.int64, device=positions.device)
