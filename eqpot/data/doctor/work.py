"""Do forces and stress fit the energies? The work between neighbouring structures tells signs, units and missing pressures."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from ase.geometry import find_mic

from eqpot.data.doctor.findings import Finding
from eqpot.data.frames import Frame
from eqpot.units import GIGAPASCAL

_LARGEST_STEP, _LARGEST_STRAIN = 0.3, 0.05
"""Å and 1, between structures that are compared; beyond, the mean of two forces is not that of the path."""

_SMALLEST_CHANGE = 0.1
"""Å^3 of the volume, below which a change of energy says nothing of the pressure."""

_PER_GROUP = 400
"""Frames of one composition that are compared."""

_FEWEST = 12
"""Pairs below which nothing is said."""


@dataclass(frozen=True)
class Step:
    """From one structure to another: change of energy, work of the forces, work of the stress, all in eV, and change of volume in Å^3."""

    energy: float
    force_work: float
    stress_work: float
    volume: float


def check_work(frames: Sequence[Frame]) -> list[Finding]:
    """Compare changes of energy with dE = -F dx + V stress : strain, between each frame and the one most like it."""
    steps = [step for group in _groups(frames) for step in _steps(group)]
    moved = np.array([(step.energy, step.force_work) for step in steps if step.volume == 0 and step.stress_work == 0]).reshape(-1, 2)
    findings = []
    told = _judge(moved[:, 0], moved[:, 1], "forces")
    if told:
        findings.append(told)
    strained = [step for step in steps if step.stress_work != 0]
    if told and told.level == "error":
        return findings
    if len(strained) < _FEWEST:
        if any(frame.stress is not None for frame in frames):
            message = (
                f"Sign and unit of the stress could not be checked: {len(strained)} pairs of like structures in different cells "
                f"have energy, forces and stress, and {_FEWEST} are needed."
            )
            findings.append(Finding("note", "stress and energy", message))
        return findings
    change = np.array([step.energy - step.force_work for step in strained])
    work, volume = np.array([step.stress_work for step in strained]), np.array([step.volume for step in strained])
    told = _judge(change, work, "stress")
    if told and told.level == "error":
        return [*findings, told]
    return [*findings, *(found for found in (told, _missing_pressure(change - work, volume)) if found)]


def _missing_pressure(left: np.ndarray, volume: np.ndarray) -> Finding | None:
    """Return what changes of energy that no work explains say; they are -P_0 dV where the stress lacks a pressure P_0."""
    changed = abs(volume) > _SMALLEST_CHANGE
    if np.count_nonzero(changed) < _FEWEST:
        return None
    pressures = -left[changed] / volume[changed] / GIGAPASCAL
    # The median, as single pairs on bent paths can be far off.
    pressure = float(np.median(pressures))
    spread = float(np.median(abs(pressures - pressure)))
    if abs(pressure) < 0.5 or spread > abs(pressure) / 3:
        return None
    message = (
        f"A constant pressure of {pressure:+.2f} GPa is missing in the stress: changes of the energy with volume ask for it "
        f"({len(pressures)} pairs of strained structures). Pulay stress of a small basis? Do not fit this stress to these energies."
    )
    return Finding("warning", "stress and energy", message)


def _judge(change: np.ndarray, work: np.ndarray, name: str) -> Finding | None:
    """Return what the slope of the change of energy against the work says; None where there are too few pairs or no relation."""
    if len(change) < _FEWEST or not work.any() or np.std(change) == 0 or np.std(work) == 0:
        return None
    correlation, slope = float(np.corrcoef(change, work)[0, 1]), float(change @ work / (work @ work))
    check = f"{name} and energy"
    if abs(correlation) < 0.9:
        return None
    if 0.75 < slope < 1.33:
        return Finding(
            "note", check, f"Energies change by {slope:.2f} times the work of the {name} ({len(change)} pairs): signs and units fit."
        )
    doubt = "its sign is wrong" if abs(slope + 1) < 0.3 else "units differ"
    message = f"Energies change by {slope:.3g} times the work of the {name} ({len(change)} pairs, correlation {correlation:.2f}): {doubt}."
    return Finding("error", check, message)


def _groups(frames: Sequence[Frame]) -> list[list[Frame]]:
    groups: dict[bytes, list[Frame]] = defaultdict(list)
    for frame in frames:
        if frame.energy is not None and frame.forces is not None and len(frame.atoms) > 1:
            groups[frame.atoms.numbers.tobytes() + frame.atoms.pbc.tobytes()].append(frame)
    return [group[:_PER_GROUP] for group in groups.values() if len(group) > 1]


def _steps(group: Sequence[Frame]) -> list[Step]:
    """Return the steps from each frame to the nearest before it."""
    # Frames of one group are few enough for all pairs; wrapped atoms only cost pairs.
    points = np.stack([np.concatenate([frame.atoms.positions.ravel(), frame.atoms.cell.array.ravel()]) for frame in group])
    squares = (points**2).sum(axis=1)
    distances = squares[:, None] + squares[None] - 2 * points @ points.T
    distances[np.triu_indices(len(group))] = np.inf
    nearest = distances.argmin(axis=1)
    steps = (_step(group[j], group[i]) for i, j in enumerate(nearest) if i > 0)
    return [step for step in steps if step is not None]


def _step(a: Frame, b: Frame) -> Step | None:
    assert a.energy is not None
    assert b.energy is not None
    assert a.forces is not None
    assert b.forces is not None
    cell, volume, stress_work = a.atoms.cell.array, 0.0, 0.0
    carried = a.atoms.positions
    if not np.array_equal(cell, b.atoms.cell.array):
        if a.stress is None or b.stress is None:
            return None
        deformation = np.linalg.solve(cell, b.atoms.cell.array) - np.eye(3)
        if abs(deformation).max() > _LARGEST_STRAIN:
            return None
        volume = b.atoms.get_volume() - a.atoms.get_volume()
        # Strain with respect to the middle of the two cells, so that errors are of third order.
        strain = 2 * np.linalg.solve(2 * np.eye(3) + deformation, deformation)
        stress_work = float((strain * (a.stress + b.stress) / 2).sum() * (a.atoms.get_volume() + b.atoms.get_volume()) / 2)
        carried = carried @ (np.eye(3) + deformation)
    moved = b.atoms.positions - carried
    if b.atoms.pbc.any():
        moved = find_mic(moved, b.atoms.cell, b.atoms.pbc)[0]
    if abs(moved).max() > _LARGEST_STEP:
        return None
    force_work = -float(((a.forces + b.forces) / 2 * moved).sum())
    return Step(b.energy - a.energy, force_work, stress_work, volume)
