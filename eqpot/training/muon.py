"""The optimizer Muon (K. Jordan et al. 2024, kellerjordan.github.io/posts/muon): momentum with orthogonalised updates of matrices."""

from collections.abc import Iterable, Sequence

import torch

_POLYNOMIALS = ((8.0934, -23.6204, 17.4462), (3.6366, -2.7219, 0.5365), (2.6613, -1.9772, 0.4526))
"""Coefficients of p(s) = a s + b s^3 + c s^5, applied one after the other: each is nearest to 1 where the ones before leave singular
values of 0.01 to 1 (Amsel et al. 2025, arXiv 2505.16932), which they bring to within 0.27 of 1, and smaller ones to 78 times their size."""

_BATCH = 16
"""Matrices orthogonalised at a time: few enough to stay in a core's cache."""


class Muon(torch.optim.Optimizer):
    """Momentum m <- mu m + (1 - mu) g; every block of a weight then moves by the orthogonal matrix nearest to mu m + (1 - mu) g.

    A gradient is dominated by few directions, and Adam follows them; here all directions of a matrix move alike, so the
    weak ones are learned in far fewer steps. Weights are cut into blocks of `block` rows and columns where that divides them: such a
    block is a map of one group of channels to another, as a factor of a product, a gate, or a degree of a kernel.

    The update of an [m, n] block is scaled by 0.2 sqrt(max(m, n)), which gives its entries a root mean square of 0.2, as those of Adam
    have (Liu et al. 2025, arXiv 2502.16982): learning rates of the two are then comparable.
    """

    def __init__(
        self,
        parameters: Iterable[torch.Tensor],
        lr: float,
        block: int,
        momentum: float = 0.95,
        weight_decay: float = 0.0,
    ) -> None:
        """Weights [..., m, n] of linear maps; `weight_decay` is decoupled."""
        defaults = {"lr": lr, "block": block, "momentum": momentum, "weight_decay": weight_decay}
        super().__init__(parameters, defaults)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Move all weights once; gradients are taken from `.grad`."""
        assert closure is None
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            for weight in weights:
                if not self.state[weight]:
                    self.state[weight]["momentum"] = torch.zeros_like(weight)
            gradients = [weight.grad for weight in weights]
            momenta = [self.state[weight]["momentum"] for weight in weights]
            torch._foreach_lerp_(momenta, gradients, 1 - group["momentum"])
            directions = torch._foreach_lerp(gradients, momenta, group["momentum"])
            updates = orthogonal_updates(directions, group["block"])
            if group["weight_decay"]:
                torch._foreach_mul_(weights, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_add_(weights, updates, alpha=-group["lr"])


def orthogonal_updates(directions: Sequence[torch.Tensor], block: int) -> list[torch.Tensor]:
    """Return, for each tensor [..., m, n], the orthogonal factors of its blocks, scaled to a root mean square of 0.2."""
    cut = [_cut(direction, block) for direction in directions]
    by_shape: dict[tuple[int, int], list[int]] = {}
    for index, blocks in enumerate(cut):
        by_shape.setdefault((blocks.shape[-2], blocks.shape[-1]), []).append(index)
    updates = list(directions)
    for (rows, columns), members in by_shape.items():
        joined = torch.cat([cut[index].reshape(-1, rows, columns) for index in members])
        joined = torch.cat([orthogonalise(part) for part in joined.split(_BATCH)]) * (0.2 * max(rows, columns) ** 0.5)
        parts = joined.split([cut[index].shape[:-2].numel() for index in members])
        for index, part in zip(members, parts, strict=True):
            updates[index] = part.reshape(cut[index].shape).transpose(-3, -2).reshape(directions[index].shape)
    return updates


def orthogonalise(matrices: torch.Tensor) -> torch.Tensor:
    """Return U V^T, nearly, of the singular value decompositions U S V^T of matrices [k, m, n] (Newton-Schulz iteration)."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.transpose(1, 2) if tall else matrices
    # Largest entries of 1: squares of squares of a small gradient would underflow. One that vanishes must not become a step of full size.
    x = x / x.abs().amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    gram = torch.bmm(x, x.transpose(1, 2))
    # The root of the norm of X X^T bounds the singular values, closer than the norm of X does.
    scale = gram.flatten(1).norm(dim=1).sqrt().clamp(min=1.0).view(-1, 1, 1)
    x, gram = x / scale, gram / scale.square()
    for index, (a, b, c) in enumerate(_POLYNOMIALS):
        if index:
            gram = torch.bmm(x, x.transpose(1, 2))
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.transpose(1, 2) if tall else x


def _cut(tensor: torch.Tensor, block: int) -> torch.Tensor:
    """[..., m, n] -> [k, m / block, n / block, block, block]; a side that `block` does not divide stays whole."""
    rows, columns = tensor.shape[-2:]
    down, across = (rows // block if rows % block == 0 else 1), (columns // block if columns % block == 0 else 1)
    return tensor.reshape(-1, down, rows // down, across, columns // across).transpose(2, 3)
