"""What the tests share."""

from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import molecule
from ase.calculators.calculator import Calculator, all_changes
from scipy.spatial.transform import Rotation

from eqpot.neighbors import build_graph
from eqpot.network.build import build_network
from eqpot.network.config import NetworkConfig
from eqpot.potential import Potential

ROOT = Path(__file__).parents[1]
DATA = ROOT / "examples" / "data"
ETHANOL = DATA / "ethanol.npz"
ASPIRIN = DATA / "aspirin.npz"
SILICON = DATA / "silicon.extxyz"

SMALL = NetworkConfig(n_channels=8, radial_width=16, n_bessel=6, cutoff=4.0)
POINTWISE = SMALL.model_copy(update={"block": "pointwise"})
NETWORKS = {
    "exact": SMALL,
    "pointwise": POINTWISE,
    "pointwise, averaged": POINTWISE.model_copy(update={"rotation_average": 12}),
    "point cloud": SMALL.model_copy(update={"geometry": "point_cloud"}),
    "position": SMALL.model_copy(update={"geometry": "position"}),
}
"""One small network of every geometry and block."""


def random_potential(elements=(1, 6, 8), config=SMALL, seed=0, dtype=torch.float64) -> Potential:
    """A potential with random weights, large enough that every part of the network matters."""
    torch.manual_seed(seed)
    network = build_network(config, len(elements), average_neighbors=8.0)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(1.5)
    references = -torch.arange(1.0, len(elements) + 1, dtype=torch.float64)
    return Potential(network, list(elements), references, scale=1.2).to(dtype).requires_grad_(False)


def evaluate(potential: Potential, atoms: Atoms) -> dict[str, np.ndarray]:
    """Energy, energies, forces and stress as arrays."""
    return {name: value.numpy() for name, value in potential.evaluate(build_graph(atoms, potential.cutoff)).items()}


def rotation_error(potential: Potential, atoms: Atoms) -> float:
    """Largest change of the network's energy and forces under rotations and reflections, relative to their size."""
    reference = evaluate(potential, atoms)
    offset = potential.reference_energies[potential.species_of_number[torch.tensor(atoms.numbers)]].sum().item()
    worst = 0.0
    for seed in range(10):
        matrix = Rotation.random(rng=np.random.default_rng(seed)).as_matrix() * (-1) ** seed
        turned = atoms.copy()
        turned.positions = atoms.positions @ matrix.T
        turned.cell = atoms.cell.array @ matrix.T
        result = evaluate(potential, turned)
        energy_error = abs(result["energy"][0] - reference["energy"][0]) / abs(reference["energy"][0] - offset)
        force_error = abs(result["forces"] - reference["forces"] @ matrix.T).max() / abs(reference["forces"]).max()
        worst = max(worst, energy_error, force_error)
    return worst


def ethanol() -> Atoms:
    atoms = molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    return atoms


def crystal(symbols: str = "CO", pbc=True) -> Atoms:
    """A small triclinic, sheared crystal whose cell is shorter than the cutoff."""
    random = np.random.default_rng(3)
    cell = 3.1 * (np.eye(3) + 0.2 * random.normal(size=(3, 3)))
    return Atoms(symbols, scaled_positions=[[0.02, 0.0, 0.1], [0.45, 0.55, 0.5]], cell=cell, pbc=pbc)


class Noisy(Calculator):
    """Forces of noise of a size, which no optimizer brings to rest."""

    implemented_properties = ("energy", "forces", "stress")

    def __init__(self, size):
        super().__init__()
        self.size, self.generator = size, np.random.default_rng(0)

    def calculate(self, atoms, properties, changes=all_changes):
        super().calculate(atoms, properties, changes)
        self.results = {"energy": 0.0, "forces": self.generator.normal(0, self.size, (len(atoms), 3)), "stress": np.zeros(6)}
