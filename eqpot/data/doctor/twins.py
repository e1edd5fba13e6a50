"""Structures that are there twice: within the training frames, and in training and test frames."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from scipy.spatial import cKDTree

from eqpot.data.doctor.findings import Finding, first
from eqpot.data.doctor.geometry import Shape
from eqpot.data.frames import Frame, structure_of

SAME = 3e-3
"""Å. Distances that agree this well are those of one structure, as a potential sees it."""

_SAME_ENERGY, _SAME_FORCE = 1e-3, 0.02
"""eV/atom and eV/Å. Lattices of alloys can have equal distances and other energies; they are different structures."""

_NEAREST = 8


def check_duplicates(frames: Sequence[Frame], shapes: Sequence[Shape | None]) -> list[Finding]:
    """Frames that are there twice, to the last digit or up to rotation, reflection and order of the atoms."""
    findings = []
    exact: dict[bytes, list[int]] = defaultdict(list)
    for index, frame in enumerate(frames):
        exact[structure_of(frame)].append(index)
    groups = [group for group in exact.values() if len(group) > 1]
    copies = {index for group in groups for index in group[1:]}
    if groups:
        names = first(f"{frames[group[0]].origin} = {frames[group[1]].origin}" for group in groups)
        message = f"{len(copies)} frames are copies of others; remove them, or they count more than once."
        findings.append(Finding("warning", "duplicates", message, names))
    conflicts = [group for group in groups if _spread([frames[i] for i in group]) > _SAME_ENERGY]
    if conflicts:
        worst = max(_spread([frames[i] for i in group]) for group in conflicts)
        names = first(f"{frames[group[0]].origin} = {frames[group[1]].origin}" for group in conflicts)
        message = f"{len(conflicts)} structures have several energies, up to {worst:.3g} eV/atom apart; keep the right one."
        findings.append(Finding("error", "duplicates", message, names))
    own = [i for i in range(len(frames)) if i not in copies]
    pairs = [(own[i], own[j]) for i, j in _matches([frames[k] for k in own], [shapes[k] for k in own])]
    later = {max(pair) for pair in pairs}
    if later:
        names = first(f"{frames[i].origin} = {frames[j].origin}" for i, j in pairs)
        message = (
            f"{len(later)} frames equal others up to rotation, reflection, order of the atoms and {SAME} Å: nothing new is learned there."
        )
        findings.append(Finding("warning", "near duplicates", message, names))
    return findings


def check_leaks(
    train: Sequence[Frame], train_shapes: Sequence[Shape | None], test: Sequence[Frame], test_shapes: Sequence[Shape | None]
) -> list[Finding]:
    """Test frames that are training frames, up to rotation, reflection and order of the atoms; elements that were not trained."""
    findings = []
    pairs = _matches(test, test_shapes, train, train_shapes)
    leaked = {i for i, _ in pairs}
    if leaked:
        names = first(f"{test[i].origin} = {train[j].origin}" for i, j in pairs)
        message = (
            f"{len(leaked)} of {len(test)} test frames are training frames, up to rotation, reflection, order of the atoms and {SAME} Å: "
            "errors on them are not those on new structures."
        )
        findings.append(Finding("error", "leaks", message, names))
    known = {int(number) for frame in train for number in frame.atoms.numbers}
    strangers = [frame for frame in test if not known.issuperset(frame.atoms.numbers.tolist())]
    if strangers:
        message = f"{len(strangers)} test frames hold elements that the training frames lack."
        findings.append(Finding("error", "elements", message, first(frame.origin for frame in strangers)))
    return findings


def _spread(frames: Sequence[Frame]) -> float:
    energies = [frame.energy / len(frame.atoms) for frame in frames if frame.energy is not None]
    return max(energies) - min(energies) if energies else 0.0


def _matches(
    frames: Sequence[Frame], shapes: Sequence[Shape | None], others: Sequence[Frame] = (), other_shapes: Sequence[Shape | None] = ()
) -> list[tuple[int, int]]:
    """Return pairs (i, j) of frames and others that are the same structure; without others pairs i > j among the frames."""
    within = not others
    targets, target_shapes = (frames, shapes) if within else (others, other_shapes)
    groups = _by_kind(target_shapes)
    pairs = []
    for kind, asked in _by_kind(shapes).items():
        there = groups.get(kind, [])
        if len(there) < 1 + within:
            continue
        points = np.stack([shape.distances for i in there if (shape := target_shapes[i]) is not None])
        queries = np.stack([shape.distances for i in asked if (shape := shapes[i]) is not None])
        if points.shape[1] == 0:
            near = [list(range(min(len(there), _NEAREST)))] * len(asked)
        else:
            found = cKDTree(points).query(queries, k=min(_NEAREST, len(there)), p=np.inf, distance_upper_bound=SAME)[1]
            near = [[j for j in np.atleast_1d(row) if j < len(there)] for row in found]
        for i, row in zip(asked, near, strict=True):
            match = next((there[j] for j in row if (not within or there[j] < i) and _agree(frames[i], targets[there[j]])), None)
            if match is not None:
                pairs.append((i, match))
    return pairs


def _by_kind(shapes: Sequence[Shape | None]) -> dict[tuple[bytes, bytes], list[int]]:
    groups = defaultdict(list)
    for index, shape in enumerate(shapes):
        if shape is not None:
            groups[shape.kind].append(index)
    return groups


def _agree(a: Frame, b: Frame) -> bool:
    """Tell whether the labels are those of one structure, where both frames have them."""
    if a.energy is not None and b.energy is not None and abs(a.energy - b.energy) > _SAME_ENERGY * len(a.atoms):
        return False
    if a.forces is None or b.forces is None:
        return True
    norms = [np.sort(np.linalg.norm(frame.forces, axis=1)) for frame in (a, b) if frame.forces is not None]
    return bool(abs(norms[0] - norms[1]).max() < _SAME_FORCE)
