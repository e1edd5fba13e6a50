"""Errors of a potential on labelled data, in the units the field reports."""

from collections.abc import Callable, Sequence

import torch

from eqpot.data.batches import LabelledGraph, collate_labelled
from eqpot.data.frames import Frame
from eqpot.errors import UnknownElementError
from eqpot.potential import Potential

_MILLI = 1e3
_VOIGT = ([0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1])
_METRICS = ("energy_{}_mev", "energy_{}_mev_per_atom", "force_{}_mev_per_ang", "stress_{}_mev_per_ang3", "virial_{}_mev_per_atom")


def check_frames(potential: Potential, frames: Sequence[Frame]) -> None:
    """Raise UnknownElementError, naming the frame, if one holds an element that the potential does not know."""
    for frame in frames:
        try:
            potential.check_elements(torch.from_numpy(frame.atoms.numbers))
        except UnknownElementError as error:
            raise UnknownElementError(f"{frame.origin}: {error}") from error


def evaluate(
    potential: Potential,
    data: Sequence[LabelledGraph],
    atoms_per_batch: int = 512,
    share: slice = slice(None),
    sum_shares: Callable[[torch.Tensor], torch.Tensor] = lambda sums: sums,
) -> dict[str, float]:
    """Return MAE and RMSE over the data, for every quantity that any frame has a label of.

    Keys `energy_mae_mev` (whole structure), `energy_mae_mev_per_atom`, `force_mae_mev_per_ang` (components), `stress_mae_mev_per_ang3`
    (its six components) and `virial_mae_mev_per_atom` (stress times volume per atom); the same with `rmse`. Processes that evaluate a
    `share` each pass `sum_shares`, which adds a tensor over all of them.
    """
    # Of every quantity the sum of absolute errors, the sum of squares, and how many there are.
    sums = torch.zeros(len(_METRICS), 3, dtype=torch.float64)
    for batch in _batches(data[share], atoms_per_batch):
        for index, errors in enumerate(_errors(potential, batch)):
            sums[index] += torch.stack([errors.abs().sum(), errors.square().sum(), torch.tensor(errors.numel(), dtype=torch.float64)])
    metrics = {}
    for name, (absolute, squared, count) in zip(_METRICS, sum_shares(sums).tolist(), strict=True):
        if count:
            metrics[name.format("mae")] = absolute / count
            metrics[name.format("rmse")] = (squared / count) ** 0.5
    return metrics


def _errors(potential: Potential, batch: LabelledGraph) -> list[torch.Tensor]:
    """Return the errors of the labels that are there, quantity by quantity as in `_METRICS`."""
    graph = batch.graph
    result = {name: value.cpu() for name, value in potential.evaluate(graph.to(potential.device)).items()}
    counts = torch.bincount(graph.batch, minlength=graph.n_structures)
    energy = ((result["energy"] - batch.energy) * _MILLI)[batch.has_energy]
    forces = ((result["forces"] - batch.forces) * _MILLI)[batch.has_forces[graph.batch]]
    stress = ((result["stress"] - batch.stress) * _MILLI)[batch.has_stress][:, *_VOIGT]
    volume_per_atom = (torch.linalg.det(graph.cells).abs() / counts)[batch.has_stress]
    return [energy, energy / counts[batch.has_energy], forces, stress, stress * volume_per_atom.unsqueeze(1)]


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
    return [*batches, collate_labelled(current)] if current else batches
