"""The thermo table of a run, and whether its kinetic energies are those of the canonical ensemble."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import stats

from eqpot.errors import DataError, short
from eqpot.observables.series import Average, average
from eqpot.units import BOLTZMANN


@dataclass(frozen=True)
class CanonicalTest:
    """Temperatures of a run beside those of the canonical ensemble, K.

    p_value: of Kolmogorov and Smirnov's test on evenly spaced samples, as many as the error of the mean says are independent; small where
    the two differ by more than chance. width_error: standard error of `width`, the standard deviation.
    """

    mean: Average
    expected_mean: float
    width: float
    width_error: float
    expected_width: float
    p_value: float


def read_thermo(folder: str | Path) -> dict[str, np.ndarray]:
    """Return the columns of a run's thermo.csv, each [n_rows] or, in a run of many systems, [n_systems, n_rows].

    What a run that was killed has cut short at the end, a row or the rows of a step, is left out. DataError for a missing, empty or broken
    table.
    """
    path = Path(folder) / "thermo.csv"
    try:
        with path.open(newline="", encoding="utf-8") as file:
            names, *rows = list(csv.reader(file))
        if rows and len(rows[-1]) < len(names):
            del rows[-1]
        table = np.array([[float(value) for value in row] for row in rows]).reshape(-1, len(names))
    except (OSError, ValueError, csv.Error) as error:
        raise DataError(f"{path} cannot be read as a table of numbers ({short(error)}); name a run folder of `eqpot md`.") from error
    if len(table) == 0:
        raise DataError(f"{path} has no rows; wait for the run's first one.")
    columns = dict(zip(names, table.T, strict=True))
    if not np.isfinite(table).all():
        raise DataError(f"{path} holds NaN or infinity; cut it before they do.")
    systems = columns.pop("system", None)
    if systems is None:
        return columns
    n_systems = len(np.unique(systems))
    n_rows = len(systems) // n_systems
    if not np.array_equal(systems[: n_rows * n_systems], np.tile(np.arange(n_systems), n_rows)):
        raise DataError(f"{path} does not list systems 0 to {n_systems - 1} at every step; name a run folder of `eqpot md`.")
    return {name: values[: n_rows * n_systems].reshape(n_rows, n_systems).T for name, values in columns.items()}


def degrees_of_freedom(thermo: Mapping[str, np.ndarray]) -> int:
    """Return the degrees of freedom that a thermo table counts, 2 K / (k_B T); DataError where every temperature is zero."""
    warm = thermo["temperature_k"] > 0
    if not warm.any():
        raise DataError("All temperatures are zero, so the degrees of freedom cannot be told; run at a temperature.")
    return round(float(np.median(2 * thermo["kinetic_energy_ev"][warm] / (BOLTZMANN * thermo["temperature_k"][warm]))))


def canonical_test(temperatures: np.ndarray, n_degrees: int, temperature: float) -> CanonicalTest:
    """Compare temperatures [n], in K, with their canonical distribution at `temperature`: n_degrees T / temperature is chi-square.

    temperatures may be [n_replicas, n]. The mean is `temperature`, the standard deviation sqrt(2 / n_degrees) of it. Merz, Shirts, PLoS
    ONE 13, e0202764 (2018). At constant energy the distribution is narrower. DataError for less than 4 samples or NaN.
    """
    mean = average(temperatures)
    squares = (temperatures - mean.mean) ** 2
    width_error = average(squares).error / (2 * mean.standard_deviation) if mean.standard_deviation > 0 else 0.0
    apart = max(1.0, temperatures.size * (mean.error / mean.standard_deviation) ** 2) if mean.standard_deviation > 0 else 1.0
    independent = temperatures.ravel()[np.arange(0, temperatures.size, apart).astype(int)]
    return CanonicalTest(
        mean=mean,
        expected_mean=temperature,
        width=mean.standard_deviation,
        width_error=width_error,
        expected_width=float(np.sqrt(2 / n_degrees)) * temperature,
        p_value=float(stats.kstest(independent, canonical_distribution(n_degrees, temperature).cdf).pvalue),
    )


def canonical_distribution(n_degrees: int, temperature: float) -> "stats.rv_frozen":
    """Return the distribution of the instantaneous temperature, in K, at constant temperature, as scipy's frozen gamma distribution."""
    return stats.gamma(n_degrees / 2, scale=2 * temperature / n_degrees)
