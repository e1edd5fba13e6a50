"""Labels that are missing, zero, far from the rest, or off by a constant."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from eqpot.data.doctor.findings import Finding, first
from eqpot.data.frames import Frame, elements_of
from eqpot.data.reference_energies import LARGEST_RESIDUAL, composition
from eqpot.elements import symbols_of
from eqpot.units import GIGAPASCAL

_NET_FORCE = 1e-3
"""eV/Å, of the sum of the forces over the number of atoms."""

_LARGE_FORCE = 30.0
"""eV/Å."""

_LARGE_STRESS = 0.6
"""eV/Å^3, about 100 GPa: few solids are computed at more."""

_OUTLYING = 20.0
"""Robust standard deviations (1.4826 times the median absolute deviation)."""


def check_missing(frames: Sequence[Frame]) -> list[Finding]:
    """Frames without some label that others have."""
    findings = []
    for name in ("energy", "forces", "stress"):
        missing = [frame.origin for frame in frames if getattr(frame, name) is None]
        if 0 < len(missing) < len(frames):
            message = f"{len(missing)} of {len(frames)} frames have no {name}; they are left out of its part of the loss."
            findings.append(Finding("note" if name == "stress" else "warning", "labels", message, first(missing)))
    return findings


def check_stress(frames: Sequence[Frame]) -> list[Finding]:
    """Stresses so large that their unit is probably another."""
    labelled = [(frame.origin, np.sqrt(np.mean(frame.stress**2))) for frame in frames if frame.stress is not None]
    size = float(np.sqrt(np.mean([value**2 for _, value in labelled]))) if labelled else 0.0
    if size <= _LARGE_STRESS:
        return []
    message = (
        f"The root mean square of the stress is {size:.3g} eV/Å^3, or {size / GIGAPASCAL:.0f} GPa: is it in kbar or GPa? Name its unit in "
        "data.units.stress."
    )
    return [Finding("warning", "stress", message, first(origin for origin, _ in sorted(labelled, key=lambda pair: -pair[1])))]


def check_forces(frames: Sequence[Frame]) -> list[Finding]:
    """Forces that are exactly zero beside others that are not, that do not sum to zero, or that are very large."""
    labelled = [(frame, frame.forces) for frame in frames if frame.forces is not None and len(frame.atoms) > 1]
    if not labelled:
        return []
    norms = [np.linalg.norm(forces, axis=1) for _, forces in labelled]
    findings = _zeros(labelled, norms)
    if not any(norm.any() for norm in norms):
        findings.append(Finding("error", "constrained zeros", "All forces are exactly zero; they are not labels."))
        return findings
    net = sorted(((float(np.linalg.norm(forces.sum(axis=0))) / len(forces), frame.origin) for frame, forces in labelled), reverse=True)
    moving = [origin for size, origin in net if size > _NET_FORCE]
    if moving:
        message = (
            f"The forces of {len(moving)} frames do not sum to zero, by up to {net[0][0] * 1e3:.1f} meV/Å per atom: no potential can "
            "follow that (constraints, external fields, or loose convergence)."
        )
        findings.append(Finding("warning", "net force", message, first(moving)))
    largest = np.array([norm.max() for norm in norms])
    strange = np.flatnonzero(largest > _LARGE_FORCE)
    if len(strange):
        order = strange[np.argsort(-largest[strange])]
        message = f"{len(strange)} frames have forces above {_LARGE_FORCE:.0f} eV/Å, up to {largest.max():.1f}: are these structures meant?"
        findings.append(Finding("warning", "outliers", message, first(labelled[i][0].origin for i in order)))
    return findings


def _zeros(labelled: Sequence[tuple[Frame, np.ndarray]], norms: Sequence[np.ndarray]) -> list[Finding]:
    """Forces that are exactly zero beside others: sites of high symmetry, unless the rest does not sum to zero."""
    cut: list[tuple[str, int]] = []
    symmetric: list[tuple[str, int]] = []
    for (frame, forces), norm in zip(labelled, norms, strict=True):
        if norm.any() and not norm.all():
            balanced = np.linalg.norm(forces.sum(axis=0)) < _NET_FORCE * len(forces)
            (symmetric if balanced else cut).append((frame.origin, int((norm == 0).sum())))
    findings = []
    kinds: tuple[tuple[Literal["warning", "note"], list[tuple[str, int]], str], ...] = (
        ("warning", cut, "and the rest does not sum to zero: constraints? Constrained atoms must have their true forces, or none"),
        ("note", symmetric, "and all sum to zero: sites of high symmetry"),
    )
    for level, found, meaning in kinds:
        if found:
            message = f"{sum(count for _, count in found)} atoms in {len(found)} frames have forces that are exactly zero, {meaning}."
            findings.append(Finding(level, "constrained zeros", message, first(o for o, _ in found)))
    return findings


def check_energies(frames: Sequence[Frame]) -> list[Finding]:
    """Whether reference energies can be fitted, what they leave, and which frames are far from the rest."""
    labelled = [frame for frame in frames if frame.energy is not None]
    if not labelled:
        return []
    elements = elements_of(labelled)
    counts, energies = composition(labelled, elements)
    n_atoms = counts.sum(axis=1)
    findings = []
    rank = int(np.linalg.matrix_rank(counts))
    if rank < len(elements):
        message = (
            f"The compositions have rank {rank} for {len(elements)} elements ({', '.join(symbols_of(elements))}): least squares cannot "
            "tell the reference energies; use data.reference_energies: mean, isolated_atoms, or energies by symbol."
        )
        findings.append(Finding("warning", "reference energies", message))
    per_atom = float(np.median(energies / n_atoms))
    if abs(per_atom) > LARGEST_RESIDUAL:
        message = f"Energies are about {per_atom:.0f} eV/atom, those of all electrons: data.reference_energies must not be zero."
        findings.append(Finding("note", "reference energies", message))
    residuals = (energies - counts @ np.linalg.lstsq(counts, energies, rcond=None)[0]) / n_atoms
    return findings + _far(labelled, residuals) + _shifted_files(labelled, residuals)


def _far(frames: Sequence[Frame], residuals: np.ndarray) -> list[Finding]:
    deviations = residuals - np.median(residuals)
    # Half of some sets are small strains of one crystal: a spread below 0.02 eV/atom makes nothing an outlier.
    spread = max(1.4826 * float(np.median(abs(deviations))), 0.02)
    order = np.argsort(-abs(deviations))
    findings = []
    huge = [i for i in order if abs(residuals[i]) > LARGEST_RESIDUAL]
    if huge:
        message = (
            f"The best reference energies leave up to {abs(residuals[huge[0]]):.0f} eV/atom in {len(huge)} frames; a fit will refuse them."
        )
        findings.append(Finding("error", "offset energies", message, first(frames[i].origin for i in huge)))
    far = [i for i in order if abs(deviations[i]) > _OUTLYING * spread and i not in huge]
    # More than a few are no outliers but a set of many kinds.
    if 0 < len(far) <= max(1, len(frames) // 20):
        message = (
            f"The energies of {len(far)} frames are more than {_OUTLYING:.0f} robust deviations from the rest, up to "
            f"{deviations[far[0]]:+.2f} eV/atom after reference energies."
        )
        findings.append(Finding("warning", "outliers", message, first(frames[i].origin for i in far)))
    return findings


def _shifted_files(frames: Sequence[Frame], residuals: np.ndarray) -> list[Finding]:
    files: dict[str, list[float]] = {}
    for frame, residual in zip(frames, residuals, strict=True):
        files.setdefault(frame.origin.rsplit(", frame ", 1)[0], []).append(residual)
    medians = sorted((float(np.median(values)), name) for name, values in files.items())
    if medians[-1][0] - medians[0][0] < 1:
        return []
    message = (
        f"Energies of {medians[0][1]} and {medians[-1][1]} are {medians[-1][0] - medians[0][0]:.1f} eV/atom apart after common reference "
        "energies: are they of one method?"
    )
    return [Finding("warning", "offset energies", message)]
