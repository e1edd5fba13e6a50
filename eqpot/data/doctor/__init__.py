"""`examine`: what is wrong with data, before a fit finds out."""

from collections.abc import Sequence
from pathlib import Path

from eqpot.data.doctor.findings import Finding, first
from eqpot.data.doctor.geometry import check_cells, check_distances, measure
from eqpot.data.doctor.labels import check_energies, check_forces, check_missing, check_stress
from eqpot.data.doctor.twins import check_duplicates, check_leaks
from eqpot.data.doctor.work import check_work
from eqpot.data.frames import Frame
from eqpot.data.labels import LabelKeys
from eqpot.data.read import Source, as_sources, read_source
from eqpot.errors import DataError

__all__ = ["Finding", "examine", "examine_frames"]


def examine(
    sources: Sequence[str | Path | Source], against: Sequence[str | Path | Source] = (), keys: LabelKeys | None = None, cutoff: float = 5.0
) -> tuple[list[Frame], list[Finding]]:
    """Read files and return their frames and what is to be said about them, errors first.

    against: test files, of which no frame should be among the others. cutoff in Å is that of the potential to be fitted.
    """
    findings: list[Finding] = []
    train = [frame for source in as_sources(sources, keys) for frame in _read(source, findings)]
    test = [frame for source in as_sources(against, keys) for frame in _read(source, findings)]
    findings += examine_frames(train, test, cutoff)
    order = ("error", "warning", "note")
    return train, sorted(findings, key=lambda finding: order.index(finding.level))


def examine_frames(train: Sequence[Frame], test: Sequence[Frame] = (), cutoff: float = 5.0) -> list[Finding]:
    """Return what is to be said about frames that are in memory."""
    if not train:
        return []
    shapes, findings = measure(train, cutoff)
    findings += check_missing(train) + check_forces(train) + check_stress(train) + check_energies(train) + check_work(train)
    findings += check_distances(train, shapes, cutoff) + check_cells(train) + check_duplicates(train, shapes)
    if test:
        test_shapes, refused = measure(test, cutoff)
        findings += refused + check_leaks(train, shapes, test, test_shapes)
    return findings


def _read(source: Source, findings: list[Finding]) -> list[Frame]:
    problems: list[str] = []
    try:
        loaded = read_source(source, problems=problems)
    except DataError as error:
        findings.append(Finding("error", "reading", str(error)))
        return []
    if problems:
        message = f"{len(problems)} of {len(problems) + len(loaded.frames)} frames of {source.path} cannot be used."
        findings.append(Finding("error", "reading", message, first(problems)))
    findings.append(Finding("note", "labels", f"{source.path}: {loaded.served}."))
    if loaded.unused:
        message = f"{source.path} also holds {', '.join(loaded.unused)}, which look like labels and are not used."
        findings.append(Finding("note", "labels", message))
    return loaded.frames
