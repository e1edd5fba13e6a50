"""Errors of a potential on labelled data, in the units the field reports."""

from collections.abc import Sequence

import torch

from eqpot.data.batches import LabelledGraph, collate_labelled
from eqpot.data.frames import Frame
from eqpot.errors import UnknownElementError
from eqpot.potential import Potential

_MILLI = 1e3
_METRICS = ("energy_{}_mev", "energy_{}_mev_per_atom", "force_{}_mev_per_ang", "stress_{}_mev_per_ang3", "virial_{}_mev_per_atom")


class ErrorSums:
    """Running sums of absolute and squared errors of one quantity."""

    def __init__(self) -> None:
        self.absolute = self.squared = 0.0
        self.count = 0

    def add(self, errors: torch.Tensor) -> None:
        self.absolute += float(errors.abs().sum())
        self.squared += float(errors.square().sum())
        self.count += errors.numel()

    def mae(self) -> float:
        return self.absolute / self.count

    def rmse(self) -> float:
        return float((self.squared / self.count) ** 0.5)


def check_frames(potential: Potential, frames: Sequence[Frame]) -> None:
    """Raise UnknownElementError, naming the frame, if one holds an element that the potential does not know."""
    for frame in frames:
        try:
            potential.check_elements(torch.from_numpy(frame.atoms.numbers))
        except UnknownElementError as error:
            raise UnknownElementError(f"{frame.origin}: {error}") from error


def evaluate(potential: Potential, data: Sequence[LabelledGraph], atoms_per_batch: int = 512) -> dict[str, float]:
    """Return MAE and RMSE over the data.

    Keys `energy_mae_mev` (whole structure), `energy_mae_mev_per_atom`, `force_mae_mev_per_ang` (components) and, if any frame
    has a stress, `stress_mae_mev_per_ang3` (all nine components) and `virial_mae_mev_per_atom` (stress times volume per atom); the
    same with `rmse`.
    """
    sums = {name: ErrorSums() for name in _METRICS}
    for batch in _batches(data, atoms_per_batch):
        graph = batch.graph.to(potential.device)
        result = {name: value.cpu() for name, value in potential.evaluate(graph).items()}
        counts = torch.bincount(batch.graph.batch, minlength=batch.graph.n_structures)
        energy_error = (result["energy"] - batch.energy) * _MILLI
        sums["energy_{}_mev"].add(energy_error)
        sums["energy_{}_mev_per_atom"].add(energy_error / counts)
        sums["force_{}_mev_per_ang"].add((result["forces"] - batch.forces) * _MILLI)
        stress_error = (result["stress"] - batch.stress)[batch.has_stress] * _MILLI
        volume_per_atom = torch.linalg.det(batch.graph.cells).abs() / counts
        sums["stress_{}_mev_per_ang3"].add(stress_error)
        sums["virial_{}_mev_per_atom"].add(stress_error * volume_per_atom[batch.has_stress].view(-1, 1, 1))
    metrics = {}
    for name, total in sums.items():
        if total.count:
            metrics[name.format("mae")] = total.mae()
            metrics[name.format("rmse")] = total.rmse()
    return metrics


def _batches(data: Sequence[LabelledGraph], atoms_per_batch: int) -> list[LabelledGraph]:
    batches: list[LabelledGraph] = []
    current: list[LabelledGraph] = []
    n_atoms = 0
    for item in data:
        if current and n_atoms + item.graph.n_atoms > atoms_per_batch:
            batches.append(collate_labelled(current))
            current, n_atoms = [], 0
        current.append(item)
        n_atoms += item.graph.n_atoms
    return [*batches, collate_labelled(current)]
