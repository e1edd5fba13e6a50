"""Optimizer, schedule and moving average of the weights."""

import math
from collections.abc import Sequence

import torch

from eqpot.training.config import OptimizationConfig


def make_optimizer(parameters: Sequence[torch.nn.Parameter], config: OptimizationConfig) -> torch.optim.AdamW:
    """AdamW with AMSGrad (Reddi et al. 2018); the decay acts on weight matrices, not on biases."""
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in parameters if p.dim() <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=config.learning_rate, amsgrad=True, fused=True)


def learning_rate(config: OptimizationConfig, step: int, progress: float) -> float:
    """Linear warm-up over the first steps times a cosine from 1 at progress 0 to 0 at progress 1."""
    warmup = min(1.0, (step + 1) / (config.warmup_steps + 1))
    return config.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def update_average(average: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor], step: int, decay: float) -> None:
    """Move the average towards the parameters; early on faster, so that the initial weights are soon forgotten."""
    effective = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average), list(parameters), 1 - effective)
