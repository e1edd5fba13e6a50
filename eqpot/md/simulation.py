"""`Simulation`: structures, a potential and an integrator."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.constraints import FixAtoms
from ase.stress import full_3x3_to_voigt_6_stress

from eqpot.errors import ConfigError, NeighborError, SimulationError
from eqpot.graph import AtomGraph
from eqpot.md.forces import PotentialForces
from eqpot.md.integrators import conditions_at, make_integrator
from eqpot.md.settings import Settings
from eqpot.md.state import Conditions, State
from eqpot.md.velocities import degrees_of_freedom, draw_velocities
from eqpot.md.watchdog import Memory, Watchdog
from eqpot.neighbors.search import near_graph
from eqpot.potential import Potential
from eqpot.uncertainty import Uncertainty
from eqpot.units import FEMTOSECOND, GIGAPASCAL

logger = logging.getLogger(__name__)

ADVICE = "Use a shorter timestep or a better starting structure."


@dataclass(frozen=True)
class Past:
    """What a restart file knows of a simulation, beside its systems and settings. degrees_of_freedom: [n_systems]."""

    state: State
    degrees_of_freedom: torch.Tensor
    memory: Memory


class Simulation:
    """Molecular dynamics of one structure, or of many side by side, in one call of the potential a step.

    A structure's velocities are kept. Without any they are drawn from the Maxwell-Boltzmann distribution and scaled to the
    temperature exactly; without total momentum and, in an open system, without angular momentum, wherever the integrator
    conserves them. Atoms that a constraint FixAtoms holds stay where they are. The structures themselves are not changed.

    A system's trajectory is, to the last bit, the one it has alone.

    `last_good`: the latest state that the watchdog looked at closely and passed.
    """

    def __init__(
        self,
        atoms: Atoms | Sequence[Atoms],
        potential: Potential,
        settings: Settings,
        uncertainty: Uncertainty | None = None,
        committee: Sequence[Potential] = (),
        past: Past | None = None,
    ) -> None:
        """Compute the first forces.

        Raises SimulationError for a structure that cannot move, ConfigError for settings that the integrator does not use, NeighborError,
        UnknownElementError.

        uncertainty: of the potential, for the watchdog; committee: other potentials fitted to the same data, whose spread about the
        forces it looks at instead. past: of the same systems, to go on from.
        """
        if committee and settings.watchdog.max_force_deviation is None:
            raise ConfigError("A committee is given, and no spread at which to speak up; set watchdog.max_force_deviation in eV/Å.")
        if isinstance(potential, str | Path):
            raise ConfigError(f"The potential {potential} is a name; give what eqpot.load_potential({str(potential)!r}) returns.")
        # What goes on may be of an earlier version, which took them.
        if past is None:
            settings.check_used()
        if any(member.cutoff != potential.cutoff for member in committee):
            raise ConfigError("The potentials of the committee have different cutoffs; use a committee that was trained with one.")
        systems = [atoms] if isinstance(atoms, Atoms) else list(atoms)
        if not systems:
            raise SimulationError("There is no structure to simulate; give at least one.")
        self.potential = potential
        self.settings = settings
        self.integrator = make_integrator(settings)
        labels = [""] if len(systems) == 1 else [f" of system {k}" for k in range(len(systems))]
        for system, label in zip(systems, labels, strict=True):
            _check_structure(system, label, self.integrator.changes_cell)
        self.systems = [_bare(system) for system in systems]
        self._ends = np.cumsum([len(system) for system in self.systems]).tolist()
        self.force_function = PotentialForces(self.systems, potential)
        held = [_held(system) for system in self.systems]
        self._draw_velocities(held)
        self.degrees_of_freedom = past.degrees_of_freedom if past else self._count_degrees_of_freedom(held, labels)
        self.force_function.mobile = 1.0 - torch.tensor(np.concatenate(held), dtype=torch.float64, device=potential.device).unsqueeze(1)
        self._conditions = conditions_at(settings, 0, self.degrees_of_freedom)
        self.uncertainty = uncertainty
        self.committee = list(committee)
        self.state = self.last_good = past.state if past else self.integrator.init(self._first_state(), self._conditions)
        self.watchdog = self._make_watchdog(past.memory if past else None)
        if past is None:
            self._inspect(self.state)

    @property
    def conditions(self) -> Conditions:
        """Temperatures and pressures that the next step holds."""
        if self.settings.schedule:
            return conditions_at(self.settings, self.state.step, self.degrees_of_freedom)
        return self._conditions

    def step(self) -> State:
        """Advance by one time step; SimulationError, with the state as it was, where the watchdog stops it."""
        try:
            state = self.integrator.step(self.state, self.force_function, self.settings.timestep * FEMTOSECOND, self.conditions)
            self._inspect(state)
        except NeighborError as error:
            raise SimulationError(f"In step {self.state.step + 1}: {error} {ADVICE}") from error
        self.state = state
        return state

    def _make_watchdog(self, memory: Memory | None) -> Watchdog:
        times = [0.0, *(point.time for point in self.settings.schedule)]
        temperatures = [self.settings.at("temperature", time, self.state.n_systems) for time in times]
        hottest = torch.tensor(temperatures, dtype=torch.float64, device=self.potential.device).amax(dim=0)
        if self.settings.ensemble == "nve":
            hottest = torch.maximum(hottest, self.state.temperature(self.degrees_of_freedom))
        known = self.potential.shortest_distances
        settings, start, freedom = self.settings, self.state, self.degrees_of_freedom
        return Watchdog(settings.watchdog, start, freedom, hottest, settings.timestep, memory, known, self.potential.cutoff)

    def _inspect(self, state: State) -> None:
        """Let the watchdog look at a new state."""
        warnings = self.watchdog.check(state, self._graph_of(state) if self.watchdog.due(state.step) else None)
        if self.watchdog.deviations_due(state.step):
            warnings += self._extrapolation(state)
        for sentence in warnings:
            logger.warning(sentence)
        if self.watchdog.due(state.step):
            self.last_good = state

    def _graph_of(self, state: State) -> AtomGraph | None:
        """Return the latest edges, perhaps some beyond the cutoff, with the atoms of `state`: the last evaluated may be a rejected move."""
        graph = self.force_function.graph
        return None if graph is None else replace(graph, positions=state.positions, cells=state.cells)

    def _extrapolation(self, state: State) -> list[str]:
        """Let the watchdog look at the standard deviations of the forces, if there are any."""
        graph = self._graph_of(state)
        assert graph is not None
        graph = near_graph(graph, self.potential.cutoff)
        if self.committee:
            members = [self.potential.evaluate(graph)["forces"], *(member.evaluate(graph)["forces"] for member in self.committee)]
            return self.watchdog.check_deviations(state, torch.stack(members).std(dim=0))
        if self.uncertainty is None:
            return []
        deviations = self.uncertainty.deviations(self.potential, graph)["forces"]
        return self.watchdog.check_deviations(state, deviations, self.uncertainty.record.rmse["forces"])

    def current_atoms(self, system: int = 0, state: State | None = None) -> Atoms:
        """Return a structure with position, cell and velocities, and with energy, forces and, in a cell, stress as results.

        state: by default the present one.
        """
        state, atoms = state or self.state, self.systems[system].copy()
        rows = slice(self._ends[system] - len(atoms), self._ends[system])
        # A cell that does not change keeps its digits, and lattice vectors of length zero their absence.
        if self.integrator.changes_cell:
            atoms.set_cell(state.cells[system].cpu().numpy())
        atoms.positions = state.positions[rows].cpu().numpy()
        atoms.set_velocities(state.velocities[rows].cpu().numpy())
        atoms.info = {"step": state.step, "time_fs": state.step * self.settings.timestep}
        results = {"energy": float(state.potential_energy[system]), "forces": state.forces[rows].cpu().numpy()}
        if atoms.cell.rank == 3:
            results["stress"] = full_3x3_to_voigt_6_stress(state.stress[system].cpu().numpy())
        atoms.calc = SinglePointCalculator(atoms, **results)
        return atoms

    @property
    def time(self) -> float:
        """Fs since the start."""
        return self.state.step * self.settings.timestep

    def thermo(self) -> list[dict[str, float]]:
        """Return for each system step, time (fs), temperature (K), energies (eV) and, in crystals, pressure (GPa) and volume (Å^3).

        The last two where all systems are periodic in all three directions: elsewhere they would be those of the void around the atoms.
        """
        state = self.state
        columns = {
            "temperature_k": state.temperature(self.degrees_of_freedom),
            "potential_energy_ev": state.potential_energy,
            "kinetic_energy_ev": state.kinetic_energy,
            "total_energy_ev": state.total_energy,
            "conserved_energy_ev": state.conserved_energy,
        }
        if all(system.pbc.all() for system in self.systems):
            tensor = state.pressure_tensor()
            columns["pressure_gpa"] = (tensor[:, 0, 0] + tensor[:, 1, 1] + tensor[:, 2, 2]) / (3 * GIGAPASCAL)
            columns["volume_ang3"] = state.volume
        lists = {name: values.tolist() for name, values in columns.items()}
        start = {"step": state.step, "time_fs": self.time}
        if state.n_systems == 1:
            return [{**start, **{name: values[0] for name, values in lists.items()}}]
        return [{"system": k, **start, **{name: values[k] for name, values in lists.items()}} for k in range(state.n_systems)]

    def _draw_velocities(self, held: Sequence[np.ndarray]) -> None:
        n_systems = len(self.systems)
        seeds, temperatures = self.settings.seeds(n_systems), self.settings.at("temperature", 0.0, n_systems)
        for system, fixed, seed, temperature in zip(self.systems, held, seeds, temperatures, strict=True):
            if not system.has("momenta"):
                at_rest = self.integrator.conserves_momentum and not fixed.any()
                system.set_velocities(draw_velocities(system, temperature, seed, at_rest, fixed))

    def _count_degrees_of_freedom(self, held: Sequence[np.ndarray], labels: Sequence[str]) -> torch.Tensor:
        """Return those of every system [n_systems]; SimulationError where there are none for an integrator that divides by them."""
        counts = [self._degrees_of_freedom(system, fixed) for system, fixed in zip(self.systems, held, strict=True)]
        if self.settings.integrator == "martyna_tobias_klein" and 0 in counts:
            raise SimulationError(
                f"The structure{labels[counts.index(0)]} has one atom, which does not move against itself, and the mass of this barostat's "
                "cell goes with the degrees of freedom; repeat the cell, or use cell_rescaling."
            )
        return torch.tensor(counts, device=self.potential.device)

    def _degrees_of_freedom(self, system: Atoms, held: np.ndarray) -> int:
        """Return how many share the kinetic energy: all that move, less the momenta that are conserved at zero."""
        if held.any():
            return 3 * int((~held).sum())
        if not self.integrator.conserves_momentum:
            return 3 * len(system)
        return degrees_of_freedom(system)

    def _first_state(self) -> State:
        def join(values: list[np.ndarray]) -> torch.Tensor:
            return torch.tensor(np.concatenate(values), dtype=torch.float64, device=self.potential.device)

        function = self.force_function
        cells = torch.tensor(np.stack([system.cell.array for system in self.systems]), dtype=torch.float64, device=self.potential.device)
        positions = join([system.positions for system in self.systems])
        velocities = join([system.get_velocities() for system in self.systems])
        energy, forces, stress = function(positions, cells)
        return State(
            positions=positions,
            velocities=velocities * function.mobile,
            forces=forces,
            masses=join([system.get_masses() for system in self.systems]).unsqueeze(1),
            mobile=function.mobile,
            batch=function.batch,
            cells=cells,
            potential_energy=energy,
            stress=stress,
            heat=torch.zeros_like(energy),
        )


def _bare(atoms: Atoms) -> Atoms:
    """Return a copy with what moves, and nothing that a restart file would not know."""
    bare = atoms.copy()
    bare.info = {}
    for name in set(bare.arrays) - {"numbers", "positions", "momenta", "masses"}:
        del bare.arrays[name]
    return bare


def _held(atoms: Atoms) -> np.ndarray:
    """Return which atoms FixAtoms holds, [n_atoms] bool."""
    held = np.zeros(len(atoms), dtype=bool)
    for constraint in atoms.constraints:
        held[constraint.index] = True
    return held


def _check_structure(atoms: Atoms, label: str, changes_cell: bool) -> None:
    if len(atoms) == 0:
        raise SimulationError(f"The structure{label} has no atoms; there is nothing to simulate.")
    others = [type(constraint).__name__ for constraint in atoms.constraints if not isinstance(constraint, FixAtoms)]
    if others:
        raise SimulationError(
            f"The structure{label} has constraints that these integrators do not keep ({', '.join(others)}); "
            "remove them or use ASE's integrators."
        )
    masses = atoms.get_masses()
    if not (np.isfinite(masses).all() and (masses > 0).all()):
        atom = int(np.argmin(np.isfinite(masses) & (masses > 0)))
        raise SimulationError(f"Atom {atom}{label} has no positive mass; correct the structure.")
    if not (np.isfinite(atoms.positions).all() and np.isfinite(atoms.get_velocities()).all()):
        raise SimulationError(f"The positions or the velocities{label} hold NaN or infinity; correct the structure.")
    if changes_cell and not (atoms.pbc.all() and atoms.cell.rank == 3):
        raise SimulationError(f"The structure{label} is not periodic in three directions, so there is no pressure to hold; use nve or nvt.")
    if changes_cell and _held(atoms).any():
        raise SimulationError(f"The structure{label} holds atoms fixed, which a changing cell would move; use nve or nvt.")
