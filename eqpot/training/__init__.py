"""Fitting a potential to labelled frames."""

from eqpot.training.config import TrainConfig
from eqpot.training.metrics import evaluate
from eqpot.training.trainer import Trainer

__all__ = ["TrainConfig", "Trainer", "evaluate"]
