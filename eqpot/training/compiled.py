"""Compiling the training step: one graph for energy, forces and the gradient of the loss.

`torch.compile` does not differentiate twice, so the step is traced through both reverse passes first and the flat graph is
compiled. The result is checked against float64 before it is used.
"""

import copy
import logging
import math
import shutil
from collections.abc import Callable, Sequence

import torch
from torch.fx.experimental import _config as symbolic_shapes
from torch.fx.experimental.proxy_tensor import make_fx

from eqpot.training.config import OptimizationConfig
from eqpot.training.loss import Sample, Step, make_step
from eqpot.training.schedule import loss_weights

logger = logging.getLogger(__name__)

WORTH_COMPILING = 4000
"""Steps from which on compilation pays: a minute, three where nothing has been compiled before."""

_TOLERANCE = {torch.float32: 1e-3, torch.float64: 1e-10}
"""Largest difference of the gradient from eager float64, relative to the gradient's norm."""


def choose_step(
    network: torch.nn.Module,
    config: OptimizationConfig,
    example: Sample,
    with_stress: bool,
    n_steps: int,
    names: Sequence[str] | None = None,
) -> tuple[Step, bool]:
    """Return the training step for the parameters `names` (all by default), compiled if that is wanted and comes out right, and whether.

    n_steps: the length of the whole run, which decides whether compiling pays.
    """
    step = make_step(network, config, with_stress, names)
    wanted = config.compile if config.compile is not None else n_steps >= WORTH_COMPILING
    if not wanted:
        return step, False
    if example.vectors.device.type == "cpu" and not any(shutil.which(name) for name in ("g++", "clang++", "cl")):
        logger.warning("No C++ compiler is installed; training runs uncompiled, several times slower")
        return step, False
    arguments = [example.vectors.new_tensor(loss_weights(config)), *example.tensors()]
    parameters = [parameter.detach() for name, parameter in network.named_parameters() if names is None or name in names]
    logger.info("compiling the training step")
    # By default sizes that agree in the example, such as three structures and three directions, are taken for the same in all batches.
    with symbolic_shapes.patch(use_duck_shape=False):  # type: ignore[attr-defined]
        traced = make_fx(step, tracing_mode="symbolic", _allow_non_fake_inputs=True)(parameters, *arguments)
    compiled = _without_grad(torch.compile(traced, dynamic=True))
    reference = make_step(copy.deepcopy(network).double(), config, with_stress, names)
    deviation = _deviation_from_float64(reference, compiled, parameters, arguments)
    if not deviation <= _TOLERANCE[parameters[0].dtype]:
        logger.warning("The compiled step deviates by %.1e from float64; training runs uncompiled", deviation)
        return step, False
    logger.info("compiled; its gradient deviates by %.1e from float64", deviation)
    return compiled, True


def _without_grad(function: Callable[..., list[torch.Tensor]]) -> Step:
    def call(*arguments: object) -> list[torch.Tensor]:
        with torch.no_grad():
            return function(*arguments)

    return call


def _deviation_from_float64(
    reference: Step, compiled: Step, parameters: Sequence[torch.Tensor], arguments: Sequence[torch.Tensor]
) -> float:
    def to_double(tensor: torch.Tensor) -> torch.Tensor:
        return tensor.double() if tensor.is_floating_point() else tensor

    expected = reference([to_double(parameter) for parameter in parameters], *(to_double(tensor) for tensor in arguments))
    obtained = compiled(parameters, *arguments)
    error = sum(float((a.double() - b).square().sum()) for a, b in zip(obtained, expected, strict=True))
    norm = sum(float(b.square().sum()) for b in expected)
    return math.sqrt(error / norm) if norm > 0 else math.inf
