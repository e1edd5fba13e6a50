"""How atoms vibrate: velocity autocorrelation functions and spectra."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from ase.data import chemical_symbols
from scipy import constants, signal

from eqpot.errors import ConfigError, DataError
from eqpot.observables.series import autocorrelation

WAVENUMBER = 1e13 / constants.c
"""1/fs as a wavenumber, 1/cm."""

_HANN_WIDTH = 1.44
"""Full width at half maximum of a line under the Hann window, in units of 1 / segment (Harris, Proc. IEEE 66, 51 (1978), table 1)."""


@dataclass(frozen=True)
class Spectrum:
    """A vibrational density of states.

    wavenumbers [n], 1/cm, up to 1 / (2 c interval), beyond which vibrations are folded back; densities: symbol -> modes per 1/cm [n] of
    all atoms of that element. Their sum `total` integrates to 3 for each atom that moves. resolution: width of a sharp line at half
    height, 1/cm. n_segments: spectra that were averaged.
    """

    wavenumbers: np.ndarray
    densities: Mapping[str, np.ndarray]
    resolution: float
    n_segments: int

    @property
    def total(self) -> np.ndarray:
        """Density of states of all atoms [n], modes per 1/cm."""
        return np.sum(list(self.densities.values()), axis=0)


def velocity_autocorrelation(velocities: np.ndarray, weights: np.ndarray | None = None) -> np.ndarray:
    """Return C(k) = sum_i w_i < v_i(t) . v_i(t + k) > / sum_i w_i < v_i(t)^2 > over all origins t, k = 0 ... n_frames - 1 intervals.

    velocities: [n_frames, n_atoms, 3]; weights: [n_atoms], 1 by default; masses weigh each degree of freedom alike. DataError where
    nothing moves.
    """
    scaled = velocities if weights is None else velocities * np.sqrt(weights)[:, None]
    correlation = autocorrelation(scaled)
    if correlation[0] == 0:
        raise DataError("All velocities are zero, so they have no correlation; give those of a run.")
    return correlation / correlation[0]


def vibrational_spectrum(
    velocities: np.ndarray, numbers: np.ndarray, masses: np.ndarray, interval: float, resolution: float | None = None
) -> Spectrum:
    """Return the mass-weighted power spectrum of velocities: S(nu) = 2 / (k_B T) sum_i m_i int < v_i(0) . v_i(t) > cos(2 pi c nu t) c dt.

    velocities: [n_frames, n_atoms, 3], Å/fs; numbers, masses: [n_atoms], amu; interval: between frames, fs; resolution: full width at half
    maximum of a sharp line, 1/cm, by default as fine as leaves four overlapping segments. Berens, Mackay, White, Wilson, J. Chem. Phys.
    79, 2375 (1983), with k_B T from the velocities, so that S integrates to 3 for each atom that moves: those that are held in all frames
    have no modes. The power spectrum is Welch's, with Hann windows that overlap by half. It is classical, and has the intensities of
    neither infrared nor Raman. Velocity Verlet with a step dt moves a line of angular frequency w to 2 arcsin(w dt / 2) / dt.
    Raises ConfigError for an interval that is not positive and for a resolution that the trajectory is too short for, DataError for less
    than 16 frames and where nothing moves.
    """
    n_frames = len(velocities)
    if not interval > 0:
        raise ConfigError(f"The interval between frames is {interval:g} fs; it must be positive.")
    if n_frames < 16:
        raise DataError(f"{n_frames} frames have no spectrum; give at least 16.")
    finest = _HANN_WIDTH * WAVENUMBER / (n_frames * interval)
    if resolution is None:
        resolution = 2.5 * finest
    if not finest * (1 - 1e-9) <= resolution <= WAVENUMBER / (4 * interval):
        raise ConfigError(
            f"A resolution of {resolution:g} 1/cm cannot be had from {n_frames} frames {interval:g} fs apart; use {finest:.3g} to "
            f"{WAVENUMBER / (4 * interval):.3g} 1/cm, or a longer trajectory."
        )
    length = min(n_frames, round(_HANN_WIDTH * WAVENUMBER / (resolution * interval)))
    densities = {}
    for number in np.unique(numbers):
        chosen = np.nonzero(numbers == number)[0]
        # One atom at a time: all segments of a whole trajectory would take several times its memory.
        densities[chemical_symbols[number]] = sum(masses[atom] * _power(velocities[:, atom], interval, length) for atom in chosen)
    step = WAVENUMBER / (length * interval)
    total = sum(density.sum() for density in densities.values()) * step
    if total == 0:
        raise DataError("All velocities are zero, so they have no spectrum; give those of a run.")
    scale = 3 * int(velocities.any(axis=(0, 2)).sum()) / total
    n_segments = 1 + (n_frames - length) // (length - length // 2)
    wavenumbers = step * np.arange(length // 2 + 1)
    return Spectrum(wavenumbers, {name: scale * density for name, density in densities.items()}, _HANN_WIDTH * step, n_segments)


def _power(velocities: np.ndarray, interval: float, length: int) -> np.ndarray:
    """Return the power spectrum of an atom's velocities [n_frames, 3], summed over the axes [length // 2 + 1]."""
    options = {"window": "hann", "nperseg": length, "noverlap": length // 2, "detrend": False}
    return signal.welch(velocities, fs=1 / interval, axis=0, **options)[1].sum(axis=1)
