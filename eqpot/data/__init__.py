"""From files of DFT data to batches of labelled graphs."""

from eqpot.data.batches import LabelledGraph, batches_by_size, collate_labelled, label_graphs
from eqpot.data.frames import Frame, densities, elements_of
from eqpot.data.labels import LabelKeys, Units
from eqpot.data.read import Source, file_hash, read_frames
from eqpot.data.reference_energies import check_residuals, fit_reference_energies, fit_scale, is_isolated_atom

__all__ = [
    "Frame",
    "LabelKeys",
    "LabelledGraph",
    "Source",
    "Units",
    "batches_by_size",
    "check_residuals",
    "collate_labelled",
    "densities",
    "elements_of",
    "file_hash",
    "fit_reference_energies",
    "fit_scale",
    "is_isolated_atom",
    "label_graphs",
    "read_frames",
]
