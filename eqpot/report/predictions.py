"""What a potential says about labelled frames, frame by frame."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from eqpot.data import Frame, label_graphs
from eqpot.potential import Potential


@dataclass(frozen=True)
class Prediction:
    """A frame with what the potential makes of it: energy in eV, forces [n_atoms, 3] in eV/Å, stress [3, 3] in eV/Å^3."""

    frame: Frame
    energy: float
    forces: np.ndarray
    stress: np.ndarray

    @property
    def energy_error(self) -> float:
        """Error of the energy per atom, eV."""
        return (self.energy - self.frame.energy) / len(self.frame.atoms)

    @property
    def force_errors(self) -> np.ndarray:
        """Errors of the force components [n_atoms, 3], eV/Å."""
        return self.forces - self.frame.forces


def predict(potential: Potential, frames: Sequence[Frame]) -> list[Prediction]:
    """Evaluate every frame; errors as in `Potential.evaluate` and `label_graphs`."""
    predictions = []
    for frame, labelled in zip(frames, label_graphs(frames, potential.cutoff), strict=True):
        result = potential.evaluate(labelled.graph.to(potential.device))
        arrays = {name: value.cpu().numpy() for name, value in result.items()}
        predictions.append(Prediction(frame, float(arrays["energy"][0]), arrays["forces"], arrays["stress"][0]))
    return predictions
