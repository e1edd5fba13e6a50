"""From files of DFT data to batches of labelled graphs."""

from eqpot.data.batches import LabelledGraph, collate_labelled, label_graphs
from eqpot.data.frames import Frame, elements_of
from eqpot.data.read import LabelKeys, file_hash, read_frames
from eqpot.data.reference_energies import fit_reference_energies

__all__ = [
    "Frame",
    "LabelKeys",
    "LabelledGraph",
    "collate_labelled",
    "elements_of",
    "file_hash",
    "fit_reference_energies",
    "label_graphs",
    "read_frames",
]
