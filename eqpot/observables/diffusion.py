"""How atoms leave their places: mean squared displacements and diffusion coefficients."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.integrate import cumulative_trapezoid

from eqpot.errors import ConfigError, DataError
from eqpot.observables.series import autocorrelation

CM2_PER_S = 0.1
"""1 Å^2/fs in cm^2/s."""

_FEWEST = 4
"""Lags that a window needs for a line and its error."""


@dataclass(frozen=True)
class Diffusion:
    """A diffusion coefficient in Å^2/fs with its standard error from the scatter of blocks, which few blocks tell to some 30 %.

    window: the lags it is taken from, fs. exponent: that of the growth of the MSD with time there; D means something where it is near 1,
    for it is 2 while atoms fly freely and 0 where they are bound. None for Green-Kubo.
    """

    coefficient: float
    error: float
    window: tuple[float, float]
    exponent: float | None


def mean_squared_displacement(positions: np.ndarray) -> np.ndarray:
    """Return MSD(k) = < |r_i(t + k) - r_i(t)|^2 > over atoms and all origins t; Å^2, k = 0 ... n_frames - 1 intervals, [n_frames].

    positions: [n_frames, n_atoms, 3], Å, unwrapped and without drift, as `Trajectory.at_rest` gives them. By Fourier transforms in
    O(n log n): Calandrini, Pellegrini, Calligari, Hinsen, Kneller, Collection SFN 12, 201 (2011), sec. 4.2. Lags near the length of the
    trajectory have few origins and no accuracy.
    """
    n_frames, n_atoms = positions.shape[:2]
    # Near the origin, where the difference of two large sums loses the fewest digits.
    relative = positions - positions.mean(axis=0)
    squares = (relative**2).sum(axis=(1, 2))
    start = np.concatenate([[0.0], np.cumsum(squares)])
    # Sum over t of r(t)^2 + r(t + k)^2: the first n - k frames and the last n - k.
    both = start[:0:-1] + (start[-1] - start[:-1])
    msd = both / np.arange(n_frames, 0, -1) - 2 * autocorrelation(relative)
    msd[0] = 0.0
    return np.maximum(msd, 0.0) / n_atoms


def einstein(positions: np.ndarray, interval: float, window: tuple[float, float] | None = None, n_blocks: int = 5) -> Diffusion:
    """Return D = (1 / 6) d MSD / d t: the slope of a least-squares line through the MSD of the whole trajectory within the window.

    positions: as in `mean_squared_displacement`, of the atoms to average over; interval: between frames, fs; window: first and last lag,
    fs, by default 10 % to 50 % of a block; the error is from the same slope in `n_blocks` consecutive blocks. Periodic cells slow
    diffusion down by k_B T 2.837 / (6 pi eta L), not corrected here (Yeh, Hummer, J. Phys. Chem. B 108, 15873 (2004)).
    Raises DataError for too short a trajectory and one without atoms, ConfigError for an interval that is not positive and a window that a
    block does not hold.
    """
    lags = _window(positions, interval, window, n_blocks)
    times = lags * interval

    def slope(part: np.ndarray) -> float:
        return float(np.polyfit(times, mean_squared_displacement(part)[lags], 1)[0]) / 6

    msd = mean_squared_displacement(positions)[lags]
    return Diffusion(slope(positions), _scatter(slope, positions, n_blocks), (float(times[0]), float(times[-1])), _exponent(times, msd))


def _exponent(times: np.ndarray, msd: np.ndarray) -> float:
    """Return d log MSD / d log t; of a liquid, whose atoms rattle in cages before they leave, without the constant that this adds.

    The slopes of the two halves of the window do not know of a constant. Where atoms stay, they are noise.
    """
    if not (msd > 0).all():
        return 0.0
    whole = float(np.polyfit(np.log(times), np.log(msd), 1)[0])
    halves = zip(np.array_split(times, 2), np.array_split(msd, 2), strict=True)
    (early, first), (late, last) = ((part.mean(), np.polyfit(part, values, 1)[0]) for part, values in halves)
    if not 0.3 < whole < 0.8 or min(first, last) <= 0:
        return whole
    return float(min(1.0, 1 + np.log(last / first) / np.log(late / early)))


def green_kubo(velocities: np.ndarray, interval: float, window: tuple[float, float] | None = None, n_blocks: int = 5) -> Diffusion:
    """Return D = (1 / 3) int_0^t < v(0) . v(t') > dt', the mean of that integral over the upper limits t within the window.

    velocities: [n_frames, n_atoms, 3], Å/fs, of the atoms to average over, without drift; the rest as in `einstein`, of whose slope this is
    the derivative, so that the two differ where the interval is too long for the trapezoidal rule. Frenkel, Smit, Understanding
    Molecular Simulation, 2nd ed., eq. 4.4.11. Raises as `einstein` does.
    """
    lags = _window(velocities, interval, window, n_blocks)

    def integral(part: np.ndarray) -> float:
        correlation = autocorrelation(part)[: lags[-1] + 1] / part.shape[1]
        return float(cumulative_trapezoid(correlation, dx=interval, initial=0.0)[lags].mean()) / 3

    window = float(lags[0] * interval), float(lags[-1] * interval)
    return Diffusion(integral(velocities), _scatter(integral, velocities, n_blocks), window, None)


def _scatter(function: Callable[[np.ndarray], float], frames: np.ndarray, n_blocks: int) -> float:
    size = len(frames) // n_blocks
    values = [function(frames[size * block : size * (block + 1)]) for block in range(n_blocks)]
    return float(np.std(values, ddof=1) / np.sqrt(n_blocks))


def _window(frames: np.ndarray, interval: float, window: tuple[float, float] | None, n_blocks: int) -> np.ndarray:
    """Return the lags of the window, in intervals, all of which lie in a block."""
    n_frames, n_atoms = frames.shape[:2]
    if n_atoms == 0:
        raise DataError("The trajectory has no atoms, and diffusion is a mean over them; choose some.")
    if not interval > 0:
        raise ConfigError(f"The interval between frames is {interval:g} fs; it must be positive.")
    if n_blocks < 2:
        raise ConfigError(f"{n_blocks} blocks have no scatter; use 2 or more.")
    size = n_frames // n_blocks
    if window is None:
        lags = np.arange(max(1, size // 10), size // 2 + 1)
    else:
        lags = np.arange(max(1, round(window[0] / interval)), round(window[1] / interval) + 1)
        if len(lags) and lags[-1] >= size:
            raise ConfigError(
                f"The window ends at {window[1]:g} fs, a block at {size * interval:g} fs; use an earlier end, fewer blocks or a longer run."
            )
    if len(lags) < _FEWEST:
        raise DataError(
            f"{n_frames} frames in {n_blocks} blocks leave {len(lags)} lags to take diffusion from; give at least {_FEWEST} by a longer "
            "trajectory or a wider window."
        )
    return lags
