"""Random numbers that depend on seed and step alone (Philox; Salmon et al. 2011): a restart needs no generator's state."""

from collections.abc import Sequence

import numpy as np
import torch

THERMOSTAT, BAROSTAT = 0, 1
"""Streams that never share a number."""


def generator(seed: int, step: int, stream: int = THERMOSTAT) -> np.random.Generator:
    """Return the generator of a step; what one stream draws is independent of all others."""
    return np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, step, stream]))


def standard_normal(counts: Sequence[int], width: int, seeds: Sequence[int], step: int, stream: int = THERMOSTAT) -> torch.Tensor:
    """Return normal numbers [sum of counts, width] on the CPU; counts: rows of each system, whose numbers do not depend on others."""
    rows = [generator(seed, step, stream).standard_normal((count, width)) for count, seed in zip(counts, seeds, strict=True)]
    return torch.from_numpy(rows[0] if len(rows) == 1 else np.concatenate(rows))
