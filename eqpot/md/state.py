"""The state of a simulation, and what can be read off it."""

from dataclasses import dataclass

import torch

from eqpot.units import BOLTZMANN


@dataclass(frozen=True)
class State:
    """Atoms in motion; float64, eV, Å, amu, and Å sqrt(amu / eV) for time.

    positions, velocities, forces [n_atoms, 3]; masses [n_atoms, 1]; potential_energy [] ; heat []: energy that a thermostat has put
    in since the start; step: steps done. Integrators return new states and leave old ones alone.
    """

    positions: torch.Tensor
    velocities: torch.Tensor
    forces: torch.Tensor
    masses: torch.Tensor
    potential_energy: torch.Tensor
    heat: torch.Tensor
    step: int

    @property
    def kinetic_energy(self) -> torch.Tensor:
        """Sum of m v^2 / 2, eV."""
        return 0.5 * (self.masses * self.velocities.square()).sum()

    @property
    def total_energy(self) -> torch.Tensor:
        """Kinetic plus potential energy, eV."""
        return self.kinetic_energy + self.potential_energy

    @property
    def conserved_energy(self) -> torch.Tensor:
        """Total energy less the heat of the thermostat, eV; constant but for the error of the time step."""
        return self.total_energy - self.heat

    def temperature(self, degrees_of_freedom: int) -> float:
        """Return 2 K / (k_B times the degrees of freedom), K."""
        return float(2 * self.kinetic_energy / (BOLTZMANN * degrees_of_freedom)) if degrees_of_freedom else 0.0

    def angular_momentum(self) -> torch.Tensor:
        """Return the angular momentum [3] about the centre of mass, amu Å^2 / (Å sqrt(amu / eV))."""
        centre = (self.masses * self.positions).sum(dim=0) / self.masses.sum()
        return torch.linalg.cross(self.positions - centre, self.masses * self.velocities).sum(dim=0)
