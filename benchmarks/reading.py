"""How long data take at the first and at the second start of a fit, and in the doctor: python benchmarks/reading.py [--frames N]."""

import argparse
import logging
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import ase.io
import numpy as np

from eqpot.data import label_graphs, read_frames
from eqpot.data.doctor import examine

EXCERPT = Path(__file__).parents[1] / "examples" / "data" / "silicon.extxyz"
CUTOFF = 5.0


def write_frames(path: Path, n_frames: int) -> int:
    """Write the excerpt's frames again and again, each a little displaced; return the number of atoms."""
    random = np.random.default_rng(0)
    originals = ase.io.read(EXCERPT, ":")
    frames = []
    for index in range(n_frames):
        atoms = originals[index % len(originals)].copy()
        atoms.calc = originals[index % len(originals)].calc
        atoms.positions += random.normal(scale=0.02, size=atoms.positions.shape)
        atoms.calc.atoms = atoms.copy()
        frames.append(atoms)
    ase.io.write(path, frames, format="extxyz")
    return sum(map(len, frames))


def timed(function: Callable[[], Any]) -> tuple[Any, float]:
    started = time.perf_counter()
    return function(), time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=10_000)
    arguments = parser.parse_args()
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        path, cache = Path(folder) / "frames.extxyz", Path(folder) / "cache"
        n_atoms = write_frames(path, arguments.frames)
        print(f"{arguments.frames} frames, {n_atoms} atoms, cutoff {CUTOFF} Å")
        print("| start | read, s | neighbours, s |\n| --- | --- | --- |")
        for name, kept in (("without a cache", None), ("first, filling it", cache), ("second", cache)):
            frames, reading = timed(lambda kept=kept: read_frames(path, cache=kept))
            graphs, building = timed(lambda frames=frames, kept=kept: label_graphs(frames, CUTOFF, kept))
            print(f"| {name} | {reading:.2f} | {building:.2f} |")
        _, walking = timed(lambda: [graph.energy for graph in graphs])
        print(f"going through the cached graphs once: {walking:.2f} s; the cache has {size(cache) / 1e6:.0f} MB")
        print(f"eqpot doctor data: {timed(lambda: examine([path]))[1]:.1f} s")


def size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.iterdir())


if __name__ == "__main__":
    main()
