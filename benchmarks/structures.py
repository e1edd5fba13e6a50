"""The structures that the speed benchmark runs on, the same at every call."""

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms, units
from ase.build import bulk, molecule
from ase.neighborlist import neighbor_list

ASPIRIN = Path(__file__).parent / "systems" / "aspirin.extxyz"

_SILICON_CELLS = {"si64": (2, 2, 2), "si512": (4, 4, 4), "si4096": (8, 8, 8), "si32768": (16, 16, 16), "si200000": (25, 25, 40)}


def make_structure(name: str) -> Atoms:
    """Return aspirin, water64 (molecules, at 1 g/cm^3), cu1000 or si64, si512, si4096, si32768, si200000; KeyError for other names.

    The crystals are moved by up to 0.05 Å along every axis.
    """
    if name == "aspirin":
        return ase.io.read(ASPIRIN)
    if name == "water64":
        return _water(4)
    crystal = bulk("Cu", a=3.615, cubic=True) * (5, 5, 10) if name == "cu1000" else bulk("Si", a=5.431, cubic=True) * _SILICON_CELLS[name]
    crystal.positions += np.random.default_rng(0).uniform(-0.05, 0.05, crystal.positions.shape)
    return crystal


def average_neighbors(atoms: Atoms, cutoff: float) -> float:
    """Return what the networks divide their messages by: the neighbours of an atom within the cutoff, Å."""
    return len(neighbor_list("i", atoms, cutoff)) / len(atoms)


def _water(n: int) -> Atoms:
    """n^3 molecules near the points of a cubic lattice, each turned at random."""
    random = np.random.default_rng(0)
    gram, centimetre = units.kg / 1e3, units.m / 100
    edge = (n**3 * molecule("H2O").get_masses().sum() * centimetre**3 / gram) ** (1 / 3)
    box = Atoms(cell=[edge] * 3, pbc=True)
    for site in np.ndindex(n, n, n):
        water = molecule("H2O")
        water.euler_rotate(*random.uniform(0, 360, 3))
        water.translate((np.array(site) + 0.5) * edge / n + random.normal(scale=0.15, size=3))
        box += water
    return box
