"""What `eqpot md` shows: progress with speed and time left, and the outcome."""

import time
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from eqpot.md import Simulation

_DAY = 86400.0


class DynamicsView:
    """A progress bar with temperature, conserved energy and ns/day; plain lines, a tenth of the run apart, where there is no terminal."""

    def __init__(self, simulation: Simulation, console: Console) -> None:
        self.simulation = simulation
        self.console = console
        self._first = simulation.state.step
        self._started = time.monotonic()
        self._told = 0
        columns = (
            TextColumn("step {task.completed}"),
            BarColumn(),
            TextColumn("{task.fields[state]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._task = self._progress.add_task("dynamics", total=simulation.settings.steps, completed=self._first, state="")

    def __enter__(self) -> "DynamicsView":
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._progress.stop()

    def nanoseconds_per_day(self) -> float:
        """Simulated time of all systems together."""
        steps = (self.simulation.state.step - self._first) * self.simulation.state.n_systems
        return 1e-6 * steps * self.simulation.settings.timestep * _DAY / max(time.monotonic() - self._started, 1e-9)

    def show(self, rows: list[dict[str, float]]) -> None:
        """Show the thermodynamic state of all systems: means, and their number if there are many."""

        def mean(name: str) -> float:
            return sum(row[name] for row in rows) / len(rows)

        parts = [f"{mean('temperature_k'):6.1f} K"]
        if self.simulation.integrator.changes_cell:
            parts.append(f"{mean('pressure_gpa'):7.3f} GPa  {mean('volume_ang3'):.1f} Å^3")
        parts.append(f"{mean('conserved_energy_ev'):.6f} eV")
        parts.append(f"{self.nanoseconds_per_day():.3g} ns/day")
        if len(rows) > 1:
            parts.append(f"{len(rows)} systems")
        step, state = int(rows[0]["step"]), "  ".join(parts)
        self._progress.update(self._task, completed=step, state=state)
        tenth = 10 * step // self.simulation.settings.steps
        if not self.console.is_terminal and tenth > self._told:
            self._told = tenth
            self.console.print(f"step {step} of {self.simulation.settings.steps}: {state}")

    def conclude(self, summary: dict[str, Any]) -> None:
        """Print what the run amounts to."""
        settings, neighbors = self.simulation.settings, self.simulation.force_function.neighbors
        atoms = summary["atoms"]
        what = f"{len(atoms)} systems, {sum(atoms)} atoms in all" if isinstance(atoms, list) else f"{atoms} atom{'s' * (atoms != 1)}"
        self.console.print(
            f"{summary['time_ps']:g} ps {settings.ensemble.upper()} ({settings.integrator}) of {what}: mean temperature "
            f"{summary['mean_temperature_k']:.1f} K, conserved energy drifts by {summary['energy_drift_mev_per_atom_per_ps']:.2g} "
            f"meV/atom/ps and fluctuates by {summary['energy_fluctuation_mev_per_atom']:.2g} meV/atom; "
            f"{self.nanoseconds_per_day():.3g} ns/day"
        )
        if 0 < neighbors.skin < float("inf"):
            self.console.print(f"The neighbour list was searched {neighbors.n_builds} times, at last with a skin of {neighbors.skin:.2f} Å")
