"""The builders of neighbour lists and what each can do."""

import importlib.util
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from eqpot.errors import ConfigError
from eqpot.neighbors.brute_force import brute_force
from eqpot.neighbors.matscipy import matscipy
from eqpot.neighbors.torch_cell_list import torch_cell_list
from eqpot.neighbors.torch_cluster import torch_cluster
from eqpot.neighbors.vesin import vesin

Batched = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, float], tuple[torch.Tensor, torch.Tensor]]
"""(positions [n, 3], cells [m, 3, 3], pbc [m, 3], batch [n], cutoff) -> (edge_index [2, n_edges], shifts [n_edges, 3])."""

Single = Callable[[np.ndarray, np.ndarray, np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]
"""(positions [n, 3], cell [3, 3], pbc [3], cutoff) -> (sources, targets [n_edges], shifts [n_edges, 3]).

The cell has a volume, its periodic directions are not strongly sheared, and it holds all atoms.
"""


@dataclass(frozen=True)
class Builder:
    """A way to find all pairs within a cutoff, and what it can do.

    build: all structures of a batch at once, or one by one if `single`. pbc: takes periodic directions; without it shifts are zero, so
    edge vectors do not follow the cell. devices: where its tensors may lie. package: an optional package that it needs, and the
    command that installs it. most_bins: cubes of a cutoff that a cell may hold; larger ones are left to `torch_cell_list`.
    """

    build: Batched | Single
    single: bool = False
    pbc: bool = True
    devices: tuple[str, ...] = ("cpu",)
    package: tuple[str, str] | None = None
    most_bins: float = math.inf

    def is_installed(self) -> bool:
        return self.package is None or importlib.util.find_spec(self.package[0]) is not None


_MOST_BINS = 1e5
"""Where vesin makes its bins larger: it divides by zero, and the process dies, if a direction is left with less than one."""

BUILDERS: dict[str, Builder] = {
    "vesin": Builder(vesin, single=True, package=("vesin", "pip install 'eqpot[vesin]'"), most_bins=_MOST_BINS),
    # Far beyond it, matscipy warns and takes seconds.
    "matscipy": Builder(matscipy, single=True, most_bins=_MOST_BINS),
    "torch_cell_list": Builder(torch_cell_list, devices=("cpu", "cuda")),
    "torch_cluster": Builder(
        torch_cluster,
        pbc=False,
        devices=("cpu", "cuda"),
        package=("torch_cluster", "pip install --no-build-isolation 'eqpot[cluster]'"),
    ),
    "brute_force": Builder(brute_force, single=True),
}
"""All of them give the same list to the last bit; "auto" takes the fastest that is there."""


def choose_builder(name: str, device: torch.device, pbc: bool) -> Builder:
    """Return the builder of that name, or the fastest one for "auto"; ConfigError where it is unknown, missing or cannot do this."""
    if name == "auto":
        if device.type != "cpu":
            return BUILDERS["torch_cell_list"]
        return BUILDERS["vesin"] if BUILDERS["vesin"].is_installed() else BUILDERS["matscipy"]
    if name not in BUILDERS:
        raise ConfigError(f"Neighbour-list builder {name!r} is unknown; use one of auto, {', '.join(BUILDERS)}.")
    builder = BUILDERS[name]
    if builder.package and not builder.is_installed():
        raise ConfigError(f"Neighbour-list builder {name!r} needs {builder.package[0]}; install it with: {builder.package[1]}")
    if pbc and not builder.pbc:
        raise ConfigError(f"Neighbour-list builder {name!r} takes open structures alone; use auto for periodic ones.")
    if device.type not in builder.devices:
        raise ConfigError(f"Neighbour-list builder {name!r} works on {' and '.join(builder.devices)}, not on {device.type}; use auto.")
    return builder
