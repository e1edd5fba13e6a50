"""Per-element reference energies and the scale: the part of the labels that the network need not learn."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
from ase import Atoms
from ase.geometry import minkowski_reduce

from eqpot.data.frames import Frame, elements_of
from eqpot.elements import symbols_of
from eqpot.errors import DataError

Method = Literal["least_squares", "mean", "isolated_atoms", "zero"]

LARGEST_RESIDUAL = 50.0
"""eV/atom. No cohesive or compression energy is as large: what is left above it is an offset of the labels."""

_ISOLATION = 6.0
"""Å between an atom and its periodic images from which it counts as isolated."""


def fit_reference_energies(frames: Sequence[Frame], method: Method | Mapping[str, float]) -> np.ndarray:
    """Return reference energies [n_elements] in eV for the elements of the frames, sorted by atomic number.

    least_squares: the energies per element that explain the frames' total energies best.
    mean: the mean energy per atom for every element; the choice when all frames have the same composition.
    isolated_atoms: the energies of the frames that hold one isolated atom.
    zero: none, for energies that are those of formation already.
    A mapping from symbol to energy is taken as it is.

    Raises DataError when the compositions do not determine the least squares, an element is missing from the mapping or the isolated
    atoms, an energy is not finite, or more than 50 eV/atom are left in some frame.
    """
    elements = elements_of(frames)
    labelled = [frame for frame in frames if frame.energy is not None]
    counts, energies = composition(labelled, elements)
    for frame, energy in zip(labelled, energies, strict=True):
        if not np.isfinite(energy):
            raise DataError(f"{frame.origin}: the energy is {energy}; remove the frame or correct it.")
    if isinstance(method, Mapping):
        references = _given(method, elements)
    elif method == "zero":
        references = np.zeros(len(elements))
    elif method == "isolated_atoms":
        references = _of_isolated_atoms(labelled, elements)
    elif not labelled:
        raise DataError("No frame has an energy, so none can be referred to; set data.reference_energies to zero.")
    elif method == "mean":
        references = np.full(len(elements), energies.sum() / counts.sum())
    else:
        references = _least_squares(counts, energies, elements)
    check_residuals(labelled, elements, references)
    return references


def composition(frames: Sequence[Frame], elements: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Return the counts of the elements [n_frames, n_elements] and the energies [n_frames] of frames that have one."""
    counts = np.array([[np.count_nonzero(frame.atoms.numbers == element) for element in elements] for frame in frames], dtype=float)
    return counts.reshape(len(frames), len(elements)), np.array([frame.energy for frame in frames], dtype=float)


def is_isolated_atom(atoms: Atoms) -> bool:
    """Tell whether a structure is one atom, without periodic images nearby."""
    if len(atoms) != 1:
        return False
    if not atoms.pbc.any():
        return True
    reduced, _ = minkowski_reduce(atoms.cell.array, atoms.pbc)
    return bool(np.linalg.norm(reduced[atoms.pbc], axis=1).min() > _ISOLATION)


def fit_scale(frames: Sequence[Frame]) -> float:
    """Return the root mean square of the force components in eV/Å; DataError where that is no scale."""
    forces = [frame.forces.ravel() for frame in frames if frame.forces is not None]
    if not forces:
        raise DataError("No training frame has forces, so nothing sets the scale; add frames with forces.")
    scale = float(np.sqrt(np.mean(np.concatenate(forces) ** 2)))
    if scale == 0:
        raise DataError("All training forces are zero, so they set no scale; check the labels (constraints set to zero?).")
    if not np.isfinite(scale):
        raise DataError("The forces of the training frames are not finite; check the labels.")
    return scale


def _given(energies: Mapping[str, float], elements: Sequence[int]) -> np.ndarray:
    symbols = symbols_of(elements)
    missing = [symbol for symbol in symbols if symbol not in energies]
    if missing:
        raise DataError(f"The reference energies lack {', '.join(missing)}, which the data hold; add them.")
    strangers = [symbol for symbol in energies if symbol not in symbols]
    if strangers:
        raise DataError(f"Reference energies are given for {', '.join(strangers)}, which the data do not hold; remove them.")
    return np.array([float(energies[symbol]) for symbol in symbols])


def _of_isolated_atoms(frames: Sequence[Frame], elements: Sequence[int]) -> np.ndarray:
    found: dict[int, Frame] = {}
    for frame in frames:
        if not is_isolated_atom(frame.atoms):
            continue
        first = found.setdefault(int(frame.atoms.numbers[0]), frame)
        if abs(float(first.energy or 0) - float(frame.energy or 0)) > 1e-3:
            raise DataError(
                f"{first.origin} and {frame.origin} hold the same isolated atom with {first.energy} and {frame.energy} eV; keep one."
            )
    missing = symbols_of(element for element in elements if element not in found)
    if missing:
        raise DataError(
            f"The training data hold no isolated atom of {', '.join(missing)} (one atom in a frame, images more than {_ISOLATION} Å away); "
            "add it, or give data.reference_energies by symbol."
        )
    return np.array([found[element].energy for element in elements], dtype=float)


def _least_squares(counts: np.ndarray, energies: np.ndarray, elements: Sequence[int]) -> np.ndarray:
    rank = np.linalg.matrix_rank(counts)
    if rank < len(elements):
        raise DataError(
            f"The frames' compositions have rank {rank} and cannot determine the reference energies of {', '.join(symbols_of(elements))}; "
            "set data.reference_energies to mean, or to isolated-atom energies."
        )
    return np.asarray(np.linalg.lstsq(counts, energies, rcond=None)[0])


def check_residuals(frames: Sequence[Frame], elements: Sequence[int], references: np.ndarray) -> None:
    """Raise DataError where reference energies [n_elements], eV, leave more of a frame's energy than any bonds hold."""
    frames = [frame for frame in frames if frame.energy is not None]
    counts, energies = composition(frames, elements)
    residuals = (energies - counts @ references) / counts.sum(axis=1)
    worst = int(np.argmax(abs(residuals))) if len(residuals) else 0
    if len(residuals) and not abs(residuals[worst]) <= LARGEST_RESIDUAL:
        n_large = int(np.count_nonzero(~(abs(residuals) <= LARGEST_RESIDUAL)))
        raise DataError(
            f"The reference energies leave {residuals[worst]:.1f} eV/atom in {frames[worst].origin} and more than "
            f"{LARGEST_RESIDUAL:.0f} in {n_large} of {len(frames)} frames; give energies of isolated atoms of the same method, or correct "
            "the unit of the energies."
        )
