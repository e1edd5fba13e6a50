"""Energy against volume."""

import logging
from dataclasses import dataclass
from pathlib import Path

import ase.eos
import numpy as np
from ase import Atoms

from eqpot.errors import ConfigError, DataError, SimulationError, short
from eqpot.properties.relaxation import relax, with_results
from eqpot.properties.tables import write_columns, write_summary
from eqpot.units import GIGAPASCAL

logger = logging.getLogger(__name__)

RELAXATIONS = ("none", "atoms", "shape")
FMAX = 1e-3
"""eV/Å: the energy at a volume misses its minimum by the square of this over a force constant, less than a µeV."""
_LARGEST_DEVIATORIC = 0.2
"""GPa: of a modulus of 50 GPa this is a strain of half a percent, which costs some hundredths of a meV an atom."""


@dataclass(frozen=True)
class EquationOfState:
    """Energies (eV) and pressures of the stress (GPa) at volumes (Å^3), each [n_volumes], and Birch and Murnaghan's fit to the energies.

    The fit: `volume` (Å^3), `energy` (eV) and `bulk_modulus` (GPa) at the minimum, and the derivative of the bulk modulus by
    pressure. Energies and volumes are those of the whole structure. largest_force (eV/Å) and largest_deviatoric_stress (GPa), a component
    of the stress less the pressure, are the largest at any volume; the latter is what another shape of the cell would take away.
    """

    volumes: np.ndarray
    energies: np.ndarray
    pressures: np.ndarray
    largest_force: float
    largest_deviatoric_stress: float
    n_atoms: int
    volume: float
    energy: float
    bulk_modulus: float
    derivative: float

    def fitted_energies(self, volumes: np.ndarray) -> np.ndarray:
        """Return the fit's energies in eV: Birch, Phys. Rev. 71, 809 (1947)."""
        return ase.eos.birchmurnaghan(volumes, self.energy, self.bulk_modulus * GIGAPASCAL, self.derivative, self.volume)

    def fitted_pressures(self, volumes: np.ndarray) -> np.ndarray:
        """Return minus the derivative of the fit's energies by volume, GPa."""
        eta = np.cbrt(self.volume / volumes)
        return 1.5 * self.bulk_modulus * (eta**7 - eta**5) * (1 + 0.75 * (self.derivative - 4) * (eta**2 - 1))

    @property
    def misfit(self) -> float:
        """Root mean square difference between energies and fit, eV per atom."""
        return float(np.sqrt(np.mean((self.energies - self.fitted_energies(self.volumes)) ** 2))) / self.n_atoms

    def write(self, folder: Path) -> None:
        """Write eos.csv and summary.json into `folder`."""
        columns = {"volume_ang3": self.volumes, "energy_ev": self.energies, "pressure_gpa": self.pressures}
        write_columns(folder / "eos.csv", columns | {"fitted_energy_ev": self.fitted_energies(self.volumes)})
        summary = {
            "atoms": self.n_atoms,
            "volume_ang3": self.volume,
            "volume_ang3_per_atom": self.volume / self.n_atoms,
            "energy_ev": self.energy,
            "energy_ev_per_atom": self.energy / self.n_atoms,
            "bulk_modulus_gpa": self.bulk_modulus,
            "bulk_modulus_derivative": self.derivative,
            "fit": "Birch-Murnaghan, third order",
            "misfit_mev_per_atom": 1000 * self.misfit,
            "largest_force_ev_per_ang": self.largest_force,
            "largest_deviatoric_stress_gpa": self.largest_deviatoric_stress,
        }
        write_summary(folder / "summary.json", summary)


def equation_of_state(atoms: Atoms, span: float = 0.06, points: int = 9, relaxation: str = "none") -> EquationOfState:
    """Compute energies at `points` volumes from (1 - span) to (1 + span) times that of the crystal `atoms`, which have a calculator.

    relaxation: at each volume of nothing, of the atoms, or of atoms and cell shape, to FMAX. The structure given is left as it is. The log
    warns of stresses that another shape of the cell would take away.
    Raises ConfigError for settings without sense, DataError where the structure is no crystal, SimulationError where a relaxation
    fails or the volumes have no minimum of energy between them.
    """
    if not 0 < span <= 0.3:
        raise ConfigError(f"The volumes reach {span:g} times the volume to both sides; choose more than 0 and at most 0.3.")
    if points < 5:
        raise ConfigError(f"{points} volumes do not determine a fit of four parameters; ask for at least 5.")
    if relaxation not in RELAXATIONS:
        raise ConfigError(f"There is no relaxation {relaxation!r} at each volume; choose one of {', '.join(RELAXATIONS)}.")
    if not atoms.pbc.all():
        raise DataError(
            "An equation of state needs a crystal, and this structure is not periodic in all three directions; give one that is."
        )
    frames = [_at_volume(atoms, factor, relaxation) for factor in np.linspace(1 - span, 1 + span, points)]
    volumes = np.array([frame.get_volume() for frame in frames])
    energies = np.array([frame.get_potential_energy() for frame in frames])
    stresses = np.array([frame.get_stress(apply_constraint=False) for frame in frames]) / GIGAPASCAL
    pressures = -stresses[:, :3].mean(axis=1)
    deviatoric = stresses + pressures[:, None] * [1, 1, 1, 0, 0, 0]
    largest = max(float(np.linalg.norm(frame.get_forces(), axis=1).max()) for frame in frames)
    if not 0 < energies.argmin() < points - 1:
        smaller = energies.argmin() == 0
        raise SimulationError(
            f"The energy is lowest at the {'smallest' if smaller else 'largest'} volume, {volumes[energies.argmin()]:.2f} Å^3, so no "
            "minimum lies between them; relax the cell first (eqpot relax --cell full), or widen the span."
        )
    fit = ase.eos.EquationOfState(volumes, energies, eos="birchmurnaghan")
    try:
        fit.fit()
    except RuntimeError as error:
        raise SimulationError(f"The equation of state does not fit the energies ({short(error)}); look for a phase transition.") from error
    energy, modulus, derivative, volume = map(float, fit.eos_parameters)
    held = float(abs(deviatoric).max())
    if relaxation != "shape" and held > _LARGEST_DEVIATORIC:
        logger.warning(
            "The crystal keeps one shape at all volumes, and stresses of up to %.2g GPa beside the pressure want another; let the shape "
            "relax at each volume (--relax shape).",
            held,
        )
    return EquationOfState(volumes, energies, pressures, largest, held, len(atoms), volume, energy, modulus / GIGAPASCAL, derivative)


def _at_volume(atoms: Atoms, factor: float, relaxation: str) -> Atoms:
    strained = atoms.copy()
    strained.set_cell(atoms.cell * np.cbrt(factor), scale_atoms=True)
    strained.calc = atoms.calc
    if relaxation != "none":
        result = relax(strained, FMAX, cell="shape" if relaxation == "shape" else "none")
        if not result.converged:
            raise SimulationError(
                f"At {strained.get_volume():.2f} Å^3 the structure has not relaxed to {FMAX} eV/Å in {result.end.step} steps; "
                "relax it first (eqpot relax), or narrow the span."
            )
    # The calculator goes on to other volumes.
    return with_results(strained)
