"""What a step of eqpot's dynamics costs, beside the potential itself and ASE's dynamics; one process, in turns.

python benchmarks/dynamics.py                    speed
python benchmarks/dynamics.py --drift            drift of the energy: ethanol and 512 silicon atoms, NVE, 100 ps; hours
python benchmarks/dynamics.py --memory           resident memory over 10^5 steps of ethanol
"""

import argparse
import resource
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from contest import ratios, spread
from eqpot import EqpotCalculator, load_potential
from eqpot.md import Settings, Simulation, resume_run, start_run
from eqpot.observables.series import drift as line
from eqpot.observables.thermo import read_thermo

ROOT = Path(__file__).parents[1] / "potentials"
REPLICAS = 64
SHORTEST_TURN = 0.2
CALL = "call of the potential: kept list, energy, forces, stress"


def ethanol() -> Atoms:
    return ase.io.read(ROOT / "ethanol" / "structure.extxyz")


def silicon() -> Atoms:
    return bulk("Si", a=5.469, cubic=True) * (4, 4, 4)


STRUCTURES = {"ethanol": ethanol, "silicon": silicon}


def model(name: str) -> Path:
    return ROOT / name / "potential.safetensors"


def interleaved(steps: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of a call, by name and round; the calls take turns of at least SHORTEST_TURN."""
    times: dict[str, list[float]] = {name: [] for name in steps}
    for number in range(rounds + 1):
        for name, step in steps.items():
            count, start = 0, time.perf_counter()
            while count == 0 or time.perf_counter() - start < SHORTEST_TURN:
                step()
                count += 1
            if number > 0:
                times[name].append((time.perf_counter() - start) / count)
    return times


def simulation_of(name: str, atoms: Atoms | list[Atoms], **settings: object) -> Simulation:
    """Return a simulation that has run for a while, so that lists have found their skin."""
    simulation = Simulation(atoms, load_potential(model(name)), Settings(**{"temperature": 300.0, "seed": 0, **settings}))
    for _ in range(20):
        simulation.step()
    return simulation


def step_of_ase(name: str, atoms: Atoms, timestep: float) -> Callable[[], object]:
    atoms = atoms.copy()
    atoms.calc = EqpotCalculator(model(name))
    dynamics = VelocityVerlet(atoms, timestep * units.fs)
    dynamics.run(20)
    return lambda: dynamics.run(1)


def speed(rounds: int) -> None:
    """Print steps against evaluations, against ASE, and a batch against one after the other."""
    print("| system | what | ms | ratio |\n| --- | --- | --- | --- |")
    for label, name, atoms, timestep in (("512 Si", "silicon", silicon(), 1.0), ("ethanol", "ethanol", ethanol(), 0.5)):
        simulation = simulation_of(name, atoms, timestep=timestep)
        function, state, ase_start = simulation.force_function, simulation.state, simulation.current_atoms()
        times = interleaved(
            {
                CALL: lambda function=function, state=state: function(state.positions, state.cells),
                "NVE step": simulation.step,
                "ASE's VelocityVerlet": step_of_ase(name, ase_start, timestep),
            },
            rounds,
        )
        for what, values in times.items():
            beside = times["NVE step" if "ASE" in what else CALL]
            ratio = f"{spread(ratios(values, beside))} {'steps' if 'ASE' in what else 'calls'}"
            print(f"| {label} | {what} | {spread([1e3 * value for value in values])} | {ratio} |")
    single = simulation_of("ethanol", ethanol())
    batch = simulation_of("ethanol", [ethanol()] * REPLICAS)
    times = interleaved({"alone": single.step, "together": batch.step}, rounds)
    gains = ratios([REPLICAS * value for value in times["alone"]], times["together"])
    print(f"\n{REPLICAS} replicas of ethanol together are {spread(gains)} times as fast as one after the other.")


def drift(runs: Path, systems: Sequence[str], dtypes: Sequence[str], timesteps: Sequence[float], picoseconds: float) -> None:
    """Print drift and fluctuation of the total energy in NVE; a run that was stopped, or is to be longer, goes on where it stood."""
    print("| atoms | dtype | timestep, fs | ps | drift, meV/atom/ps | fluctuation, meV/atom |\n| --- | --- | --- | --- | --- | --- |")
    for name, dtype, timestep in product(systems, dtypes, timesteps):
        folder = runs / f"{name}_{dtype}_{timestep:g}fs"
        potential, n_steps = load_potential(model(name), dtype=dtype), round(1000 * picoseconds / timestep)
        settings = Settings(timestep=timestep, temperature=300.0, seed=0, steps=n_steps)
        if not folder.exists():
            start_run(Simulation(STRUCTURES[name](), potential, settings), folder, formats=(), restart_minutes=1.0)
        run = resume_run(folder, potential, settings)
        run.run()
        thermo, n_atoms = read_thermo(folder), len(run.simulation.systems[0])
        times, energies = thermo["time_fs"] / 1000, 1000 * thermo["total_energy_ev"] / n_atoms
        fit = line(times, energies)
        rest = np.std(energies - fit.slope * times)
        slope = f"{fit.slope:.1e} ± {fit.error:.0e}"
        print(f"| {n_atoms} of {name} | {dtype} | {timestep:g} | {times[-1]:g} | {slope} | {rest:.1e} |", flush=True)


def memory(steps: int) -> None:
    """Print the resident memory after a tenth of the steps and after all."""
    simulation = simulation_of("ethanol", ethanol(), ensemble="nvt")
    for number in range(1, steps + 1):
        simulation.step()
        if number in (steps // 10, steps):
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
            print(f"after {number:,} steps: {peak / 1e6:.1f} MB at most")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    mode.add_argument("--drift", action="store_true")
    mode.add_argument("--memory", action="store_true")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--runs", type=Path, default=Path("runs/drift"), help="folder of the runs of --drift")
    parser.add_argument("--systems", nargs="+", choices=tuple(STRUCTURES), default=tuple(STRUCTURES), help="of --drift")
    parser.add_argument("--dtypes", nargs="+", choices=("float32", "float64"), default=("float32", "float64"), help="of --drift")
    parser.add_argument("--timesteps", nargs="+", type=float, default=(0.5, 1.0), help="fs, of --drift")
    parser.add_argument("--picoseconds", type=float, default=100.0, help="length of the runs of --drift")
    parser.add_argument("--steps", type=int, default=100_000, help="steps of --memory")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    if arguments.drift:
        drift(arguments.runs, arguments.systems, arguments.dtypes, arguments.timesteps, arguments.picoseconds)
    elif arguments.memory:
        memory(arguments.steps)
    else:
        print(f"Medians of {arguments.rounds} rounds, quartiles in brackets; {arguments.threads} thread(s), torch {torch.__version__}.\n")
        speed(arguments.rounds)


if __name__ == "__main__":
    main()
