"""What must hold of any potential, measured: rotations, derivatives, smoothness at the cutoff, extensivity."""

import itertools

import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from eqpot.errors import NeighborError
from eqpot.neighbors import build_graph
from eqpot.potential import Potential

DIFFERENTIATED_ATOMS = 64
"""Forces are compared with differences on so many atoms at most."""


def result_of(potential: Potential, atoms: Atoms) -> dict[str, np.ndarray]:
    """Return energy [1], energies, forces and stress of a structure as arrays; units of `Potential.evaluate`."""
    graph = build_graph(atoms, potential.cutoff).to(potential.device)
    return {name: value.cpu().numpy() for name, value in potential.evaluate(graph).items()}


def energy_of(potential: Potential, atoms: Atoms) -> float:
    """Return the energy of a structure, eV."""
    return float(result_of(potential, atoms)["energy"][0])


def rotation_error(potential: Potential, atoms: Atoms, n_rotations: int = 20) -> tuple[float, float]:
    """Return the largest changes of the energy (eV) and of a force component (eV/Å) under rotations and reflections."""
    reference = result_of(potential, atoms)
    energy_errors, force_errors = [], []
    for seed in range(n_rotations):
        matrix = Rotation.random(rng=np.random.default_rng(seed)).as_matrix() * (-1) ** seed
        turned = Atoms(atoms.numbers, atoms.positions @ matrix.T, cell=atoms.cell.array @ matrix.T, pbc=atoms.pbc)
        result = result_of(potential, turned)
        energy_errors.append(abs(result["energy"][0] - reference["energy"][0]))
        force_errors.append(abs(result["forces"] - reference["forces"] @ matrix.T).max())
    # Not Python's max: a NaN must come out.
    return float(np.max(energy_errors)), float(np.max(force_errors))


def force_deviation(potential: Potential, atoms: Atoms, step: float = 1e-4) -> float:
    """Return the largest difference of a force from central differences of the energy, relative to the largest force.

    Where symmetry makes forces vanish, relative to a thousandth of the potential's scale. Of large structures only atoms at even
    distances in the list, DIFFERENTIATED_ATOMS of them, are moved.
    """
    forces = result_of(potential, atoms)["forces"]
    chosen = np.unique(np.linspace(0, len(atoms) - 1, min(len(atoms), DIFFERENTIATED_ATOMS)).astype(int))
    deviations = []
    for index in itertools.product(chosen, range(3)):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index] += sign * step
            energies.append(energy_of(potential, moved))
        deviations.append(abs((energies[1] - energies[0]) / (2 * step) - forces[index]))
    return float(np.max(deviations) / max(abs(forces).max(), 1e-3 * float(potential.scale)))


def stress_deviation(potential: Potential, atoms: Atoms, step: float = 1e-5) -> float:
    """Return the largest difference of the stress from central differences of strain, relative to the largest component.

    Where there is all but none, relative to a thousandth of the potential's scale over Å^2.
    """
    stress = result_of(potential, atoms)["stress"][0]
    numerical = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = Atoms(atoms.numbers, atoms.positions @ strain, cell=atoms.cell.array @ strain, pbc=atoms.pbc)
            energies.append(energy_of(potential, strained))
        numerical[i, j] = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
    return float(abs(numerical - stress).max() / max(abs(stress).max(), 1e-3 * float(potential.scale)))


def cutoff_jump(potential: Potential, atoms: Atoms, step: float = 1e-6) -> float:
    """Return how much more a force (eV/Å) changes while a neighbour passes the cutoff than over the next as short way.

    The first atom is drawn away from the others until one of them leaves its neighbourhood, or comes into it; zero where that does not
    happen, as with an atom that is alone or runs into another before. A force without kink gives zero to second order in step, Å.
    """
    if len(atoms) == 1:
        # An atom does not move among its own images.
        atoms = atoms.repeat([2 if periodic else 1 for periodic in atoms.pbc])
    direction = atoms.positions[0] - atoms.positions.mean(axis=0) + np.array([1e-3, 2e-3, 3e-3])
    direction /= np.linalg.norm(direction)

    def at(way: float) -> Atoms:
        moved = atoms.copy()
        moved.positions[0] += way * direction
        return moved

    def edges(way: float) -> int:
        return int(build_graph(at(way), potential.cutoff).edge_index.shape[1])

    count = edges(0.0)
    ways = np.linspace(0.0, potential.cutoff, 200)
    try:
        # No further than that: beyond it there may be another atom.
        first = next((k for k in range(1, len(ways)) if edges(ways[k]) != count), None)
    except NeighborError:
        first = None
    if first is None:
        return 0.0
    low, high = ways[first - 1], ways[first]
    while high - low > 1e-9:
        middle = (low + high) / 2
        low, high = (middle, high) if edges(middle) == count else (low, middle)
    before, after, beyond = (result_of(potential, at(low + way))["forces"] for way in (-step, step, 3 * step))
    return float(abs((after - before) - (beyond - after)).max())


def extensivity_error(potential: Potential, atoms: Atoms) -> float:
    """Return by how much the energy of two copies, which do not meet, differs from twice the energy, eV/atom."""
    if atoms.pbc.any():
        axis = int(np.argmax(atoms.pbc))
        both = atoms.repeat([2 if k == axis else 1 for k in range(3)])
    else:
        both = atoms.copy()
        other = atoms.copy()
        other.positions += np.ptp(atoms.positions, axis=0) + potential.cutoff
        both += other
    return abs(energy_of(potential, both) - 2 * energy_of(potential, atoms)) / len(both)
