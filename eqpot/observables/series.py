"""Series of correlated samples: averages with error bars, correlation times, equilibration, drift."""

from dataclasses import dataclass

import numpy as np
from scipy import fft

from eqpot.errors import ConfigError, DataError

_COLUMNS = 256
"""Series that are transformed at a time: transforms of a whole trajectory would take several times its memory."""

_FEWEST = 4
"""Samples below which nothing can be said about how they scatter."""


@dataclass(frozen=True)
class Average:
    """The mean of a series of correlated samples, in the unit of the series.

    standard_error: of the mean, from the statistical inefficiency g; block_error: the same from the scatter of ten block means or, where
    there are replicas, of theirs. n_samples / g samples are independent.
    """

    mean: float
    standard_error: float
    block_error: float
    standard_deviation: float
    inefficiency: float
    n_samples: int

    @property
    def error(self) -> float:
        """The larger of the two errors: a fast oscillation hides slow correlation from the first, blocks that are short from the second."""
        return max(self.standard_error, self.block_error)


@dataclass(frozen=True)
class Drift:
    """Slope of a straight line through a series, and its standard error, in the unit of the series per unit of time."""

    slope: float
    error: float


def autocorrelation(values: np.ndarray) -> np.ndarray:
    """Return C(k) = sum_s 1 / (n - k) sum_i x_s(i) x_s(i + k), k = 0 ... n - 1, by fast Fourier transforms.

    values: [n, ...], series along the first axis, over which the others are summed; no mean is subtracted. Returns [n].
    """
    n = len(values)
    columns = np.asarray(values, dtype=np.float64).reshape(n, -1)
    # Twice as long with zeros, or the end of a series would meet its beginning.
    length = fft.next_fast_len(2 * n, real=True)
    power = np.zeros(length // 2 + 1)
    for start in range(0, columns.shape[1], _COLUMNS):
        power += (np.abs(fft.rfft(columns[:, start : start + _COLUMNS], length, axis=0)) ** 2).sum(axis=1)
    return fft.irfft(power, length)[:n] / np.arange(n, 0, -1)


def statistical_inefficiency(values: np.ndarray) -> float:
    """Return g = 1 + 2 sum_k (1 - k / n) C(k) / C(0), the number of samples that are worth one independent sample; 1 for a constant.

    values: [n], or [n_replicas, n] of independent runs of one ensemble, whose mean is a common one. The sum ends where C first falls to
    zero, beyond which it is noise (Chodera, Swope, Pitera, Seok, Dill, J. Chem. Theory Comput. 3, 26 (2007), eqs. 17-20). The
    autocorrelation time is (g - 1) / 2 intervals. Raises DataError for less than 4 samples or NaN.
    """
    values = _check(values, n_axes=2)
    if np.ptp(values) <= 1e-13 * abs(values).max():
        return 1.0
    correlation = autocorrelation((values - values.mean()).T)
    negative = np.nonzero(correlation <= 0)[0]
    end = int(negative[0]) if len(negative) else len(correlation)
    lags = np.arange(1, end)
    return float(1 + 2 * ((1 - lags / len(correlation)) * correlation[1:end]).sum() / correlation[0])


def equilibration(values: np.ndarray) -> int:
    """Return how many of the first samples to discard: the t of the first half that minimizes sum_{i >= t} (x_i - mean_t)^2 / (n - t)^2.

    values: [n]; mean_t: of what remains. That is the squared error of the mean but for the statistical inefficiency, whose noise in short
    remainders would choose in its place. White, Simulation 69, 323 (1997). A t close to n / 2 tells that the series has not settled.
    Raises DataError as `statistical_inefficiency` does.
    """
    # Less the mean, or large means would leave no digits for the scatter.
    backward = _check(values)[::-1] - np.mean(values)
    counts = np.arange(1, len(backward) + 1)
    scatter = np.cumsum(backward**2) - np.cumsum(backward) ** 2 / counts
    errors = (scatter / counts**2)[::-1]
    return int(np.argmin(errors[: len(errors) // 2 + 1]))


def block_error(values: np.ndarray, n_blocks: int = 10) -> float:
    """Return the standard error of the mean from the scatter of the means of `n_blocks` equal consecutive blocks.

    values: [n]; what does not fill the blocks is left out at the start. Itself known to a relative 1 / sqrt(2 (n_blocks - 1)). The blocks
    must be much longer than the autocorrelation time: Flyvbjerg, Petersen, J. Chem. Phys. 91, 461 (1989). DataError for less than one
    sample a block; ConfigError for less than two blocks.
    """
    if n_blocks < 2:
        raise ConfigError(f"{n_blocks} blocks have no scatter; use 2 or more.")
    size = len(values) // n_blocks
    if size == 0:
        raise DataError(f"{len(values)} samples do not fill {n_blocks} blocks; use fewer blocks or a longer series.")
    means = np.asarray(values)[-size * n_blocks :].reshape(n_blocks, size).mean(axis=1)
    return float(means.std(ddof=1) / np.sqrt(n_blocks))


def average(values: np.ndarray) -> Average:
    """Return the mean of a series [n], or of replicas [n_replicas, n], with its errors; discard equilibration first.

    Raises DataError for less than 4 samples or NaN.
    """
    values = _check(values, n_axes=2)
    replicas = values.ndim == 2 and len(values) > 1
    values = values if replicas else values.ravel()
    inefficiency, deviation = statistical_inefficiency(values), float(values.std(ddof=1))
    return Average(
        mean=float(values.mean()),
        standard_error=deviation * float(np.sqrt(inefficiency / values.size)),
        block_error=block_error(values.ravel(), len(values) if replicas else min(10, len(values))),
        standard_deviation=deviation,
        inefficiency=inefficiency,
        n_samples=values.size,
    )


def drift(times: np.ndarray, values: np.ndarray) -> Drift:
    """Return the slope of the least-squares line through values [n] at times [n].

    Its error is that of independent residuals times sqrt(g), g the statistical inefficiency of the residuals. DataError for less than 4
    samples or NaN.
    """
    times, values = _check(times), _check(values)
    slope, offset = np.polyfit(times - times.mean(), values, 1)
    residuals = values - offset - slope * (times - times.mean())
    variance = (residuals**2).sum() / (len(values) - 2) / ((times - times.mean()) ** 2).sum()
    return Drift(float(slope), float(np.sqrt(variance * statistical_inefficiency(residuals))))


def _check(values: np.ndarray, n_axes: int = 1) -> np.ndarray:
    values = np.asarray(values, dtype=np.float64)
    if not 1 <= values.ndim <= n_axes or values.shape[-1] < _FEWEST:
        raise DataError(f"A series of shape {values.shape} has no error bars; give one axis of at least {_FEWEST} samples.")
    if not np.isfinite(values).all():
        raise DataError(f"Sample {int(np.argmin(np.isfinite(values)))} of the series is NaN or infinite; leave such samples out.")
    return values
