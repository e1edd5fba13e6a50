"""Elastic constants of crystals by central differences of the stress."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from ase import Atoms

from eqpot.errors import ConfigError, DataError, SimulationError
from eqpot.properties.relaxation import relax
from eqpot.properties.symmetry import cubic_axes, point_group, primitive_cell, space_group
from eqpot.properties.tables import write_columns, write_summary
from eqpot.units import GIGAPASCAL

logger = logging.getLogger(__name__)

RELAXATIONS = ("atoms", "none")
STRAIN = 0.005
"""Differences of strains of half a percent miss the constants by the square of it: a few hundredths of a percent."""
FMAX = 1e-5
"""eV/Å: strains displace atoms by thousandths of an Å, and the forces that act on them before are some hundredths of an eV/Å."""
COMPONENTS = ("xx", "yy", "zz", "yz", "xz", "xy")
_PAIRS = np.array([[0, 0], [1, 1], [2, 2], [1, 2], [0, 2], [0, 1]])
_PLACES = np.array([[0, 5, 4], [5, 1, 3], [4, 3, 2]])
"""Where in COMPONENTS a component of a tensor [3, 3] stands."""
_ROOTS = np.sqrt([1, 1, 1, 2, 2, 2])
_LARGEST_FORCE = 0.02
_LARGEST_STRESS = 0.2
"""GPa: stress changes elastic constants by several times its size, since they grow with pressure."""


class Averages(NamedTuple):
    """A modulus of a polycrystal, GPa: if all grains had one strain (Voigt), if they had one stress (Reuss)."""

    voigt: float
    reuss: float

    @property
    def hill(self) -> float:
        """The mean of the two, which are bounds: Hill, Proc. Phys. Soc. A 65, 349 (1952)."""
        return (self.voigt + self.reuss) / 2


class CubicConstants(NamedTuple):
    """The constants of a cubic crystal along the edges of the cube, however it lies in space, GPa."""

    c11: float
    c12: float
    c44: float

    @property
    def anisotropy(self) -> float:
        """Stiffness against shear along the faces of the cube over that along their diagonals; 1 where all directions are equal (Zener)."""
        return 2 * self.c44 / (self.c11 - self.c12)


@dataclass(frozen=True)
class ElasticConstants:
    """Elastic constants of `atoms`, a primitive cell: `tensor` [6, 6] in GPa, in the structure's Cartesian axes, xx, yy, zz, yz, xz, xy.

    A column holds the slopes of the six stresses by one strain; a shear strain is twice the component of the strain tensor. asymmetry:
    by how much, at most, slopes and symmetric tensor differ, GPa. largest_force (eV/Å) and largest_stress (GPa) are those of the structure
    before it is strained.
    """

    atoms: Atoms
    tensor: np.ndarray
    strain: float
    relaxation: str
    asymmetry: float
    largest_force: float
    largest_stress: float

    @property
    def eigenvalues(self) -> np.ndarray:
        """Eigenvalues [6] of the tensor in an orthonormal basis of strains, GPa, rising; the same in all Cartesian axes.

        Of a cubic crystal these are C11 - C12 twice, 2 C44 three times, and C11 + 2 C12.
        """
        return np.linalg.eigvalsh(self.tensor * np.outer(_ROOTS, _ROOTS))

    @property
    def is_stable(self) -> bool:
        """Whether every small strain costs energy: Born's condition, as in Mouhat and Coudert, Phys. Rev. B 90, 224104 (2014)."""
        return bool(self.eigenvalues[0] > 0)

    @property
    def bulk_modulus(self) -> Averages:
        return Averages(float(self.tensor[:3, :3].mean()), float(1 / self._compliance[:3, :3].sum()))

    @property
    def shear_modulus(self) -> Averages:
        stiff, soft = self.tensor, self._compliance
        voigt = (3 * np.trace(stiff[:3, :3]) - stiff[:3, :3].sum() + 6 * np.trace(stiff[3:, 3:])) / 30
        reuss = 15 / (6 * np.trace(soft[:3, :3]) - 2 * soft[:3, :3].sum() + 3 * np.trace(soft[3:, 3:]))
        return Averages(float(voigt), float(reuss))

    @property
    def young_modulus(self) -> float:
        """Of Hill's moduli, GPa."""
        bulk, shear = self.bulk_modulus.hill, self.shear_modulus.hill
        return 9 * bulk * shear / (3 * bulk + shear)

    @property
    def poisson_ratio(self) -> float:
        """Of Hill's moduli."""
        bulk, shear = self.bulk_modulus.hill, self.shear_modulus.hill
        return (3 * bulk - 2 * shear) / (6 * bulk + 2 * shear)

    @property
    def cubic(self) -> CubicConstants | None:
        """The three constants of a cubic crystal; None for others."""
        axes = cubic_axes(self.atoms)
        if axes is None:
            return None
        turned = _turned(self.tensor, axes)
        return CubicConstants(float(turned[0, 0]), float(turned[0, 1]), float(turned[3, 3]))

    def write(self, folder: Path) -> None:
        """Write elastic.csv and summary.json into `folder`."""
        columns = {"stress": np.array(COMPONENTS)}
        columns |= {f"strain_{name}_gpa": self.tensor[:, index] for index, name in enumerate(COMPONENTS)}
        write_columns(folder / "elastic.csv", columns)
        cubic = self.cubic
        summary: dict[str, Any] = {
            "formula": self.atoms.get_chemical_formula(),
            "space_group": space_group(self.atoms),
            "strain": self.strain,
            "relaxed": self.relaxation,
            "asymmetry_gpa": self.asymmetry,
            "eigenvalues_gpa": self.eigenvalues.tolist(),
            "mechanically_stable": self.is_stable,
            "bulk_modulus_gpa": self.bulk_modulus._asdict() | {"hill": self.bulk_modulus.hill},
            "shear_modulus_gpa": self.shear_modulus._asdict() | {"hill": self.shear_modulus.hill},
            "young_modulus_gpa": self.young_modulus,
            "poisson_ratio": self.poisson_ratio,
            "cubic_constants_gpa": cubic and cubic._asdict(),
            "zener_anisotropy": cubic and cubic.anisotropy,
            "largest_force_ev_per_ang": self.largest_force,
            "largest_stress_gpa": self.largest_stress,
        }
        write_summary(folder / "summary.json", summary)

    @property
    def _compliance(self) -> np.ndarray:
        return np.linalg.inv(self.tensor)


def elastic_constants(atoms: Atoms, strain: float = STRAIN, relaxation: str = "atoms") -> ElasticConstants:
    """Compute the elastic constants of the crystal `atoms`, which have a calculator, in its primitive cell; the structure is left as it is.

    Six strains of either sign, whose stresses make central differences; these are made symmetric, by their order and by the point group.
    strain: size of a strain. relaxation: at each strain of the atoms, to FMAX, or of nothing, which gives the constants of clamped ions.
    Constraints are left out. The log warns of forces and stresses that act, and of a crystal that is not mechanically stable.
    Raises ConfigError for settings without sense, DataError where the structure is no crystal, SimulationError where a strained structure
    does not relax, or some strain meets no resistance.
    """
    if not 0 < strain <= 0.05:
        raise ConfigError(f"The strain is {strain:g}; choose more than 0 and at most 0.05.")
    if relaxation not in RELAXATIONS:
        raise ConfigError(f"There is no relaxation {relaxation!r} at each strain; choose one of {', '.join(RELAXATIONS)}.")
    if not atoms.pbc.all():
        raise DataError("Elastic constants need a crystal, and this structure is not periodic in all three directions; give one that is.")
    cell = primitive_cell(atoms)
    cell.calc = atoms.calc
    force, stress = float(np.linalg.norm(cell.get_forces(), axis=1).max()), float(abs(cell.get_stress()).max()) / GIGAPASCAL
    rises = [_stress(cell, strain, index, relaxation) - _stress(cell, -strain, index, relaxation) for index in range(6)]
    slopes = np.stack(rises, axis=1) / (2 * strain)
    cell.calc = None
    tensor = _symmetric(slopes, cell)
    if np.linalg.matrix_rank(tensor) < 6:
        raise SimulationError("Some strain of the crystal meets no resistance; look whether its atoms reach one another.")
    result = ElasticConstants(cell, tensor, strain, relaxation, float(abs(slopes - tensor).max()), force, stress)
    _warn(result)
    return result


def _stress(atoms: Atoms, strain: float, index: int, relaxation: str) -> np.ndarray:
    """Return the stress [6] in GPa under one component of strain; half of a shear strain is on either side of the diagonal."""
    deformation = np.eye(3)
    for pair in (_PAIRS[index], _PAIRS[index][::-1]):
        deformation[tuple(pair)] += strain / 2
    strained = atoms.copy()
    strained.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
    strained.calc = atoms.calc
    if relaxation == "atoms":
        result = relax(strained, FMAX)
        if not result.converged:
            raise SimulationError(
                f"Under a strain of {strain:g} ({COMPONENTS[index]}) the atoms have not relaxed to {FMAX} eV/Å in {result.end.step} steps; "
                "relax the structure first (eqpot relax), in float64."
            )
    return strained.get_stress() / GIGAPASCAL


def _symmetric(slopes: np.ndarray, atoms: Atoms) -> np.ndarray:
    """Return the mean of slopes [6, 6] and their transpose over the rotations of the point group."""
    return np.mean([_turned((slopes + slopes.T) / 2, rotation) for rotation in point_group(atoms)], axis=0)


def _turned(tensor: np.ndarray, rotation: np.ndarray) -> np.ndarray:
    """Return elastic constants [6, 6] of a crystal that is turned by `rotation` [3, 3]."""
    full = tensor[_PLACES[:, :, None, None], _PLACES]
    turned = np.einsum("ai,bj,ck,dl,ijkl->abcd", rotation, rotation, rotation, rotation, full, optimize=True)
    first, second = _PAIRS.T
    return turned[first[:, None], second[:, None], first, second]


def _warn(result: ElasticConstants) -> None:
    if result.largest_force > _LARGEST_FORCE or result.largest_stress > _LARGEST_STRESS:
        logger.warning(
            "Forces of up to %.2g eV/Å and stresses of up to %.2g GPa act on the structure, and elastic constants belong to one at rest; "
            "relax it first (eqpot relax --cell full).",
            result.largest_force,
            result.largest_stress,
        )
    if not result.is_stable:
        logger.warning(
            "The elastic constants have an eigenvalue of %.1f GPa: the crystal is not mechanically stable, some strain lowers its energy.",
            result.eigenvalues[0],
        )
