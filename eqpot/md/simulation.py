"""`Simulation`: a structure, a potential and an integrator, with what they write."""

import csv
import json
import secrets
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from ase import Atoms
from ase.io.extxyz import write_xyz

from eqpot.errors import ConfigError, NeighborError, SimulationError
from eqpot.md import nve, nvt
from eqpot.md.state import State
from eqpot.md.velocities import degrees_of_freedom, draw_velocities
from eqpot.neighbors import VerletList
from eqpot.potential import Potential
from eqpot.units import FEMTOSECOND

LONGEST_TIMESTEP = 10.0
"""fs. Beyond it no atomic vibration is integrated stably; a longer step is a mistake of units."""


_ADVICE = "Use a shorter timestep or a better starting structure."


@dataclass(frozen=True)
class Settings:
    """What a simulation is told: timestep in fs, temperature in K, friction in 1/ps; `interval` steps between written frames.

    Without a seed one is drawn, so that a run which continues another does not repeat its noise; the summary records it.
    Raises ConfigError for values that cannot be meant.
    """

    ensemble: Literal["nve", "nvt"] = "nve"
    timestep: float = 0.5
    temperature: float = 300.0
    friction: float = 10.0
    seed: int = field(default_factory=lambda: secrets.randbelow(2**32))
    interval: int = 10

    def __post_init__(self) -> None:
        if self.ensemble not in ("nve", "nvt"):
            raise ConfigError(f"The ensemble is {self.ensemble!r}; use nve or nvt.")
        if not 0 < self.timestep <= LONGEST_TIMESTEP:
            raise ConfigError(f"The timestep is {self.timestep} fs; it must be above 0 and at most {LONGEST_TIMESTEP:g} fs.")
        if not 0 <= self.temperature < np.inf:
            raise ConfigError(f"The temperature is {self.temperature} K; it must not be negative.")
        if not 0 <= self.friction < np.inf:
            raise ConfigError(f"The friction is {self.friction} 1/ps; it must not be negative.")
        if not 0 <= self.seed < 2**63 or self.interval < 1:
            raise ConfigError(
                f"The seed is {self.seed} and the interval {self.interval}; the seed must lie in 0 ... 2^63 - 1, the interval be 1 or more."
            )


class Simulation:
    """Molecular dynamics of one structure.

    The structure's velocities are kept. Without any they are drawn from the Maxwell-Boltzmann distribution and scaled to the
    temperature exactly; for NVE without total momentum and, in an open system, without angular momentum, which would be
    conserved, while a thermostat acts on them. `atoms` itself is not changed.
    """

    def __init__(self, atoms: Atoms, potential: Potential, settings: Settings) -> None:
        """Compute the first forces; raises SimulationError for a structure that cannot move, NeighborError, UnknownElementError."""
        _check_structure(atoms)
        self.atoms = atoms.copy()
        self.potential = potential
        self.settings = settings
        self.neighbors = VerletList(potential.cutoff)
        if not self.atoms.has("momenta"):
            self.atoms.set_velocities(draw_velocities(self.atoms, settings.temperature, settings.seed, at_rest=settings.ensemble == "nve"))
        # The thermostat acts on all degrees of freedom, the motion of the whole included.
        self.degrees_of_freedom = 3 * len(atoms) if settings.ensemble == "nvt" else degrees_of_freedom(self.atoms)
        self.state: State = nve.init(
            torch.tensor(self.atoms.positions),
            torch.tensor(self.atoms.get_velocities()),
            torch.tensor(self.atoms.get_masses()).unsqueeze(1),
            self.force_function,
        )
        _check_state(self.state)

    def force_function(self, positions: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the potential energy [] in eV and the forces [n_atoms, 3] in eV/Å at `positions`."""
        self.atoms.positions = positions.numpy()
        result = self.potential.evaluate(self.neighbors.graph(self.atoms, self.potential.device))
        return result["energy"][0].cpu(), result["forces"].cpu()

    def step(self) -> State:
        """Advance by one time step; SimulationError if the energy or a force is no longer finite."""
        settings, timestep = self.settings, self.settings.timestep * FEMTOSECOND
        try:
            if settings.ensemble == "nve":
                state = nve.step(self.state, self.force_function, timestep)
            else:
                friction = settings.friction / (1000 * FEMTOSECOND)
                state = nvt.step(self.state, self.force_function, timestep, settings.temperature, friction, settings.seed)
        except NeighborError as error:
            raise SimulationError(f"In step {self.state.step + 1}: {error} {_ADVICE}") from error
        _check_state(state)
        self.state = state
        return state

    def current_atoms(self) -> Atoms:
        """Return the structure with its present positions, velocities, energy and forces."""
        atoms = self.atoms.copy()
        atoms.positions = self.state.positions.numpy()
        atoms.set_velocities(self.state.velocities.numpy())
        atoms.info = {
            "energy": float(self.state.potential_energy),
            "step": self.state.step,
            "time_fs": self.state.step * self.settings.timestep,
        }
        atoms.arrays["forces"] = self.state.forces.numpy()
        return atoms

    def thermo(self) -> dict[str, float]:
        """Return step, time (fs), temperature (K) and energies (eV)."""
        state = self.state
        return {
            "step": state.step,
            "time_fs": state.step * self.settings.timestep,
            "temperature_k": state.temperature(self.degrees_of_freedom),
            "potential_energy_ev": float(state.potential_energy),
            "kinetic_energy_ev": float(state.kinetic_energy),
            "total_energy_ev": float(state.total_energy),
            "conserved_energy_ev": float(state.conserved_energy),
        }

    def run(self, n_steps: int, output: Path, report: Callable[[dict[str, float]], None] = lambda _: None) -> dict[str, Any]:
        """Run and write thermo.csv, trajectory.extxyz, final.extxyz and summary.json to the new folder `output`; return the summary.

        Raises ConfigError if the folder exists. Whatever stops the run, the frames so far are on disk.
        """
        if n_steps < 1:
            raise ConfigError(f"{n_steps} steps are asked for; run at least 1.")
        if output.exists():
            raise ConfigError(f"The output folder {output} exists; choose another or remove it.")
        output.mkdir(parents=True)
        rows = []
        with (
            (output / "thermo.csv").open("w", newline="", encoding="utf-8") as table,
            (output / "trajectory.extxyz").open("w", encoding="utf-8") as trajectory,
        ):
            writer = csv.DictWriter(table, fieldnames=list(self.thermo()))
            writer.writeheader()
            for number in range(n_steps + 1):
                if number > 0:
                    self.step()
                if number % self.settings.interval == 0 or number == n_steps:
                    rows.append(self.thermo())
                    writer.writerow(rows[-1])
                    write_xyz(trajectory, [self.current_atoms()])
                    table.flush()
                    trajectory.flush()
                    report(rows[-1])
        with (output / "final.extxyz").open("w", encoding="utf-8") as file:
            write_xyz(file, [self.current_atoms()])
        summary = self._summary(rows)
        (output / "summary.json").write_text(json.dumps(summary, indent=2) + "\n", encoding="utf-8")
        return summary

    def _summary(self, rows: list[dict[str, float]]) -> dict[str, Any]:
        times = np.array([row["time_fs"] for row in rows]) / 1000
        conserved = np.array([row["conserved_energy_ev"] for row in rows]) * 1000 / len(self.atoms)
        slope = np.polyfit(times, conserved, 1)[0]
        return {
            **asdict(self.settings),
            "atoms": len(self.atoms),
            "steps": int(rows[-1]["step"]),
            "time_ps": float(times[-1]),
            "mean_temperature_k": float(np.mean([row["temperature_k"] for row in rows])),
            "energy_drift_mev_per_atom_per_ps": float(slope),
            "energy_fluctuation_mev_per_atom": float(np.std(conserved - slope * times)),
            # None where all pairs are kept.
            "skin_angstrom": self.neighbors.skin if np.isfinite(self.neighbors.skin) else None,
            "neighbor_list_builds": self.neighbors.n_builds,
        }


def _check_structure(atoms: Atoms) -> None:
    if len(atoms) == 0:
        raise SimulationError("The structure has no atoms; there is nothing to simulate.")
    if atoms.constraints:
        raise SimulationError("The structure has constraints, which these integrators do not keep; remove them or use ASE's integrators.")
    masses = atoms.get_masses()
    if not (np.isfinite(masses).all() and (masses > 0).all()):
        raise SimulationError(f"Atom {int(np.argmin(np.isfinite(masses) & (masses > 0)))} has no positive mass; correct the structure.")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.get_velocities()).all()):
        raise SimulationError("The positions or the velocities hold NaN or infinity; correct the structure.")


def _check_state(state: State) -> None:
    if not (torch.isfinite(state.total_energy) and torch.isfinite(state.forces).all()):
        raise SimulationError(f"The energy or a force is not finite after step {state.step}. {_ADVICE}")
