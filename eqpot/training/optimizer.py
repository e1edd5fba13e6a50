"""Optimizer and moving average of the weights."""

from collections.abc import Sequence

import torch
from torch import nn

from eqpot.network.base import Network
from eqpot.network.fibre import FibreLinear
from eqpot.training.config import OptimizationConfig
from eqpot.training.muon import Muon


class Optimizer:
    """Muon for the weights of linear maps and AdamW with AMSGrad (Reddi et al. 2018) for everything else.

    Embeddings, biases, kernels of single channels and maps to or from one number are no matrices whose directions could be balanced.
    """

    def __init__(self, network: Network, config: OptimizationConfig, names: Sequence[str] | None = None) -> None:
        """names: the parameters that move; all by default."""
        parameters = [value for name, value in network.named_parameters() if names is None or name in names]
        moving = {id(parameter) for parameter in parameters}
        linear = [module.weight for module in network.modules() if isinstance(module, nn.Linear | FibreLinear)]
        matrices = [weight for weight in linear if min(weight.shape[-2:]) > 1 and id(weight) in moving]
        chosen = {id(weight) for weight in matrices}
        others = [parameter for parameter in parameters if id(parameter) not in chosen]
        self._parts: list[torch.optim.Optimizer] = []
        if matrices:
            block = network.embedding.embedding_dim
            self._parts.append(Muon(matrices, config.learning_rate, block=block, weight_decay=config.weight_decay))
        if others:
            self._parts.append(torch.optim.AdamW(others, lr=config.learning_rate, weight_decay=0.0, amsgrad=True, fused=True))
        self._part_of = {parameter: part for part in self._parts for group in part.param_groups for parameter in group["params"]}

    def step(self, rate: float) -> None:
        """Move the parameters along their `.grad` at the learning rate `rate`."""
        for part in self._parts:
            for group in part.param_groups:
                group["lr"] = rate
            part.step()

    def state(self, parameter: torch.Tensor) -> dict[str, torch.Tensor]:
        """Return what is remembered of a parameter; nothing before the first step."""
        return dict(self._part_of[parameter].state.get(parameter, {}))

    def restore(self, parameter: torch.Tensor, state: dict[str, torch.Tensor]) -> None:
        """Put back what `state` returned."""
        self._part_of[parameter].state[parameter] = {name: value.to(parameter.device) for name, value in state.items()}


def update_average(average: Sequence[torch.Tensor], parameters: Sequence[torch.Tensor], step: int, decay: float) -> None:
    """Move the average towards the parameters; early on faster, so that the initial weights are soon forgotten."""
    effective = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_(list(average), list(parameters), 1 - effective)
