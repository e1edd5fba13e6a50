"""The schedule of a run: learning rate, weights of the loss, which validation is the best, and what ends it early."""

import math
from typing import Any

from eqpot.checkpoint import restore_attributes
from eqpot.training.config import OptimizationConfig

_STATE = ("best", "stale", "reductions", "stage", "is_spent")

_SMALLEST_RATE = 1e-3
"""Share of the peak below which a plateau's learning rate moves nothing any more."""


class Schedule:
    """Where a run stands in its schedule. It follows from progress and validation errors alone, so it is the same in all processes.

    best: the lowest score of this stage; stale: validations since then; reductions: of a plateau's learning rate; stage: 1 or 2;
    is_spent: whether patience is at its end, or a plateau's learning rate is.
    """

    def __init__(self, config: OptimizationConfig) -> None:
        self.config = config
        self.best = math.inf
        self.stale = self.reductions = 0
        self.stage = 1
        self.is_spent = False

    def state(self) -> dict[str, Any]:
        """Return what `restore` takes, for a checkpoint."""
        return {name: getattr(self, name) for name in _STATE}

    def restore(self, state: dict[str, Any]) -> None:
        """Put back what `state` returned; errors as in `restore_attributes`."""
        restore_attributes(self, _STATE, state)

    @property
    def is_over(self) -> bool:
        """Whether the run ends before its time; the first of two stages only makes room for the second."""
        return self.is_spent and not self._has_stage_ahead

    @property
    def loss_weights(self) -> list[float]:
        """Weights of energy, forces and stress in this stage."""
        return loss_weights(self.config, self.stage)

    @property
    def _has_stage_ahead(self) -> bool:
        return self.config.stage_two is not None and self.stage == 1

    def advance(self, progress: float) -> None:
        """Begin stage two if it is time. Scores with other weights do not compare: the search for the best begins anew."""
        stage_two = self.config.stage_two
        if stage_two is not None and self.stage == 1 and (self.is_spent or progress >= stage_two.start):
            self.stage, self.best, self.stale, self.is_spent = 2, math.inf, 0, False

    def score(self, errors: dict[str, float]) -> float:
        """Return the validation loss of the results of `evaluate`, with this stage's weights of the training loss."""
        names = ("energy_rmse_mev_per_atom", "force_rmse_mev_per_ang", "virial_rmse_mev_per_atom")
        return sum(weight * errors.get(name, 0.0) ** 2 for weight, name in zip(self.loss_weights, names, strict=True))

    def judge(self, errors: dict[str, float]) -> bool:
        """Take note of a validation, and return whether it is the best of this stage."""
        settings, score = self.config, self.score(errors)
        if score < self.best:
            self.best, self.stale = score, 0
            return True
        self.stale += 1
        if settings.schedule == "plateau" and self.stale % settings.plateau_patience == 0:
            self.reductions += 1
            self.is_spent = settings.plateau_factor**self.reductions < _SMALLEST_RATE
        self.is_spent = self.is_spent or self.stale == settings.patience
        return False

    def learning_rate(self, step: int, progress: float) -> float:
        """Return the rate of a step: linear warm-up, times a cosine from 1 at progress 0 to 0 at 1, or times a plateau's reductions."""
        settings = self.config
        warmup = min(1.0, (step + 1) / (settings.warmup_steps + 1))
        if settings.schedule == "plateau":
            return settings.learning_rate * warmup * settings.plateau_factor**self.reductions
        return settings.learning_rate * warmup * 0.5 * (1 + math.cos(math.pi * min(progress, 1.0)))


def loss_weights(config: OptimizationConfig, stage: int = 1) -> list[float]:
    """Return the weights of energy, forces and stress in a stage."""
    weights = {"energy_weight": config.energy_weight, "forces_weight": config.forces_weight, "stress_weight": config.stress_weight}
    if stage == 2 and config.stage_two is not None:
        weights.update(config.stage_two.model_dump(include=set(weights), exclude_none=True))
    return list(weights.values())
