"""Stresses of copper's strained cells with the constant pressure that their energies ask for; no stress for all other frames.

The stresses of mlearn's copper lack a constant pressure: energies E and stresses s of cells stretched along one axis by e do not fulfil
dE/de = V0 (s + c) with c = 0. The constant c is fitted to the energies, with s a cubic of e, and given back.

    python benchmarks/copper_stresses.py Cu_train.extxyz.gz copper_train.extxyz
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from eqpot.units import GIGAPASCAL


def missing_stress(frames: list[Atoms]) -> tuple[float, float]:
    """Return the constant and its standard error, eV/Å^3; frames: unsheared, one edge of a cube stretched or compressed in each."""
    edges = np.array([frame.cell.lengths() for frame in frames])
    cube = np.median(edges)
    axis = abs(edges - cube).argmax(axis=1)
    rows = np.arange(len(frames))
    strain = edges[rows, axis] / cube - 1
    stress = np.polyfit(strain, np.array([frame.get_stress(voigt=False) for frame in frames])[rows, axis, axis], 3)
    energy = np.array([frame.get_potential_energy() for frame in frames]) / cube**3 - np.polyval(np.polyint(stress), strain)
    (constant, _), covariance = np.polyfit(strain, energy, 1, cov=True)
    return float(constant), float(np.sqrt(covariance[0, 0]))


def with_stresses_of_strained_cells(frames: list[Atoms]) -> tuple[list[Atoms], float, float]:
    """Return the frames with energies and forces, those of the group Elastic with mended stresses; the constant and its error, eV/Å^3."""
    elastic = [frame.info["config_type"] == "Elastic" for frame in frames]
    stretched = [frame for frame, strained in zip(frames, elastic, strict=True) if strained and np.allclose(frame.cell.angles(), 90)]
    constant, error = missing_stress(stretched)
    found = []
    for frame, strained in zip(frames, elastic, strict=True):
        labels = {"energy": frame.get_potential_energy(), "forces": frame.get_forces()}
        if strained:
            labels["stress"] = frame.get_stress() + constant * np.array([1, 1, 1, 0, 0, 0])
        mended = Atoms(frame.numbers, frame.positions, cell=frame.cell, pbc=True, info={"config_type": frame.info["config_type"]})
        mended.calc = SinglePointCalculator(mended, **labels)
        found.append(mended)
    return found, constant, error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("frames", type=Path, help="mlearn's copper with its stresses")
    parser.add_argument("output", type=Path, help="extxyz file to write")
    arguments = parser.parse_args()
    found, constant, error = with_stresses_of_strained_cells(ase.io.read(arguments.frames, ":"))
    ase.io.write(arguments.output, found)
    n_strained = sum("stress" in frame.calc.results for frame in found)
    print(f"{constant / GIGAPASCAL:.2f} ± {error / GIGAPASCAL:.2f} GPa added to the stresses of {n_strained} of {len(found)} frames")


if __name__ == "__main__":
    main()
