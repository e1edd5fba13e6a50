"""What a potential says about labelled frames, frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqpot.data import Frame, label_graphs
from eqpot.errors import DataError
from eqpot.potential import Potential


@dataclass(frozen=True)
class Prediction:
    """A frame with what the potential makes of it: energy in eV, forces [n_atoms, 3] in eV/Å, stress [3, 3] in eV/Å^3; and its labels.

    A label that the frame lacks is NaN.
    """

    frame: Frame
    energy: float
    forces: np.ndarray
    stress: np.ndarray
    energy_label: float
    force_labels: np.ndarray

    @property
    def energy_error(self) -> float:
        """Error of the energy per atom, eV."""
        return (self.energy - self.energy_label) / len(self.frame.atoms)

    @property
    def force_errors(self) -> np.ndarray:
        """Errors of the force components [n_atoms, 3], eV/Å."""
        return self.forces - self.force_labels


def predict(potential: Potential, frames: Sequence[Frame]) -> list[Prediction]:
    """Evaluate every frame; errors as in `Potential.evaluate` and `label_graphs`, DataError where none has forces."""
    if all(frame.forces is None for frame in frames):
        raise DataError("No frame has forces, so there is nothing to show; name others.")
    predictions = []
    for frame, labelled in zip(frames, label_graphs(frames, potential.cutoff), strict=True):
        result = potential.evaluate(labelled.graph.to(potential.device))
        arrays = {name: value.cpu().numpy() for name, value in result.items()}
        energy = np.nan if frame.energy is None else frame.energy
        forces = np.full((len(frame.atoms), 3), np.nan) if frame.forces is None else frame.forces
        predictions.append(Prediction(frame, float(arrays["energy"][0]), arrays["forces"], arrays["stress"][0], energy, forces))
    return predictions
