"""Harmonic vibrations of molecules."""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

import ase.units
import ase.vibrations
import numpy as np
import scipy.linalg
from ase import Atoms
from ase.constraints import FixAtoms

from eqpot.errors import ConfigError, DataError
from eqpot.properties.tables import write_columns, write_summary
from eqpot.units import FREQUENCY

logger = logging.getLogger(__name__)

DISPLACEMENT = 0.005
_LARGEST_FORCE = 0.02
_IMAGINARY = 10.0
_INVERSE_CENTIMETRE: float = ase.units.invcm


@dataclass(frozen=True)
class Vibrations:
    """Harmonic wavenumbers in 1/cm [n_modes], rising, imaginary ones negative; rigid motion, of n_rigid modes, is not among them."""

    formula: str
    n_rigid: int
    displacement: float
    largest_force: float
    wavenumbers: np.ndarray

    @property
    def zero_point_energy(self) -> float:
        """Half a quantum of every real mode, eV."""
        return float(self.wavenumbers.clip(min=0).sum() * _INVERSE_CENTIMETRE / 2)

    @property
    def is_stable(self) -> bool:
        """Whether no wavenumber is imaginary."""
        return bool((self.wavenumbers > -_IMAGINARY).all())

    def write(self, folder: Path) -> None:
        """Write vibrations.csv and summary.json into `folder`."""
        terahertz = self.wavenumbers * ase.units._c * 1e-10
        columns = {"mode": np.arange(1, len(terahertz) + 1), "wavenumber_per_cm": self.wavenumbers, "frequency_thz": terahertz}
        write_columns(folder / "vibrations.csv", columns)
        summary = {
            "formula": self.formula,
            "displacement_ang": self.displacement,
            "largest_force_ev_per_ang": self.largest_force,
            "rigid_modes": self.n_rigid,
            "wavenumbers_per_cm": self.wavenumbers.tolist(),
            "zero_point_energy_ev": self.zero_point_energy,
        }
        write_summary(folder / "summary.json", summary)


def vibrations(atoms: Atoms, displacement: float = DISPLACEMENT) -> Vibrations:
    """Compute the harmonic vibrations of an open structure `atoms`, which has a calculator, by central differences of forces.

    Rigid translations and rotations are projected out of the Hessian: of a linear molecule five modes, of others six. Where atoms are
    fixed (FixAtoms) the others vibrate and nothing is projected. The log warns of forces that act, and of imaginary modes.
    Raises ConfigError for a displacement without sense, DataError where the structure is periodic, nothing can vibrate, or a constraint
    is another one.
    """
    if not 0 < displacement <= 0.1:
        raise ConfigError(f"The displacement is {displacement:g} Å; choose more than 0 and at most 0.1.")
    if atoms.pbc.any():
        raise DataError("The structure is periodic, so it has phonons and no vibrations of a molecule; ask for those.")
    fixed = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        if not isinstance(constraint, FixAtoms):
            raise DataError(
                f"The constraint {type(constraint).__name__} of the structure holds atoms only in part, and vibrations know of whole ones; "
                "fix whole atoms, or take it out."
            )
        fixed[constraint.index] = True
    free = np.flatnonzero(~fixed).tolist()
    molecule = atoms.copy()
    molecule.set_constraint()
    rigid = _rigid_motions(molecule) if not fixed.any() else np.empty((0, 3 * len(free)))
    if len(rigid) == 3 * len(free):
        raise DataError("A single atom does not vibrate, and neither do fixed ones; give a molecule.")
    molecule.calc = atoms.calc
    force = float(np.linalg.norm(molecule.get_forces()[free], axis=1).max())
    with tempfile.TemporaryDirectory() as folder:
        run = ase.vibrations.Vibrations(molecule, indices=free, name=f"{folder}/vibrations", delta=displacement)
        run.run()
        hessian = run.get_vibrations().get_hessian_2d()
    root = np.sqrt(np.repeat(molecule.get_masses()[free], 3))
    inner = scipy.linalg.null_space(rigid) if len(rigid) else np.eye(len(root))
    values = np.linalg.eigvalsh(inner.T @ (hessian / np.outer(root, root)) @ inner)
    wavenumbers = np.sign(values) * np.sqrt(abs(values)) * FREQUENCY / _INVERSE_CENTIMETRE
    result = Vibrations(atoms.get_chemical_formula(), len(rigid), displacement, force, wavenumbers)
    _warn(result)
    return result


def _rigid_motions(atoms: Atoms) -> np.ndarray:
    """Return orthonormal rigid motions [n_rigid, 3 n_atoms] in coordinates scaled with the roots of the masses."""
    masses = atoms.get_masses()
    arms = atoms.positions - atoms.get_center_of_mass()
    motions = [np.tile(axis, (len(atoms), 1)) for axis in np.eye(3)] + [np.cross(axis, arms) for axis in np.eye(3)]
    scaled = np.array([(motion * np.sqrt(masses)[:, None]).ravel() for motion in motions])
    _, sizes, directions = np.linalg.svd(scaled, full_matrices=False)
    # A molecule bent by less than a few thousandths of an Å has no third rotation that its forces know of.
    return directions[sizes > 1e-3 * sizes[0]]


def _warn(result: Vibrations) -> None:
    if result.largest_force > _LARGEST_FORCE:
        logger.warning(
            "Forces of up to %.2g eV/Å act on the structure, and harmonic vibrations belong to one at rest; relax it first (eqpot relax).",
            result.largest_force,
        )
    if not result.is_stable:
        logger.warning(
            "There are imaginary modes, down to %.0fi 1/cm: the structure is no minimum of the energy.", -result.wavenumbers.min()
        )
