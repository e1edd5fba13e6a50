"""Is a simulation still one? What stops it, what it is warned of, and a sentence for either.

| what | limit | then |
| --- | --- | --- |
| energy or force not finite | | stop |
| temperature | `max_temperature`, or 3 q T, see `temperature_limits` | stop |
| distance over the sum of covalent radii (Cordero et al. 2008) | `min_distance` | stop |
| distance over the shortest of the two elements in the training data | `min_trained_distance` | warn, or stop |
| volume over that at the start, or its inverse | `max_volume_change` | stop |
| drift of the conserved energy | `max_drift`, see `_drifts` | warn; stop at ten times the limit |
| standard deviation of an atom's force | `max_force_deviation` | warn, or stop |

Elements that the potential does not know are an error before any step.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from ase.data import chemical_symbols, covalent_radii
from pydantic import BaseModel, ConfigDict, Field
from scipy.special import gammainccinv

from eqpot.distances import distance_table, edge_lengths
from eqpot.errors import SimulationError
from eqpot.graph import AtomGraph
from eqpot.md.state import State
from eqpot.units import BOLTZMANN

MARGIN = 3.0
"""A start that is not relaxed turns potential into kinetic energy: for harmonic forces as much again, so twice the temperature."""

COOLEST = 300.0
"""K. Below, the heat that a structure brings along decides, not the temperature that is asked for."""

RAREST = 1e-12
"""Chance that a canonical system passes the limit at a check by fluctuation alone."""

WINDOW = 10.0
"""ps over which a drift is measured; long enough for fluctuations not to count, short enough for a burst to show in a long run."""


class WatchdogSettings(BaseModel):
    """When a simulation is warned or stopped; the defaults let every run pass that is in order."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    interval: int = Field(10, ge=1, description="Steps between checks; energy and forces that are not finite stop a run at once.")
    max_temperature: float | None = Field(
        None, gt=0, description="K; by default 3 times the highest temperature of the run, with room for fluctuations."
    )
    min_distance: float = Field(0.5, ge=0, lt=1, description="Smallest distance of two atoms, over the sum of their covalent radii.")
    min_trained_distance: float = Field(
        0.9, ge=0, description="Smallest distance of two atoms, over the shortest of their elements in the training data."
    )
    max_volume_change: float = Field(3.0, gt=1, description="Largest factor by which the volume may grow or shrink.")
    max_drift: float = Field(10.0, gt=0, description="Drift of the conserved energy to warn of, meV/atom/ps; ten times as much stops.")
    max_force_deviation: float | None = Field(
        None,
        gt=0,
        description="Standard deviation of an atom's force, eV/Å per component; by default 5 times the error on held-out frames.",
    )
    on_extrapolation: Literal["warn", "stop"] = Field("warn", description="What to do beyond max_force_deviation or min_trained_distance.")
    deviation_interval: int = Field(1000, ge=1, description="Steps between computations of that deviation, which cost many evaluations.")


@dataclass(frozen=True)
class Alarm:
    """What is wrong with a system, in a sentence, and whether it must stop."""

    kind: Literal["not finite", "temperature", "distance", "new distance", "volume", "drift", "extrapolation"]
    system: int
    sentence: str
    stop: bool = True


class WatchdogError(SimulationError):
    """A simulation was stopped; `alarm` says why and which system."""

    def __init__(self, alarm: Alarm) -> None:
        super().__init__(alarm.sentence)
        self.alarm = alarm


@dataclass(frozen=True)
class Memory:
    """What a watchdog must know of the past, to be kept in restart files; JSON can hold it.

    volume: at the start, Å^3; energy: the conserved energy at `step`, eV; both [n_systems]. warned: kinds and systems already told of.
    hottest: the highest temperatures of the run [n_systems], K; files of before do not know them.
    """

    volume: tuple[float, ...]
    energy: tuple[float, ...]
    step: int
    warned: tuple[str, ...] = field(default=())
    hottest: tuple[float, ...] = field(default=())


class Watchdog:
    """Looks at states as they come; `memory` is all that changes, and a new watchdog with it goes on from there."""

    def __init__(
        self,
        settings: WatchdogSettings,
        start: State,
        degrees_of_freedom: torch.Tensor,
        temperature: torch.Tensor,
        timestep: float,
        memory: Memory | None = None,
        shortest_distances: Mapping[str, float] | None = None,
        cutoff: float = math.inf,
    ) -> None:
        """start: the first state, from which volume and drift count, unless there is a memory.

        degrees_of_freedom [n_systems]; temperature [n_systems]: the highest of the run, K: that of the thermostat at the hottest point
        of its ramp, or of the velocities at the start; a memory knows better. timestep: fs. shortest_distances: of the potential, if
        known, and its cutoff in Å: pairs beyond it, which a list may keep, have no part in the forces.
        """
        self.settings = settings
        self.degrees_of_freedom = degrees_of_freedom
        self.timestep = timestep
        if memory and memory.hottest:
            temperature = torch.tensor(memory.hottest, dtype=temperature.dtype, device=temperature.device)
        self.temperature = temperature.clamp(min=COOLEST)
        self.limits = temperature_limits(settings, degrees_of_freedom, temperature)
        self.cutoff = cutoff
        self.radii = torch.tensor(covalent_radii, dtype=torch.float64, device=start.positions.device)
        self.n_atoms = torch.bincount(start.batch, minlength=start.n_systems)
        self.trained = distance_table(shortest_distances).to(start.positions.device) if shortest_distances else None
        self._passed_cells: torch.Tensor | None = None
        first = Memory(tuple(start.volume.tolist()), tuple(start.conserved_energy.tolist()), start.step)
        self.memory = replace(memory or first, hottest=tuple(temperature.tolist()))

    def due(self, step: int) -> bool:
        """Whether `check` looks at everything in this step; a state that passes then is a good one to go back to."""
        return step % self.settings.interval == 0

    def check(self, state: State, graph: AtomGraph | None = None) -> list[str]:
        """Return sentences to warn with, each kind once a system; WatchdogError where the simulation must stop.

        graph: of `state`, with the edges of its forces; distances are looked at where there is one. To be called at every step, and
        before the first.
        """
        alarms = [*_not_finite(state)]
        if not alarms and self.due(state.step):
            alarms = [*self._too_hot(state), *self._volumes(state), *self._drifts(state)]
            if graph is not None:
                # What has caused all else comes first.
                alarms = [*self._distances(state, graph), *alarms]
        return self._told(alarms)

    def deviations_due(self, step: int) -> bool:
        """Whether the deviations of the forces are to be computed and shown to `check_deviations` in this step."""
        return step % self.settings.deviation_interval == 0

    def check_deviations(self, state: State, deviations: torch.Tensor, error: float | None = None) -> list[str]:
        """Do as `check` does for the standard deviations of the forces [n_atoms, 3], eV/Å, of a committee or by `eqpot.uncertainty`.

        error: root mean square error of force components on held-out frames, if known. Without it and without `max_force_deviation`
        there is no limit.
        """
        limit = self.settings.max_force_deviation or (5 * error if error else math.inf)
        sizes = deviations.square().mean(dim=1).sqrt()
        alarms = []
        for system, atom in _worst(state, sizes):
            if not float(sizes[atom]) <= limit:
                sentence = (
                    f"{_where(state, system)}: the force on atom {_within(state, atom)} is uncertain by {float(sizes[atom]):.2g} eV/Å, "
                    f"more than {limit:.2g}: the potential extrapolates; fit it to such structures too, or raise max_force_deviation."
                )
                alarms.append(Alarm("extrapolation", system, sentence, self.settings.on_extrapolation == "stop"))
        return self._told(alarms)

    def _told(self, alarms: list[Alarm]) -> list[str]:
        """Raise the first alarm that stops; return the sentences of those that are new."""
        if not alarms:
            return []
        for alarm in alarms:
            if alarm.stop:
                raise WatchdogError(alarm)
        new = {f"{alarm.kind} {alarm.system}": alarm.sentence for alarm in alarms}
        new = {name: sentence for name, sentence in new.items() if name not in self.memory.warned}
        self.memory = replace(self.memory, warned=(*self.memory.warned, *new))
        return list(new.values())

    def _too_hot(self, state: State) -> Iterator[Alarm]:
        temperatures = state.temperature(self.degrees_of_freedom)
        for system in _where_not(temperatures <= self.limits):
            yield Alarm(
                "temperature",
                system,
                f"{_where(state, system)}: the temperature is {float(temperatures[system]):.0f} K, above the limit of "
                f"{float(self.limits[system]):.0f} K; use a shorter timestep, relax the structure first, or raise max_temperature.",
            )

    def _distances(self, state: State, graph: AtomGraph) -> Iterator[Alarm]:
        if graph.edge_index.shape[1] == 0:
            return
        lengths = edge_lengths(graph)
        source, target = (graph.numbers.index_select(0, ends) for ends in graph.edge_index)
        radii = self.radii[source] + self.radii[target]
        for system, edge, ratio in _closest(state, graph, lengths / radii, self.settings.min_distance):
            start = "move them apart, or" if state.step == 0 else "use a shorter timestep or"
            sentence = (
                f"{_where(state, system)}: {_pair(state, graph, edge)} are {float(lengths[edge]):.2f} Å apart, {ratio:.0%} of the sum of "
                f"their covalent radii; {start} relax the structure first, or lower min_distance."
            )
            yield Alarm("distance", system, sentence)
        if self.trained is None:
            return
        trained = self.trained[source, target]
        ratios = torch.where(lengths < self.cutoff, lengths / trained, torch.inf)
        for system, edge, _ in _closest(state, graph, ratios, self.settings.min_trained_distance):
            known = f"nearer than {float(trained[edge]):.2f} Å" if bool(trained[edge] < torch.inf) else "next to each other"
            sentence = (
                f"{_where(state, system)}: {_pair(state, graph, edge)} are {float(lengths[edge]):.2f} Å apart, and the training data have "
                f"no two such atoms {known}: the potential extrapolates; fit it to such structures too, or lower min_trained_distance."
            )
            yield Alarm("new distance", system, sentence, self.settings.on_extrapolation == "stop")

    def _volumes(self, state: State) -> Iterator[Alarm]:
        if state.cells is self._passed_cells:
            return
        before = torch.tensor(self.memory.volume, dtype=state.cells.dtype, device=state.cells.device)
        changes = torch.where(before > 0, state.volume / before.clamp(min=1e-300), 1.0)
        largest = self.settings.max_volume_change
        wrong = _where_not((changes <= largest) & (changes >= 1 / largest))
        self._passed_cells = None if wrong else state.cells
        for system in wrong:
            change = float(changes[system])
            what = "explodes" if change > 1 else "collapses"
            yield Alarm(
                "volume",
                system,
                f"{_where(state, system)}: the volume is {change:.2g} times that at the start: the cell {what}; "
                "check the pressure and its unit, use a longer relaxation time of the pressure, or raise max_volume_change.",
            )

    def _drifts(self, state: State) -> Iterator[Alarm]:
        """Compare the conserved energy with that at the start of a window of time.

        It fluctuates by the error of the time step, a small part of k_B T per mode where that is sound: k_B T / 2 per atom, and k_B T for
        the whole in case it has few, are let pass. A jump counts as the drift of a picosecond.
        """
        elapsed = (state.step - self.memory.step) * self.timestep / 1000
        if elapsed <= 0:
            return
        energy = state.conserved_energy
        before = torch.tensor(self.memory.energy, dtype=energy.dtype, device=energy.device)
        allowance = BOLTZMANN * self.temperature * (self.n_atoms / 2 + 1)
        excess = ((energy - before).abs() - allowance).clamp(min=0)
        drifts = 1000 * excess / (self.n_atoms * max(elapsed, 1.0))
        for system in _where_not(drifts <= self.settings.max_drift):
            change = 1000 * float(energy[system] - before[system]) / int(self.n_atoms[system])
            yield Alarm(
                "drift",
                system,
                f"{_where(state, system)}: the conserved energy has changed by {change:.3g} meV/atom in {elapsed:.3g} ps; use a shorter "
                "timestep or dtype float64, or raise max_drift.",
                stop=not float(drifts[system]) <= 10 * self.settings.max_drift,
            )
        if elapsed >= WINDOW:
            self.memory = replace(self.memory, energy=tuple(energy.tolist()), step=state.step)


def temperature_limits(settings: WatchdogSettings, degrees_of_freedom: torch.Tensor, temperature: torch.Tensor) -> torch.Tensor:
    """Return the temperatures [n_systems], K, that no sound simulation passes: `max_temperature`, or MARGIN q T.

    In the canonical ensemble N_f T_kinetic / T has the chi-square distribution of N_f degrees of freedom: a temperature ten times that of
    the bath is nothing unusual for one atom, and impossible for a thousand. q N_f is what is passed with a chance of RAREST. T is at
    least COOLEST.
    """
    if settings.max_temperature is not None:
        return torch.full_like(temperature, settings.max_temperature)
    freedom = degrees_of_freedom.clamp(min=1).tolist()
    spread = [2 * float(gammainccinv(n / 2, RAREST)) / n for n in freedom]
    return MARGIN * torch.tensor(spread, dtype=temperature.dtype, device=temperature.device) * temperature.clamp(min=COOLEST)


def _not_finite(state: State) -> Iterator[Alarm]:
    # Sums tell at the price of one look at the card.
    if math.isfinite(float(state.potential_energy.sum() + state.forces.sum() + state.velocities.sum())):
        return
    finite = torch.isfinite(state.forces).all(dim=1) & torch.isfinite(state.velocities).all(dim=1)
    for system in range(state.n_systems):
        atoms = torch.nonzero((state.batch == system) & ~finite).flatten().tolist()
        if atoms or not torch.isfinite(state.potential_energy[system]):
            what = f"the force on or velocity of atom {_within(state, atoms[0])}" if atoms else "the energy"
            sentence = f"{_where(state, system)}: {what} is not finite; use a shorter timestep or a better starting structure."
            yield Alarm("not finite", system, sentence)


def _closest(state: State, graph: AtomGraph, ratios: torch.Tensor, smallest: float) -> list[tuple[int, int, float]]:
    """Return system, edge and ratio of the smallest of `ratios` [n_edges] in every system where that is below the limit."""
    # All but always there is nothing to tell.
    if bool((ratios >= smallest).all()):
        return []
    nearest = torch.full_like(state.positions[:, 0], torch.inf).scatter_reduce(0, graph.edge_index[1], ratios, "amin")
    found = [
        (system, int(torch.where(graph.edge_index[1] == atom, ratios, torch.inf).argmin())) for system, atom in _worst(state, -nearest)
    ]
    return [(system, edge, float(ratios[edge])) for system, edge in found if not float(ratios[edge]) >= smallest]


def _pair(state: State, graph: AtomGraph, edge: int) -> str:
    names = [f"{chemical_symbols[int(graph.numbers[i])]} {_within(state, i)}" for i in sorted(graph.edge_index[:, edge].tolist())]
    return f"atoms {names[0]} and {names[1]}"


def _worst(state: State, sizes: torch.Tensor) -> list[tuple[int, int]]:
    """Return every system that has atoms with its atom of the largest of `sizes` [n_atoms]; NaN is larger than all."""
    sizes = torch.nan_to_num(sizes, nan=torch.inf)
    worst = []
    for system, atoms in enumerate(torch.split(sizes, torch.bincount(state.batch, minlength=state.n_systems).tolist())):
        if len(atoms):
            worst.append((system, _first(state, system) + int(atoms.argmax())))
    return worst


def _first(state: State, system: int) -> int:
    return int((state.batch < system).sum())


def _within(state: State, atom: int) -> int:
    """Return the number that an atom has in its own system."""
    return atom - _first(state, int(state.batch[atom]))


def _where_not(right: torch.Tensor) -> list[int]:
    """Return the systems that are not right; comparisons with NaN are not."""
    return [int(system) for system in torch.nonzero(~right).flatten()]


def _where(state: State, system: int) -> str:
    moment = "Before the first step" if state.step == 0 else f"In step {state.step}"
    return moment if state.n_systems == 1 else f"{moment}, system {system}"
