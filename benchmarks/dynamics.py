"""What a step of eqpot's dynamics costs, beside the potential itself and ASE's dynamics; one process, in turns.

python benchmarks/dynamics.py                    speed
python benchmarks/dynamics.py --drift            drift of the energy: ethanol and 512 silicon atoms, NVE, 100 ps; hours
python benchmarks/dynamics.py --memory           resident memory over 10^5 steps of ethanol
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import product
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from contest import Contestant, ratios, start
from eqpot import EqpotCalculator, load_potential
from eqpot.graph import edge_vectors
from eqpot.md import Settings, Simulation, resume_run, start_run
from eqpot.observables.series import drift as line
from eqpot.observables.thermo import read_thermo
from measured import Table, quartiles, several, with_error
from workers.serve import peak_memory, seconds_of

ROOT = Path(__file__).parents[1] / "potentials"
WARM_UP = 20
DRAWN = 600.0
"""K, of the velocities at the start of --drift: a structure at rest takes half of it as potential energy, and 300 K remain."""
STEP = "NVE step"
CALL = "call of the potential: kept list, energy, forces, stress"
ALONE = "NVE steps, one after the other"
CASES = (("silicon", 1.0, 1), ("ethanol", 0.5, 1), ("ethanol", 0.5, 64))
"""System, time step in fs, replicas."""

TORCH_SIM = Contestant("torch-sim's NVE, the same potential", "torchsim", peer="torchsim", drives_eqpot=True)


def ethanol() -> Atoms:
    return ase.io.read(ROOT / "ethanol" / "structure.extxyz")


def silicon() -> Atoms:
    return bulk("Si", a=5.469, cubic=True) * (4, 4, 4)


STRUCTURES = {"ethanol": ethanol, "silicon": silicon}


def model(name: str) -> Path:
    return ROOT / name / "potential.safetensors"


def interleaved(turns: Mapping[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of a step, by name and round, after a round that does not count; the contestants take turns."""
    times: dict[str, list[float]] = {name: [] for name in turns}
    for number in range(rounds + 1):
        for name, turn in turns.items():
            seconds = turn()
            if number > 0:
                times[name].append(seconds)
    return times


def simulation_of(name: str, atoms: Atoms | list[Atoms], **settings: object) -> Simulation:
    """Return a simulation that has run for a while, so that lists have found their skin."""
    simulation = Simulation(atoms, load_potential(model(name)), Settings(**{"temperature": 300.0, "seed": 0, **settings}))
    for _ in range(WARM_UP):
        simulation.step()
    return simulation


def step_of_ase(name: str, atoms: Atoms, timestep: float) -> Callable[[], object]:
    atoms = atoms.copy()
    atoms.calc = EqpotCalculator(model(name))
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    dynamics.run(WARM_UP)
    return lambda: dynamics.run(1)


def step_of_kernel(simulation: Simulation) -> Callable[[], object] | None:
    """Return a call of the fused kernel with the simulation's present edges, if it uses one."""
    potential, graph = simulation.potential, simulation.force_function.graph
    kernel = potential.fused_kernel()
    if kernel is None:
        return None
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
    species = potential.species_of_number[graph.numbers]
    return lambda: kernel(vectors, species, graph.edge_index)


def speed(rounds: int, threads: int, keep: bool = False, cases: Sequence[tuple[str, float, int]] = CASES) -> None:
    """Print what a step costs beside its parts and beside other ways to take it.

    On one thread in CPU time, as nothing waits: a few per cent are asked for, which on a machine that has more to do the clock on the
    wall does not tell.
    """
    clock = time.process_time if threads == 1 else time.perf_counter
    for name, timestep, replicas in cases:
        system = STRUCTURES[name]()
        simulation = simulation_of(name, [system] * replicas, timestep=timestep)
        function, state = simulation.force_function, simulation.state
        steps: dict[str, Callable[[], object] | None] = {
            STEP: simulation.step,
            CALL: lambda function=function, state=state: function(state.positions, state.cells),
            "fused kernel alone": step_of_kernel(simulation),
            "ASE's VelocityVerlet, one after the other" if replicas > 1 else "ASE's VelocityVerlet": step_of_ase(
                name, simulation.current_atoms(), timestep
            ),
        }
        if replicas > 1:
            steps[ALONE] = simulation_of(name, system, timestep=timestep).step
        turns = {what: partial(seconds_of, step, clock) for what, step in steps.items() if step is not None}
        with ExitStack() as stack:
            job = {"system": name, "timestep": timestep, "replicas": replicas, "threads": threads, "cpu_time": threads == 1}
            for worker in start(stack, [TORCH_SIM], **job):
                check_energy(simulation, worker.facts["energy"])
                turns[worker.name] = worker.seconds
            times = interleaved(turns, rounds)
        for what in times:
            if "one after the other" in what:
                times[what] = [replicas * value for value in times[what]]
        parallel = f", {threads} threads" if threads > 1 else ""
        table = Table(f"step {replicas} {name}{parallel}", keep, rounds=rounds, threads=threads)
        for what, values in times.items():
            cells = {
                "ms": [1e3 * value for value in values],
                "times the NVE step": ratios(values, times[STEP]),
                "times a call of the potential": ratios(values, times[CALL]),
            }
            table.add({f"{replicas} x {len(system)} atoms of {name}": what}, {label: quartiles(cell) for label, cell in cells.items()})


def check_energy(simulation: Simulation, energy: float) -> None:
    """Raise ArithmeticError where another code, from the same start, is elsewhere in energy (eV) after as many steps."""
    ours = float(simulation.state.potential_energy.sum())
    if abs(energy - ours) > 1e-5 * len(simulation.state.positions):
        raise ArithmeticError(f"torch-sim has a potential energy of {energy} eV after {WARM_UP} steps, eqpot of {ours} eV")


def drift(
    runs: Path, systems: Sequence[str], dtypes: Sequence[str], timesteps: Sequence[float], picoseconds: float, keep: bool = False
) -> None:
    """Print drift and fluctuation of the total energy in NVE; a run that was stopped, or is to be longer, goes on where it stood."""
    table = Table("drift", keep)
    for name, dtype, timestep in product(systems, dtypes, timesteps):
        folder = runs / f"{name}_{dtype}_{timestep:g}fs"
        potential, n_steps = load_potential(model(name), dtype=dtype), round(1000 * picoseconds / timestep)
        settings = Settings(timestep=timestep, temperature=DRAWN, seed=0, steps=n_steps)
        if not folder.exists():
            start_run(Simulation(STRUCTURES[name](), potential, settings), folder, formats=(), restart_minutes=1.0)
        run = resume_run(folder, potential, settings)
        run.run()
        thermo, n_atoms = read_thermo(folder), len(run.simulation.systems[0])
        times, energies = thermo["time_fs"] / 1000, 1000 * thermo["total_energy_ev"] / n_atoms
        fit = line(times, energies)
        rest = np.std(energies - fit.slope * times)
        values = {"ps": float(times[-1]), "K": round(thermo["temperature_k"].mean())}
        errors = {"drift, meV/atom/ps": with_error(fit.slope, fit.error), "fluctuation, meV/atom": float(rest)}
        table.add({"atoms": f"{n_atoms} of {name}", "dtype": dtype, "time step, fs": timestep}, {**values, **errors})


def memory(steps: int, keep: bool = False) -> None:
    """Print the resident memory of NVT dynamics after a tenth of the steps and after all, of steps alone and of a run that writes files."""
    table = Table("memory", keep)
    settings = Settings(ensemble="nvt", temperature=300.0, seed=0, steps=steps)
    simulation, seen = Simulation(ethanol(), load_potential(model("ethanol")), settings), []
    for number in range(1, steps + 1):
        simulation.step()
        if number in (steps // 10, steps):
            seen.append(resident_memory())
    table.add({f"{steps:,} steps of ethanol, nvt": "steps alone"}, _growth(seen))
    simulation, seen = Simulation(ethanol(), load_potential(model("ethanol")), settings), []
    with tempfile.TemporaryDirectory() as folder:
        run = start_run(simulation, Path(folder) / "run", ("extxyz", "traj", "h5md"), restart_minutes=0.05)
        run.run(callbacks=[(steps // 10, lambda _: seen.append(resident_memory()))])
    what = "a run: thermo, restart file every 3 s, extxyz, traj and h5md every 10 steps"
    table.add({f"{steps:,} steps of ethanol, nvt": what}, _growth(seen))


def resident_memory() -> float:
    """Return what the process holds now, MB; where the system does not tell, the most that it ever held."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        return peak_memory() / 1e6
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _growth(seen: Sequence[float]) -> dict[str, str]:
    return {
        "MB after a tenth": f"{seen[0]:.1f}",
        "MB at the end": f"{seen[-1]:.1f}",
        "growth, %": f"{100 * (seen[-1] / seen[0] - 1):.2f}",
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--drift", action="store_true")
    mode.add_argument("--memory", action="store_true")
    parser.add_argument("--rounds", type=several, default=15)
    parser.add_argument("--runs", type=Path, default=Path("runs/drift"), help="folder of the runs of --drift")
    parser.add_argument("--systems", nargs="+", choices=tuple(STRUCTURES), default=tuple(STRUCTURES), help="of --drift")
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "float64"), default=("float32", "float64"), help="of --drift")
    parser.add_argument("--timesteps", nargs="+", type=float, default=(0.5, 1.0), help="fs, of --drift")
    parser.add_argument("--picoseconds", type=float, default=100.0, help="length of the runs of --drift")
    parser.add_argument("--steps", type=int, default=100_000, help="steps of --memory")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="put the rows into docs/measured.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.drift:
        drift(arguments.runs, arguments.systems, arguments.dtypes, arguments.timesteps, arguments.picoseconds, arguments.keep)
    elif arguments.memory:
        memory(arguments.steps, arguments.keep)
    else:
        speed(arguments.rounds, arguments.threads, arguments.keep)


if __name__ == "__main__":
    main()
