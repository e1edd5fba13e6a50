"""Ghosts: atoms of other domains that a domain's own atoms have as neighbours, and how features reach them.

Of a structure that is cut into domains each process holds its own, local, atoms first and after them ghosts, of which it knows position
and element. Edges end at local atoms and may begin at ghosts. Between two blocks of a network, ghosts need the features that
their owners have just computed; in the reverse pass owners need the gradients that ghosts have collected. One cutoff of ghosts is
enough whatever the number of blocks.

The operator `eqpot::ghost_exchange(features, n_atoms)` appends the rows of ghosts to features [n_local, ...] of local atoms. Whoever cuts
a structure into domains says how, by `exchanging`. Without that it is the identity where there are no ghosts, and an error where there are.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol

import torch
from torch import nn

from eqpot.errors import EqpotError


class GhostExchange(Protocol):
    """How rows [n_atoms, width], of local atoms and then ghosts, travel; both methods are collective, and change them in place."""

    n_local: int

    def forward(self, rows: torch.Tensor) -> None:
        """Give ghosts the rows of their owners."""

    def reverse(self, rows: torch.Tensor) -> None:
        """Add the rows of ghosts to those of their owners."""


class NoGhosts(nn.Module):
    """What stands between the blocks of a network of whole structures."""

    def forward(self, features: torch.Tensor, n_atoms: int) -> torch.Tensor:  # noqa: ARG002 (as in `Ghosts`)
        return features


class Ghosts(nn.Module):
    """What stands between the blocks of a network of domains."""

    def forward(self, features: torch.Tensor, n_atoms: int) -> torch.Tensor:
        """Return features [n_atoms, ...] from those of local atoms [n_local, ...]."""
        return torch.ops.eqpot.ghost_exchange(features, n_atoms)


_active: ContextVar[GhostExchange | None] = ContextVar("ghosts", default=None)


@contextmanager
def exchanging(ghosts: GhostExchange) -> Iterator[None]:
    """Let `eqpot::ghost_exchange` use `ghosts`, and the reverse pass of what is computed meanwhile, whichever thread runs it."""
    before = _active.set(ghosts)
    try:
        yield
    finally:
        _active.reset(before)


@torch.library.custom_op("eqpot::ghost_exchange", mutates_args=())
def ghost_exchange(features: torch.Tensor, n_atoms: int) -> torch.Tensor:
    """Append the rows of ghosts to features [n_local, ...]; EqpotError where there are ghosts and nobody knows their owners."""
    ghosts = _active.get()
    if ghosts is None:
        if len(features) != n_atoms:
            raise EqpotError(f"{n_atoms - len(features)} ghosts have no owners: evaluate domains within `eqpot.ghosts.exchanging`.")
        return features.clone()
    rows = features.new_zeros((n_atoms, *features.shape[1:]))
    rows[: len(features)] = features
    ghosts.forward(rows.flatten(1))
    return rows


@ghost_exchange.register_fake
def _(features: torch.Tensor, n_atoms: int) -> torch.Tensor:
    return features.new_empty((n_atoms, *features.shape[1:]))


def _keep(ctx: Any, inputs: tuple[torch.Tensor, int], output: torch.Tensor) -> None:  # noqa: ARG001 (torch calls it so)
    ctx.n_local, ctx.ghosts = inputs[0].shape[0], _active.get()


def _backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None]:
    rows = gradient.contiguous().clone()
    if ctx.ghosts is not None:
        ctx.ghosts.reverse(rows.flatten(1))
    return rows[: ctx.n_local], None


ghost_exchange.register_autograd(_backward, setup_context=_keep)
