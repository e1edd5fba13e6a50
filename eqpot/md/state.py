"""The state of a simulation, and what can be read off it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import torch

from eqpot.units import BOLTZMANN

ForceFunction = Callable[[torch.Tensor, torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]]
"""positions [n_atoms, 3], cells [n_systems, 3, 3] -> (potential energy [n_systems], forces [n_atoms, 3], stress [n_systems, 3, 3])."""


@dataclass(frozen=True)
class Conditions:
    """What an ensemble holds at a step, for every system; tensors [n_systems].

    temperature in K; pressure in eV/Å^3; degrees_of_freedom: those that share the kinetic energy; seeds of the random numbers.
    """

    temperature: torch.Tensor
    pressure: torch.Tensor
    degrees_of_freedom: torch.Tensor
    seeds: tuple[int, ...]

    @property
    def thermal_energy(self) -> torch.Tensor:
        """k_B T [n_systems], eV."""
        return BOLTZMANN * self.temperature


@dataclass(frozen=True)
class State:
    """Systems in motion, one or many; float64, eV, Å, amu, and Å sqrt(amu / eV) for time.

    positions, velocities, forces [n_atoms, 3]; masses [n_atoms, 1]; mobile [n_atoms, 1]: 1, or 0 for an atom that is held; batch [n_atoms]:
    the system of each atom, ascending; cells [n_systems, 3, 3]; potential_energy [n_systems]; stress [n_systems, 3, 3]: that of the
    potential energy, tension positive; heat [n_systems]: energy that baths have put in since the start; bath: what an ensemble
    keeps besides, [n_systems, ...]; step: steps done. Integrators return new states and leave old ones alone.

    Sums over the atoms of a system add one atom after the other, so that a system moves the same, to the last bit, alone and among
    others.
    """

    positions: torch.Tensor
    velocities: torch.Tensor
    forces: torch.Tensor
    masses: torch.Tensor
    mobile: torch.Tensor
    batch: torch.Tensor
    cells: torch.Tensor
    potential_energy: torch.Tensor
    stress: torch.Tensor
    heat: torch.Tensor
    bath: Mapping[str, torch.Tensor] = field(default_factory=dict)
    step: int = 0

    @property
    def n_systems(self) -> int:
        return self.cells.shape[0]

    def sum_atoms(self, values: torch.Tensor) -> torch.Tensor:
        """Sum values of atoms [n_atoms, ...] over each system, [n_systems, ...]."""
        return values.new_zeros(self.n_systems, *values.shape[1:]).index_add(0, self.batch, values)

    def of_atoms(self, values: torch.Tensor) -> torch.Tensor:
        """Give every atom the value of its system: [n_systems, ...] -> [n_atoms, ...]."""
        return values if values.shape[0] == 1 else values.index_select(0, self.batch)

    def with_systems_of(self, other: "State", chosen: torch.Tensor) -> "State":
        """Take the chosen systems [n_systems] (bool) from another state of the same systems and ensemble; baths stay."""
        if not bool(chosen.any()):
            return self
        atoms = self.of_atoms(chosen)
        names = {"positions": atoms, "velocities": atoms, "forces": atoms, "cells": chosen, "stress": chosen}
        names |= {"potential_energy": chosen, "heat": chosen}
        taken: dict[str, Any] = {}
        for name, where in names.items():
            mine: torch.Tensor = getattr(self, name)
            taken[name] = torch.where(where.view(-1, *[1] * (mine.dim() - 1)), getattr(other, name), mine)
        return replace(self, **taken)

    @cached_property
    def kinetic_energy(self) -> torch.Tensor:
        """Sum of m v^2 / 2 [n_systems], eV."""
        return 0.5 * self.sum_atoms((self.masses * self.velocities.square()).sum(dim=1))

    @property
    def total_energy(self) -> torch.Tensor:
        """Kinetic plus potential energy [n_systems], eV."""
        return self.kinetic_energy + self.potential_energy

    @property
    def conserved_energy(self) -> torch.Tensor:
        """Total energy less the heat of the baths [n_systems], eV; constant but for the error of the time step."""
        return self.total_energy - self.heat

    @property
    def volume(self) -> torch.Tensor:
        """[n_systems], Å^3; zero where there is no cell."""
        return torch.linalg.det(self.cells).abs()

    def temperature(self, degrees_of_freedom: torch.Tensor) -> torch.Tensor:
        """Return 2 K / (k_B times the degrees of freedom [n_systems]), K; zero where nothing can move."""
        return 2 * self.kinetic_energy / (BOLTZMANN * degrees_of_freedom.clamp(min=1).double())

    def pressure_tensor(self) -> torch.Tensor:
        """Return (sum_i m_i v_i v_i^T) / V - stress [n_systems, 3, 3], eV/Å^3; meaningless without a cell."""
        momentum_flow = self.sum_atoms(self.masses.unsqueeze(2) * self.velocities.unsqueeze(2) * self.velocities.unsqueeze(1))
        return momentum_flow / self.volume.view(-1, 1, 1) - self.stress

    def angular_momentum(self) -> torch.Tensor:
        """Return the angular momenta [n_systems, 3] about the centres of mass, amu Å^2 / (Å sqrt(amu / eV))."""
        centres = self.sum_atoms(self.masses * self.positions) / self.sum_atoms(self.masses)
        return self.sum_atoms(torch.linalg.cross(self.positions - self.of_atoms(centres), self.masses * self.velocities))
