"""Phonons of crystals, slabs and wires by finite displacements."""

import itertools
import logging
import math
import tempfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ase.phonons
import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.dft.kpoints import BandPath, monkhorst_pack, parse_path_string
from ase.geometry import minkowski_reduce
from scipy.ndimage import gaussian_filter1d

from eqpot.errors import ConfigError, DataError, short
from eqpot.properties.symmetry import primitive_cell, space_group
from eqpot.properties.tables import write_columns, write_summary
from eqpot.units import FREQUENCY

logger = logging.getLogger(__name__)

TERAHERTZ = 4.135667696e-3
"""The energy of a quantum of 1 THz in eV."""
LENGTH = 20.0
"""Å: half of it is the reach of two messages over the shipped potentials' cutoff; see `supercell`."""
DISPLACEMENT = 0.01
IMAGINARY = 0.05
"""THz: what the supercell's size leaves of a band that bends away from zero at Gamma may be imaginary by this much."""
_LARGEST_FORCE = 0.02
"""eV/Å: forces beyond this say that the structure is not at rest."""
_AS_NEAR = 1e-3
"""Å by which the distances of images that are equally near may differ."""
_AT_ONCE = 500
"""Wave vectors whose phases are in memory together."""
_PATH_POINTS = 300
_MOST_ATOMS = 20_000
"""Of a supercell: forces decay long before, every displacement would take minutes, and the length is rather a mistake of units."""
_MESH_LENGTHS = {1: 4000.0, 2: 200.0, 3: 60.0}
"""Å: wave vectors of the density of states are those of a wire, slab or crystal of about this size."""


@dataclass(frozen=True)
class Phonons:
    """Frequencies in THz, imaginary ones negative, of `atoms`, a primitive cell.

    bands [n_points, n_modes] along `path`; density [n_frequencies], states per THz and cell, at `axis` (THz), which integrates to
    n_modes; zero_point_energy: eV per cell; acoustic: the third smallest frequency at Γ, zero where translations cost nothing; lowest:
    of path and mesh together.
    """

    atoms: Atoms
    supercell: tuple[int, int, int]
    displacement: float
    largest_force: float
    path: BandPath
    bands: np.ndarray
    axis: np.ndarray
    density: np.ndarray
    zero_point_energy: float
    acoustic: float
    lowest: float
    lowest_at: np.ndarray

    @property
    def is_stable(self) -> bool:
        """Whether no frequency is imaginary beyond IMAGINARY."""
        return self.lowest > -IMAGINARY

    def ticks(self) -> Iterator[tuple[float, str, int]]:
        """Yield distance along the path (1/Å), name and index in `bands` of the special points, in the order of the path."""
        distances = self.path.get_linear_kpoint_axis()[0]
        for index, point in enumerate(self.path.kpts):
            for name, special in self.path.special_points.items():
                if abs(point - special).max() < 1e-6:
                    yield float(distances[index]), "Γ" if name == "G" else name, index

    def write(self, folder: Path) -> None:
        """Write bands.csv, dos.csv, primitive.extxyz and summary.json into `folder`."""
        n_modes = self.bands.shape[1]
        columns = {"distance_per_ang": self.path.get_linear_kpoint_axis()[0]}
        columns |= {f"q{axis + 1}": self.path.kpts[:, axis] for axis in range(3)}
        write_columns(folder / "bands.csv", columns | {f"mode_{mode + 1}_thz": self.bands[:, mode] for mode in range(n_modes)})
        write_columns(folder / "dos.csv", {"frequency_thz": self.axis, "states_per_thz_and_cell": self.density})
        self.atoms.write(folder / "primitive.extxyz", format="extxyz")
        special = {name: index for _, name, index in self.ticks()}
        points = {
            name: {"q": self.path.kpts[index].tolist(), "frequencies_thz": self.bands[index].tolist()} for name, index in special.items()
        }
        summary: dict[str, Any] = {
            "formula": self.atoms.get_chemical_formula(),
            "space_group": space_group(self.atoms),
            "supercell": list(self.supercell),
            "displacement_ang": self.displacement,
            "largest_force_ev_per_ang": self.largest_force,
            "path": self.path.path,
            "special_points": points,
            "zero_point_energy_ev": self.zero_point_energy,
            "lowest_frequency_thz": self.lowest,
            "lowest_at": self.lowest_at.tolist(),
            "acoustic_at_gamma_thz": self.acoustic,
        }
        write_summary(folder / "summary.json", summary)


def supercell(atoms: Atoms, length: float = LENGTH) -> tuple[int, int, int]:
    """Return how often a cell is repeated so that opposite faces are at least `length` apart, in Å; once in open directions.

    Odd numbers, as ASE makes the force constants of all cells symmetric for these alone. Every pair closer than half of `length`, less
    the size of the cell, then stands in the supercell as it stands in the crystal. ConfigError for a length without sense.
    """
    if not 0 < length < math.inf:
        raise ConfigError(f"The supercell's length is {length:g} Å; it must be positive and finite.")
    numbers = np.where(atoms.pbc, np.ceil(length / _heights(atoms) - 1e-9), 1)
    odd = numbers + 1 - numbers % 2
    # Python's floating-point numbers become infinite without a warning.
    n_atoms = len(atoms) * math.prod(odd.tolist())
    if n_atoms > _MOST_ATOMS:
        raise ConfigError(
            f"A length of {length:g} Å makes a supercell of {n_atoms:,.8g} atoms, above {_MOST_ATOMS:,}; choose a shorter one."
        )
    first, second, third = (int(number) for number in odd)
    return first, second, third


def phonons(atoms: Atoms, length: float = LENGTH, displacement: float = DISPLACEMENT, path: str | None = None) -> Phonons:
    """Compute the phonons of `atoms`, which have a calculator; the structure is left as it is, its constraints out.

    Crystals are reduced to the primitive cell; slabs and wires are taken with the cell that is given. Force constants are central
    differences of forces, made symmetric, with the acoustic sum rule. length: see `supercell`.
    path: special points such as `GXL` or `GX,UG`, by default ASE's for the lattice. The log warns of forces that act, and of
    imaginary modes. Raises ConfigError for settings without sense, DataError where the structure is not periodic.
    """
    if not 0 < displacement <= 0.1:
        raise ConfigError(f"The displacement is {displacement:g} Å; choose more than 0 and at most 0.1.")
    if not atoms.pbc.any():
        raise DataError("The structure is not periodic, so it has no phonons; ask for its vibrations.")
    cell = primitive_cell(atoms)
    cell.set_cell(cell.cell.complete())
    numbers, band_path = supercell(cell, length), _band_path(cell, path)
    cell.calc = atoms.calc
    force = float(np.linalg.norm(cell.get_forces(), axis=1).max())
    # The supercell takes the calculator over.
    cell.calc = None
    constants = force_constants(cell, atoms.calc, numbers, displacement)
    mesh = _mesh(cell)
    points = np.concatenate([band_path.kpts, mesh, np.zeros((1, 3))])
    values = frequencies(constants, points)
    bands, on_mesh, at_gamma = np.split(values, [len(band_path.kpts), len(points) - 1])
    axis, density = _density(on_mesh)
    result = Phonons(
        cell,
        numbers,
        displacement,
        force,
        band_path,
        bands,
        axis,
        density,
        zero_point_energy=float(TERAHERTZ * on_mesh.clip(min=0).sum(axis=1).mean() / 2),
        acoustic=float(np.sort(abs(at_gamma[0]))[2]),
        lowest=float(values.min()),
        lowest_at=points[values.min(axis=1).argmin()],
    )
    _warn(result)
    return result


def force_constants(atoms: Atoms, calculator: Calculator, numbers: tuple[int, int, int], displacement: float) -> ase.phonons.Phonons:
    """Return ASE's phonons of a primitive cell, displaced in a supercell of `numbers` cells."""
    with tempfile.TemporaryDirectory() as folder:
        result = ase.phonons.Phonons(atoms, calculator, supercell=numbers, delta=displacement, name=f"{folder}/phonons")
        result.run()
        result.read(acoustic=True)
    return result


def frequencies(of: ase.phonons.Phonons, points: np.ndarray) -> np.ndarray:
    """Return frequencies in THz [n_points, n_modes] at wave vectors [n_points, 3] in reciprocal lattice vectors; imaginary are negative.

    D(q) = sum over R of D(R) exp(-2 pi i q . R), of the dynamical matrices of `nearest_images`.
    """
    vectors, matrices = nearest_images(of)
    squares = []
    for some in np.array_split(points, math.ceil(len(points) / _AT_ONCE)):
        dynamical = np.tensordot(np.exp(-2j * np.pi * some @ vectors.T), matrices, axes=1)
        squares.append(np.linalg.eigvalsh((dynamical + dynamical.conj().swapaxes(1, 2)) / 2))
    values = np.concatenate(squares)
    return np.sign(values) * np.sqrt(abs(values)) * FREQUENCY / TERAHERTZ


def nearest_images(of: ase.phonons.Phonons) -> tuple[np.ndarray, np.ndarray]:
    """Return lattice vectors R [n, 3] and, for each, the force constants between cells R apart, over the roots of the masses.

    A force in a supercell comes of all images of the displaced atom. It is taken for that of the nearest, and in equal parts where
    several are as near (Parlinski, Li and Kawazoe, Phys. Rev. Lett. 78, 4063 (1997)): other choices break the crystal's symmetry.
    """
    atoms, numbers, constants = of.atoms, np.array(of.supercell), of.D_N
    assert constants is not None
    cells = of.compute_lattice_vectors().T
    # From within a cell of the supercell's lattice with short vectors the nearest image is at most one cell away.
    short_cell, combinations = minkowski_reduce(atoms.cell.array * numbers[:, None], atoms.pbc)
    inverse = np.where(atoms.pbc, np.linalg.inv(short_cell), 0.0)
    ways = np.array(list(itertools.product(*(range(-1, 2) if periodic else [0] for periodic in atoms.pbc))))
    shares: dict[tuple[int, ...], np.ndarray] = defaultdict(lambda: np.zeros(constants.shape[1:]))
    for i, j in np.ndindex(len(atoms), len(atoms)):
        between = atoms.positions[j] - atoms.positions[i]
        turns = np.round((cells @ atoms.cell.array + between) @ inverse).astype(int)
        vectors = cells[:, None] + (ways - turns[:, None]) @ combinations * numbers
        distances = np.linalg.norm(vectors @ atoms.cell.array + between, axis=2)
        nearest = distances < distances.min(axis=1, keepdims=True) + _AS_NEAR
        pair = slice(3 * i, 3 * i + 3), slice(3 * j, 3 * j + 3)
        for cell, way in zip(*np.nonzero(nearest), strict=True):
            shares[tuple(vectors[cell, way])][pair] += constants[cell][pair] / nearest[cell].sum()
    return np.array(list(shares)), np.array(list(shares.values()))


def _band_path(atoms: Atoms, path: str | None) -> BandPath:
    if path is not None and any(len(part) < 2 for part in parse_path_string(path)):
        raise ConfigError(f"The path {path!r} goes nowhere in some part; name at least two special points a part, such as GX or GX,UG.")
    try:
        result = atoms.cell.bandpath(path, npoints=_PATH_POINTS, pbc=atoms.pbc)
    except KeyError as error:
        known = ", ".join(atoms.cell.bandpath(npoints=0, pbc=atoms.pbc).special_points)
        raise ConfigError(f"The path {path!r} goes through {error}, which is no special point of this lattice; it has {known}.") from error
    except RuntimeError as error:
        raise DataError(f"No Bravais lattice is found for the cell ({short(error)}); make its vectors more regular.") from error
    if len(result.kpts) < 2 or abs(np.diff(result.kpts, axis=0)).max() == 0:
        raise ConfigError(f"The path {path!r} goes nowhere; name at least two special points, such as GX.")
    return result


def _heights(atoms: Atoms) -> np.ndarray:
    """Return the distances between opposite faces of the cell, [3], Å."""
    return 1 / np.linalg.norm(np.linalg.inv(atoms.cell.complete().array), axis=0)


def _mesh(atoms: Atoms) -> np.ndarray:
    """Return wave vectors that fill the Brillouin zone evenly and keep off Gamma."""
    heights, length = _heights(atoms), _MESH_LENGTHS[int(atoms.pbc.sum())]
    return monkhorst_pack(np.where(atoms.pbc, 2 * np.ceil(length / heights / 2), 1).astype(int))


def _density(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return frequencies and states per THz at them, each state a Gaussian a hundredth of the highest frequency wide."""
    width = abs(values).max() / 100
    step, margin = width / 4, 6 * width
    edges = np.arange(min(values.min(), 0.0) - margin, values.max() + margin + step, step)
    counts, _ = np.histogram(values, edges)
    return (edges[:-1] + edges[1:]) / 2, gaussian_filter1d(counts / (len(values) * step), width / step, mode="constant", truncate=5)


def _warn(result: Phonons) -> None:
    if result.largest_force > _LARGEST_FORCE:
        logger.warning(
            "Forces of up to %.2g eV/Å act on the structure, and phonons belong to one at rest; relax it first (eqpot relax).",
            result.largest_force,
        )
    if not result.is_stable:
        logger.warning(
            "There are imaginary modes, down to %.2fi THz at q = (%.3f, %.3f, %.3f): the structure is no minimum of the energy, or the "
            "supercell is too short.",
            -result.lowest,
            *result.lowest_at,
        )
