"""Uncertainties made of training frames and scaled on held-out ones, and how well they hold on others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from ase.stress import full_3x3_to_voigt_6_stress
from scipy.special import erf
from scipy.stats import spearmanr

from eqpot.calculator import EqpotCalculator
from eqpot.data import Frame, LabelledGraph, collate_labelled, label_graphs
from eqpot.data.frames import structure_of
from eqpot.errors import ConfigError, DataError
from eqpot.model_file import read_header, save_potential
from eqpot.potential import Potential
from eqpot.training.metrics import check_frames
from eqpot.uncertainty import Quantity, Uncertainty, UncertaintyRecord, last_layer_parts, last_layer_weights
from eqpot.units import GIGAPASCAL

N_DIRECTIONS = 64
"""Evaluations that a standard deviation costs; it scatters by about 1 / sqrt(2 N_DIRECTIONS) around that of all directions."""

_REGULARIZER = 1e-8
"""Over the largest eigenvalue: keeps weights that no label determines from making rounding errors large."""

_BATCH = 16

_ROUNDING = 1e-6
"""eV/atom, eV/Å, eV/Å^3. Labels that no other method made agree as well as that."""

UNITS: dict[Quantity, tuple[str, float]] = {"energy": ("meV/atom", 1e-3), "forces": ("meV/Å", 1e-3), "stress": ("GPa", GIGAPASCAL)}
"""What the quantities are shown in, and how large that is in eV and Å."""


@dataclass(frozen=True)
class Reliability:
    """Errors [n] of one quantity and the standard deviations [n] that were given for them: eV/atom, eV/Å or eV/Å^3.

    What symmetry makes zero, such as forces in a perfect crystal, is right to rounding and left out, and so is what the last layers do
    not reach, such as the force on an atom without neighbours, whose deviation is zero.
    """

    errors: np.ndarray
    deviations: np.ndarray

    @classmethod
    def of(cls, errors: np.ndarray, deviations: np.ndarray) -> "Reliability":
        tiny = (abs(errors) <= 1e-4 * _rms(errors)) & (deviations <= 1e-4 * _rms(deviations))
        kept = ~tiny & (deviations > 0)
        return cls(errors[kept], deviations[kept])

    def rmse(self) -> float:
        """Return the root mean square of the errors."""
        return _rms(self.errors)

    def scale(self) -> float:
        """Return the factor of the deviations that makes the errors most likely, if they are Gaussian."""
        return _rms(self.errors / self.deviations)

    def scaled(self, factor: float) -> "Reliability":
        """Return the same errors with deviations times `factor`."""
        return Reliability(self.errors, factor * self.deviations)

    def constant(self, deviation: float) -> "Reliability":
        """Return the same errors with one deviation for all, the baseline of what a model of uncertainty adds."""
        return Reliability(self.errors, np.full_like(self.errors, deviation))

    def coverage(self, z: float) -> float:
        """Return the share of errors within z standard deviations."""
        return float(np.mean(abs(self.errors) <= z * self.deviations))

    def negative_log_likelihood(self) -> float:
        """Return the mean of -ln p for Gaussians of these deviations, in nats; differences alone have a meaning."""
        return float(np.mean(np.log(2 * np.pi * self.deviations**2) / 2 + (self.errors / self.deviations) ** 2 / 2))

    def miscalibration_area(self) -> float:
        """Return the mean distance between the coverage of central intervals and what Gaussians promise; 0 is best, 0.5 worst."""
        promised = np.concatenate([[0.0], erf(np.sort(abs(self.errors / self.deviations)) / np.sqrt(2)), [1.0]])
        # Between two promised values the found share is constant, and |found - p| has the integral (p - found) |p - found| / 2.
        found = np.arange(len(promised) - 1) / (len(promised) - 2)
        before, after = promised[:-1] - found, promised[1:] - found
        return float(np.sum(after * abs(after) - before * abs(before)) / 2)

    def rank_correlation(self) -> float:
        """Return Spearman's correlation of deviations and absolute errors."""
        return float(spearmanr(self.deviations, abs(self.errors)).statistic)

    def rmse_of_most_certain(self, share: float) -> float:
        """Return the RMSE of the `share` with the smallest deviations over the RMSE of all."""
        count = max(1, round(share * len(self.errors)))
        return _rms(self.errors[np.argsort(self.deviations)[:count]]) / _rms(self.errors)

    def bins(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Return root mean squares of deviations and errors [count] in bins of equally many, by deviation."""
        order = np.array_split(np.argsort(self.deviations), count)
        return np.array([_rms(self.deviations[b]) for b in order]), np.array([_rms(self.errors[b]) for b in order])


def reliability(calculator: EqpotCalculator, frames: Sequence[Frame]) -> dict[Quantity, Reliability]:
    """Evaluate the frames with a calculator that gives deviations: energies per atom, force components and, where labelled, stress.

    Frames without energy or forces are passed over (`usable`), and so are quantities of which nothing is left. Raises
    UnknownElementError, naming the frame, and ConfigError where the calculator gives no deviations.
    """
    if "forces_std" not in calculator.implemented_properties:
        raise ConfigError("The potential is not calibrated; run `eqpot calibrate` first, or name a committee of several.")
    for potential in calculator.potentials:
        check_frames(potential, frames)
    pairs: dict[Quantity, list[tuple[np.ndarray, np.ndarray]]] = {"energy": [], "forces": [], "stress": []}
    for frame in usable(frames):
        calculator.calculate(frame.atoms, ["forces_std"])
        results, n_atoms = calculator.results, len(frame.atoms)
        error = (results["energy"] - frame.energy) / n_atoms
        pairs["energy"].append((np.array([error]), np.array([results["energy_std"] / n_atoms])))
        pairs["forces"].append(((results["forces"] - frame.forces).ravel(), results["forces_std"].ravel()))
        if frame.stress is not None and "stress_std" in results:
            pairs["stress"].append((results["stress"] - full_3x3_to_voigt_6_stress(frame.stress), results["stress_std"]))
    found = {
        name: Reliability.of(*(np.concatenate(values) for values in zip(*parts, strict=True))) for name, parts in pairs.items() if parts
    }
    return {name: pairs for name, pairs in found.items() if len(pairs.errors)}


def usable(frames: Sequence[Frame]) -> list[Frame]:
    """Return the frames that have both energy and forces."""
    return [frame for frame in frames if frame.energy is not None and frame.forces is not None]


def calibrate(path: str | Path, train: Sequence[Frame], valid: Sequence[Frame], output: str | Path) -> dict[Quantity, Reliability]:
    """Write the potential at `path` with its uncertainty to `output`, and return how deviations and errors of `valid` agree.

    train: the frames that the weights were fitted to; their structures tell where the last layers are determined. valid: other
    frames; their errors give one factor for each quantity. The cost is the energy of every training frame for every weight of the
    last layers.

    Raises DataError for no frames or none to scale by, UnknownElementError naming the frame, ConfigError for an architecture without
    last layers, and what `load_potential` raises.
    """
    header = read_header(path)
    calculator = EqpotCalculator(path, dtype=header.dtype)
    potential = calculator.potentials[0]
    # First, as it refuses what no data can mend.
    last_layer_weights(potential.network)
    for name, frames in (("training", train), ("validation", usable(valid))):
        if not frames:
            lacking = "" if name == "training" or not valid else " that have both energy and forces"
            raise DataError(f"There are no {name} frames{lacking} to calibrate {path} with; name files that hold some.")
        check_frames(potential, frames)
    fitted = {structure_of(frame) for frame in train}
    if known := [frame.origin for frame in valid if structure_of(frame) in fitted]:
        raise DataError(
            f"Of the validation frames {len(known)} are training frames too, where errors are smaller than elsewhere, such as {known[0]}; "
            "name frames that the potential was not fitted to."
        )
    record = UncertaintyRecord(
        scales=dict.fromkeys(get_args(Quantity), 1.0), rmse={}, training_frames=len(train), calibration_frames=len(usable(valid))
    )
    directions = _directions(_covariance(potential, label_graphs(train, potential.cutoff)))
    calculator.uncertainty = Uncertainty(directions, record)
    raw = reliability(calculator, valid)
    if missing := {"energy", "forces"} - raw.keys():
        raise DataError(
            f"The validation frames say nothing of the errors of {' and '.join(sorted(missing))}: none has energy and forces, or all are "
            "zero by symmetry; name other frames."
        )
    scales = {name: pairs.scale() for name, pairs in raw.items()}
    rmse = {name: pairs.rmse() for name, pairs in raw.items()}
    if exact := [name for name, error in rmse.items() if error < _ROUNDING]:
        raise DataError(
            f"The errors of {' and '.join(exact)} are zero on the validation frames, as of labels that the potential made itself; name "
            "frames with labels of another origin."
        )
    uncertainty = Uncertainty(directions, UncertaintyRecord(**{**dict(record), "scales": scales, "rmse": rmse}))
    save_potential(potential, output, header.training, uncertainty)
    return {name: pairs.scaled(scales[name]) for name, pairs in raw.items()}


def _covariance(potential: Potential, data: Sequence[LabelledGraph]) -> torch.Tensor:
    """Return C of `Uncertainty`, [n_weights, n_weights] float64, eV^2."""
    size = sum(weight.numel() for weight in last_layer_weights(potential.network).values())
    covariance = torch.zeros((size, size), dtype=torch.float64)
    for start in range(0, len(data), _BATCH):
        graph = collate_labelled(data[start : start + _BATCH]).graph.to(potential.device)
        parts = last_layer_parts(potential, graph, torch.eye(size), forces=False)
        features = torch.stack([(part["energy"] / torch.bincount(graph.batch)).cpu() for part in parts], dim=1)
        covariance += features.T @ features
    return covariance


def _directions(covariance: torch.Tensor) -> torch.Tensor:
    """Return N_DIRECTIONS rows d_k, sum_k d_k d_k^T close to the inverse of the covariance: exact where there are as many as weights."""
    size = len(covariance)
    ridge = _REGULARIZER * float(torch.linalg.matrix_norm(covariance, 2))
    inverse = torch.linalg.inv(torch.linalg.cholesky(covariance + ridge * torch.eye(size, dtype=torch.float64)))
    count = min(N_DIRECTIONS, size)
    # Orthogonal: they scatter less than independent ones, and the same file gives the same deviations.
    random = torch.randn((size, size), dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    mixed: torch.Tensor = torch.linalg.qr(random)[0][:count] @ inverse
    return mixed * (size / count) ** 0.5


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(np.square(values))))
