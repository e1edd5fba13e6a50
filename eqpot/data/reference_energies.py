"""Per-element reference energies: the part of the energy that the network need not learn."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from eqpot.data.frames import Frame, elements_of
from eqpot.elements import symbols_of
from eqpot.errors import DataError

Method = Literal["least_squares", "mean"]


def fit_reference_energies(frames: Sequence[Frame], method: Method | Mapping[str, float]) -> np.ndarray:
    """Return reference energies [n_elements] in eV for the elements of the frames, sorted by atomic number.

    least_squares: the energies per element that explain the frames' total energies best.
    mean: the mean energy per atom for every element; the choice when all frames have the same composition.
    A mapping from symbol to energy is taken as it is.

    Raises DataError when the compositions do not determine the least squares or an element is missing from the mapping.
    """
    elements = elements_of(frames)
    symbols = symbols_of(elements)
    if isinstance(method, Mapping):
        missing = [symbol for symbol in symbols if symbol not in method]
        if missing:
            raise DataError(f"The reference energies lack {', '.join(missing)}, which the data hold; add them.")
        strangers = [symbol for symbol in method if symbol not in symbols]
        if strangers:
            raise DataError(f"Reference energies are given for {', '.join(strangers)}, which the data do not hold; remove them.")
        return np.array([float(method[symbol]) for symbol in symbols])
    energies = np.array([frame.energy for frame in frames])
    counts = np.array([[np.count_nonzero(frame.atoms.numbers == element) for element in elements] for frame in frames], dtype=float)
    if method == "mean":
        return np.full(len(elements), energies.sum() / counts.sum())
    rank = np.linalg.matrix_rank(counts)
    if rank < len(elements):
        raise DataError(
            f"The frames' compositions have rank {rank} and cannot determine the reference energies of {', '.join(symbols)}; "
            "set data.reference_energies to mean, or to isolated-atom energies."
        )
    return np.asarray(np.linalg.lstsq(counts, energies, rcond=None)[0])
