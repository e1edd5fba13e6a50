"""How exact the network is: errors under rotations on every grid of orientations, and of splines at every spacing.

python benchmarks/exactness.py          # prints the tables of docs/theory.md, 3 minutes; --keep puts them into docs/measured.jsonl

Everything is float64 and by tensor operations, without the fused kernel. Structures are those of the shipped potentials, with atoms
displaced by 0.05 Å.
"""

import argparse
from collections.abc import Sequence

import numpy as np
import torch
from ase import Atoms
from ase.io import read

from eqpot import load_potential
from eqpot.exactness import force_deviation, result_of, rotation_error
from eqpot.network.build import build_network
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre import OrientationGrid
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.network.orientations import DESIGN_DEGREES, required_degree, spherical_design
from eqpot.network.radial_table import intervals_of, tabulate
from eqpot.potential import Potential
from eqpot.shipped import shipped
from measured import Table

TRAINED = ("rmd17", "ethanol")
SPACINGS = (0.2, 0.1, 0.05, 0.025, 0.0125)
STRUCTURES = 20


def displaced(name: str, seed: int = 0) -> Atoms:
    """Return the structure of a shipped potential with displaced atoms."""
    atoms = read(shipped()[name].path.with_name("structure.extxyz"))
    atoms.rattle(0.05, seed=seed)
    return atoms


def on_grid(potential: Potential, n_points: int) -> Potential:
    """Put the weights of an exact fibre bundle on another grid, be it fine enough or not."""
    network = potential.network
    assert isinstance(network, FibreBundleNetwork)
    grid = OrientationGrid(spherical_design(n_points), network.feature_degree)
    for module in network.modules():
        if hasattr(module, "grid"):
            module.grid = grid
    return potential


def pointwise(like: Potential, n_points: int, rotations: int) -> Potential:
    """Return an untrained network with the pointwise block, for the elements of `like`."""
    config = NetworkConfig(block="pointwise", cutoff=like.cutoff, n_orientations=n_points, rotation_average=rotations)
    torch.manual_seed(0)
    network = build_network(config, len(like.elements), average_neighbors=8.0).double()
    return Potential(network, like.elements, torch.zeros(len(like.elements)), 1.0)


def relative_rotation_error(potential: Potential, atoms: Atoms) -> float:
    """Return the largest change of a force component under 20 rotations and reflections over the root mean square force."""
    potential.requires_grad_(True)  # which the fused kernel leaves alone
    forces = result_of(potential, atoms)["forces"]
    return rotation_error(potential, atoms)[1] / float((forces**2).mean() ** 0.5)


def grids(keep: bool) -> None:
    """Measure potentials on all grids."""
    table = Table("exactness grids", keep)
    for n_points, degree in DESIGN_DEGREES.items():
        values = {}
        for name in TRAINED:
            potential = load_potential(name, dtype="float64")
            config = potential.network.config
            needed = required_degree(config.feature_degree, config.kernel_degree)
            label = f"`{name}`, L {config.feature_degree}, Lk {config.kernel_degree}, t ≥ {needed}"
            values[label] = relative_rotation_error(on_grid(potential, n_points), displaced(name))
        like = load_potential("ethanol", dtype="float64")
        for rotations, label in ((1, "pointwise"), (60, "pointwise, mean of 60 rotations")):
            values[label] = relative_rotation_error(pointwise(like, n_points, rotations), displaced("ethanol"))
        table.add({"points": n_points, "t": degree}, values)


def splines(keep: bool) -> None:
    """Measure a potential whose radial functions are splines against one whose functions are a perceptron."""
    exact = load_potential("ethanol", dtype="float64").requires_grad_(True)
    structures = [displaced("ethanol", seed) for seed in range(STRUCTURES)]
    expected = [result_of(exact, atoms) for atoms in structures]
    table = Table("exactness splines", keep)
    for spacing in SPACINGS:
        splined = with_splines(exact, spacing)
        found = [result_of(splined, atoms) for atoms in structures]
        values = {
            "energy, RMS, meV": 1000 * root_mean_square([a["energy"] - b["energy"] for a, b in zip(found, expected, strict=True)]),
            "force, RMS, meV/Å": 1000 * root_mean_square([a["forces"] - b["forces"] for a, b in zip(found, expected, strict=True)]),
            "force against differences of the energy": force_deviation(splined, structures[0]),
        }
        table.add({"spacing, Å": spacing}, values)


def with_splines(exact: Potential, spacing: float) -> Potential:
    """Return a potential with splines as radial functions, without the fused kernel."""
    network = exact.network
    assert isinstance(network, FibreBundleNetwork)
    tabulated = tabulate(network, intervals_of(network.config.cutoff, spacing))
    return Potential(tabulated, exact.elements, exact.reference_energies, float(exact.scale)).requires_grad_(True)


def root_mean_square(arrays: Sequence[np.ndarray]) -> float:
    return float(np.sqrt(np.mean(np.square(arrays))))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="put the rows into docs/measured.jsonl")
    keep = parser.parse_args().keep
    grids(keep)
    splines(keep)


if __name__ == "__main__":
    main()
