"""What is read off a trajectory: averages with error bars, structure, diffusion, vibrations.

Arrays in, arrays out; Å, fs, K, eV and amu. `Trajectory` reads run folders and anything ASE does.
"""

from eqpot.observables.diffusion import Diffusion, einstein, green_kubo, mean_squared_displacement
from eqpot.observables.series import (
    Average,
    Drift,
    autocorrelation,
    average,
    block_error,
    drift,
    equilibration,
    statistical_inefficiency,
)
from eqpot.observables.structure import RadialDistribution, Shell, first_shell, mean_distribution, radial_distribution
from eqpot.observables.thermo import CanonicalTest, canonical_test, degrees_of_freedom, read_thermo
from eqpot.observables.torsion import FreeEnergy, Torsion, Well, dihedral_angles, find_torsions, find_wells, torsional_free_energy
from eqpot.observables.trajectory import Trajectory, density, read_trajectories, read_trajectory, unwrap
from eqpot.observables.vibrations import Spectrum, velocity_autocorrelation, vibrational_spectrum

__all__ = [
    "Average",
    "CanonicalTest",
    "Diffusion",
    "Drift",
    "FreeEnergy",
    "RadialDistribution",
    "Shell",
    "Spectrum",
    "Torsion",
    "Trajectory",
    "Well",
    "autocorrelation",
    "average",
    "block_error",
    "canonical_test",
    "degrees_of_freedom",
    "density",
    "dihedral_angles",
    "drift",
    "einstein",
    "equilibration",
    "find_torsions",
    "find_wells",
    "first_shell",
    "green_kubo",
    "mean_distribution",
    "mean_squared_displacement",
    "radial_distribution",
    "read_thermo",
    "read_trajectories",
    "read_trajectory",
    "statistical_inefficiency",
    "torsional_free_energy",
    "unwrap",
    "velocity_autocorrelation",
    "vibrational_spectrum",
]
