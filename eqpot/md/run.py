"""A run on disk: what a simulation writes, and how it goes on after whatever stopped it."""

import contextlib
import csv
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import BaseModel, ConfigDict, Field

from eqpot.checkpoint import remove_leftovers, restoring
from eqpot.errors import ConfigError, SimulationError
from eqpot.files import whole_folder, write_atomically, write_structures
from eqpot.md.restart import load_restart, save_restart
from eqpot.md.settings import Settings
from eqpot.md.simulation import Simulation
from eqpot.md.state import State
from eqpot.md.trajectory import Mark, Output, Table, Trajectory, open_trajectory
from eqpot.potential import Potential
from eqpot.uncertainty import Uncertainty

logger = logging.getLogger(__name__)

Report = Callable[[list[dict[str, float]]], None]
"""Called with `Simulation.thermo()` at every written frame."""

Callback = tuple[int, Callable[[Simulation], None]]
"""A function, and every how many steps it is called."""

RESTART = "restart.safetensors"


class _Extra(BaseModel):
    """What a restart file says about the run's files."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    formats: list[Literal["extxyz", "traj", "h5md"]]
    restart_minutes: float
    marks: dict[str, dict[str, Annotated[int, Field(ge=0)]]]


class Run:
    """A simulation and its folder.

    The folder holds config.yaml, thermo.csv, a trajectory for each system and format, restart.safetensors and, at the end, final.extxyz
    and summary.json. A run that stops for whatever reason, kill -9 included, goes on with `resume_run`; on a CPU every file is then the
    same, to the bit, as that of a run that was not stopped.
    """

    def __init__(self, simulation: Simulation, folder: Path, extra: dict[str, Any]) -> None:
        """Use `start_run` or `resume_run`. extra: formats, restart_minutes and the marks of the files."""
        self.simulation = simulation
        self.folder = folder
        self.extra = extra
        self.stop_requested = False
        self._outputs: dict[str, Output] = {}

    @property
    def is_finished(self) -> bool:
        return self.simulation.state.step >= self.simulation.settings.steps

    def run(self, report: Report = lambda _: None, callbacks: Sequence[Callback] = ()) -> dict[str, Any] | None:
        """Run to the end and return the summary, or None if `stop_requested` became True before, once a restart file is written.

        Raises SimulationError where the watchdog or a number that is not finite ends the run; the last good frame is then in
        last_good.extxyz, the sentence in stopped.txt, and the restart file is that of the step before.
        """
        simulation, interval = self.simulation, self.simulation.settings.interval
        saved = time.monotonic()
        with self._open_outputs():
            while not self.is_finished and not self.stop_requested:
                try:
                    simulation.step()
                except SimulationError as error:
                    raise self._keep_last(error) from error
                step = simulation.state.step
                if step % interval == 0:
                    self._write_frame()
                    report(simulation.thermo())
                for every, function in callbacks:
                    if step % every == 0:
                        function(simulation)
                if time.monotonic() - saved >= 60 * self.extra["restart_minutes"]:
                    self._save()
                    saved = time.monotonic()
            self._save()
        return self._finish() if self.is_finished else None

    @contextlib.contextmanager
    def _open_outputs(self):  # type: ignore[no-untyped-def]
        """Open table and trajectories where their marks say."""
        with contextlib.ExitStack() as stack:
            marks: dict[str, Mark] = self.extra["marks"]
            self._outputs = {"thermo.csv": stack.enter_context(Table(self.folder / "thermo.csv", marks.get("thermo.csv")))}
            n_frames = self.simulation.settings.steps // self.simulation.settings.interval + 1
            for name, system in self._trajectories():
                atoms = self.simulation.systems[system]
                trajectory = open_trajectory(self.folder / name, atoms, n_frames, marks.get(name))
                self._outputs[name] = stack.enter_context(trajectory)
            yield

    def _trajectories(self) -> list[tuple[str, int]]:
        """Return the name of every trajectory with the number of its system."""
        n_systems = len(self.simulation.systems)
        width = len(str(n_systems - 1))
        names = ["trajectory"] if n_systems == 1 else [f"trajectory-{system:0{width}d}" for system in range(n_systems)]
        return [(f"{name}.{suffix}", system) for suffix in self.extra["formats"] for system, name in enumerate(names)]

    def _write_frame(self) -> None:
        frames = [self.simulation.current_atoms(system) for system in range(len(self.simulation.systems))]
        table = self._outputs["thermo.csv"]
        assert isinstance(table, Table)
        for row in self.simulation.thermo():
            table.append(row)
        for name, system in self._trajectories():
            trajectory = self._outputs[name]
            assert isinstance(trajectory, Trajectory)
            trajectory.append(frames[system], self.simulation.state.step, self.simulation.time)

    def _save(self) -> None:
        """Bring all files to the disk, and then the restart file that knows how far they are."""
        self.extra["marks"] = {name: output.mark() for name, output in self._outputs.items()}
        save_restart(self.folder / RESTART, self.simulation, self.extra)

    def _keep_last(self, error: SimulationError) -> SimulationError:
        """Keep the last good frame, a restart file of the present one and the sentence, and return the error to raise."""
        self._save()
        _write_structures(self.folder / "last_good.extxyz", self.simulation, self.simulation.last_good)
        write_atomically(self.folder / "stopped.txt", f"{error}\n".encode())
        return SimulationError(f"{error} The last good frame is {self.folder / 'last_good.extxyz'}.")

    def _finish(self) -> dict[str, Any]:
        _write_structures(self.folder / "final.extxyz", self.simulation, self.simulation.state)
        summary = summarize(self.folder, self.simulation)
        write_atomically(self.folder / "summary.json", (json.dumps(summary, indent=2) + "\n").encode())
        return summary


def start_run(
    simulation: Simulation,
    folder: str | Path,
    formats: Sequence[str] = ("extxyz",),
    restart_minutes: float = 5.0,
    record: dict[str, Any] | None = None,
) -> Run:
    """Make the folder of a run at its first step; a kill leaves none or a whole one.

    ConfigError if it exists, and for a simulation that stands between two of the steps at which frames are written.

    record: what config.yaml receives; by default the settings.
    """
    folder = Path(folder)
    if folder.exists():
        raise ConfigError(f"The output folder {folder} exists; choose another, remove it, or continue it with --resume.")
    step, interval = simulation.state.step, simulation.settings.interval
    if step % interval:
        raise ConfigError(
            f"The simulation stands at step {step}, and frames are written every {interval} steps, so intervals between them would differ; "
            "start the run before the first step, or at such a one."
        )
    if interval > simulation.settings.steps:
        logger.warning("dynamics.interval is %d, and the run has %d steps: no frame but the first", interval, simulation.settings.steps)
    record = record or {"dynamics": json.loads(simulation.settings.model_dump_json())}
    with whole_folder(folder) as staging:
        (staging / "config.yaml").write_text(yaml.safe_dump(record, sort_keys=False), encoding="utf-8")
        run = Run(simulation, staging, {"formats": list(formats), "restart_minutes": restart_minutes, "marks": {}})
        with run._open_outputs():
            run._write_frame()
            run._save()
    run.folder = folder
    return run


def resume_run(
    folder: str | Path,
    potential: Potential,
    settings: Settings | None = None,
    uncertainty: Uncertainty | None = None,
    committee: Sequence[Potential] = (),
) -> Run:
    """Return the run of a folder where its restart file stands; errors as in `load_restart`."""
    folder = Path(folder)
    remove_leftovers(folder)
    simulation, extra = load_restart(folder / RESTART, potential, settings, uncertainty, committee)
    with restoring(folder / RESTART):
        return Run(simulation, folder, _Extra.model_validate(extra).model_dump())


def summarize(folder: Path, simulation: Simulation) -> dict[str, Any]:
    """Return what a run amounts to, from its thermo.csv; with many systems means over them, and the largest drift."""
    with (folder / "thermo.csv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    n_systems = len(simulation.systems)

    def column(name: str) -> np.ndarray:
        """[n_frames, n_systems]"""
        return np.array([float(row[name]) for row in rows]).reshape(-1, n_systems)

    times = column("time_fs")[:, 0] / 1000
    conserved = 1000 * column("conserved_energy_ev") / np.array([len(system) for system in simulation.systems])
    slopes = np.polyfit(times, conserved, 1)[0] if len(times) > 1 else np.zeros(n_systems)
    worst = int(np.abs(slopes).argmax())
    return {
        **json.loads(simulation.settings.model_dump_json()),
        "systems": n_systems,
        "atoms": [len(system) for system in simulation.systems] if n_systems > 1 else len(simulation.systems[0]),
        "steps": simulation.state.step,
        "time_ps": simulation.time / 1000,
        "mean_temperature_k": float(column("temperature_k").mean()),
        "energy_drift_mev_per_atom_per_ps": float(slopes[worst]),
        "energy_fluctuation_mev_per_atom": float(np.std(conserved[:, worst] - slopes[worst] * times)),
    }


def _write_structures(path: Path, simulation: Simulation, state: State) -> None:
    write_structures(path, [simulation.current_atoms(system, state) for system in range(len(simulation.systems))])
