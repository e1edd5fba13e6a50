"""Time eqpot's neighbour lists beside other packages', interleaved in one process; print tables in Markdown.

python benchmarks/neighbors.py               µs and bytes an atom of a list from scratch, aspirin and silicon up to 97,336 atoms, 5 Å
python benchmarks/neighbors.py --dynamics    the list's share of a time step of silicon, with and without skin

Every list is full, with integer translations, of one thread. Lists of eqpot are checked, sorted and cut exactly at the cutoff; those of the
other packages are what the package returns. Builders whose package is missing are left out.
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list
from matscipy.neighbours import neighbour_list
from pymatgen.optimization.neighbors import find_points_in_spheres

from eqpot import load_potential
from eqpot.md import Settings, Simulation
from eqpot.neighbors import BUILDERS, VerletList, build_graph, neighbor_list
from measured import Table, quartiles, several
from structures import make_structure

CUTOFF = 5.0
SIZES = (21, 64, 512, 4096, 32_768, 97_336)
PATIENCE = 4.0
"""Seconds beyond which a list is not asked for at the next size."""
SILICON = Path(__file__).parents[1] / "potentials" / "silicon" / "potential.safetensors"

Lister = Callable[[Atoms], int]
"""Makes the list of a structure and returns its number of edges."""


def make_system(n_atoms: int) -> Atoms:
    """Return aspirin for 21 atoms, otherwise cubes of silicon, moved by up to 0.05 Å along every axis and wrapped."""
    if n_atoms == 21:
        return make_structure("aspirin")
    edge = round((n_atoms / 8) ** (1 / 3))
    crystal = bulk("Si", a=5.431, cubic=True) * (edge, edge, edge)
    crystal.positions += np.random.default_rng(0).uniform(-0.05, 0.05, crystal.positions.shape)
    crystal.wrap()
    return crystal


def _skin_list() -> Lister:
    verlet = VerletList(CUTOFF, 0.5)

    def look_again(atoms: Atoms) -> int:
        return verlet.graph(atoms).edge_index.shape[1]

    return look_again


def _cell(atoms: Atoms) -> np.ndarray:
    """Return the cell, or a box around a molecule: not every package takes one without."""
    return atoms.cell.array if atoms.cell.rank == 3 else np.diag(np.ptp(atoms.positions, axis=0) + CUTOFF)


def _matscipy(atoms: Atoms) -> int:
    return len(neighbour_list("ijS", cutoff=CUTOFF, positions=atoms.positions, cell=_cell(atoms), pbc=atoms.pbc)[0])


def _ase(atoms: Atoms) -> int:
    return len(primitive_neighbor_list("ijS", atoms.pbc, _cell(atoms), atoms.positions, CUTOFF)[0])


def _pymatgen(atoms: Atoms) -> int:
    pbc = np.ascontiguousarray(atoms.pbc, dtype=np.int64)
    sources, targets, _, distances = find_points_in_spheres(atoms.positions, atoms.positions, CUTOFF, pbc, _cell(atoms))
    return int(((sources != targets) | (distances > 1e-8)).sum())


def _vesin(atoms: Atoms) -> int:
    from vesin import NeighborList  # noqa: PLC0415 (optional)

    return len(NeighborList(cutoff=CUTOFF, full_list=True).compute(atoms.positions, _cell(atoms), atoms.pbc, "ijS")[0])


def listers() -> dict[str, Lister]:
    """Return what is timed."""
    own: dict[str, Lister] = {
        "eqpot, auto": lambda atoms: neighbor_list(atoms, CUTOFF)[0].shape[1],
        "eqpot, kept, skin 0.5 Å": _skin_list(),
    }
    for name, builder in BUILDERS.items():
        if builder.is_installed() and builder.pbc and name != "brute_force":
            own[f"eqpot, {name}"] = lambda atoms, name=name: neighbor_list(atoms, CUTOFF, name)[0].shape[1]
    others: dict[str, Lister] = {"matscipy": _matscipy, "pymatgen": _pymatgen, "ASE": _ase}
    if BUILDERS["vesin"].is_installed():
        others["vesin"] = _vesin
    return own | others


def builder_table(sizes: Sequence[int], rounds: int, keep: bool = False) -> None:
    """Print µs an atom, and the memory that the largest list took."""
    candidates, rows = listers(), dict[tuple[str, int], dict[str, float]]()
    slow: set[str] = set()
    for n_atoms in sizes:
        atoms = make_system(n_atoms)
        expected = build_graph(atoms, CUTOFF).edge_index.shape[1]
        times: dict[str, list[float]] = {name: [] for name in candidates if name not in slow}
        for turn in range(rounds + 1):
            for name, values in times.items():
                found, seconds = _timed(candidates[name], atoms)
                assert found == expected, (name, found, expected)
                if turn:
                    values.append(seconds)
                if seconds > PATIENCE:
                    slow.add(name)
        for name, values in times.items():
            rows[name, n_atoms] = quartiles([1e6 * value / n_atoms for value in values])
    # A list of few atoms is smaller than the noise of a process.
    measured = [name for name in candidates if name not in slow and sizes[-1] >= 4096]
    memory = {name: 1.024 * _peak_kilobytes(name, sizes[-1]) / sizes[-1] for name in measured}
    table = Table("neighbour lists", keep, rounds=rounds)
    for name in candidates:
        costs = {f"{n:,} atoms": rows.get((name, n)) for n in sizes}
        table.add({"list, µs/atom": name}, {**costs, "memory, kB/atom": memory.get(name)})


def _timed(lister: Lister, atoms: Atoms) -> tuple[int, float]:
    """Return the number of edges and the seconds of a list; small ones are made several times, after one that does not count."""
    repeats = 1 + 2_000 // len(atoms)
    for number in range(repeats + 1):
        if number == 1:
            start = time.perf_counter()
        # Another position every time, as in dynamics.
        atoms.positions += 1e-9
        found = lister(atoms)
    return found, (time.perf_counter() - start) / repeats


def _peak_kilobytes(name: str, n_atoms: int) -> float:
    """Return by how much the memory of a fresh process grows at most while it makes a list (Linux; NaN elsewhere)."""
    if not Path("/proc/self/clear_refs").exists():
        return float("nan")
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_grow, name, n_atoms).result()


def _grow(name: str, n_atoms: int) -> float:
    def kilobytes(field: str) -> int:
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith(field))

    torch.set_num_threads(1)
    lister, atoms = listers()[name], make_system(n_atoms)
    lister(make_system(64))
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before = kilobytes("VmRSS")
    lister(atoms)
    return kilobytes("VmHWM") - before


@dataclass(frozen=True)
class Share:
    """What a list costs in dynamics: its skin in Å, how often it was searched, µs an atom and part of a step."""

    skin: float
    builds: int
    cost: float
    part: float


def shares(edge: int, steps: int) -> dict[str, Share]:
    """Return the cost of skin lists and of lists from scratch in steps of silicon, 8 edge^3 atoms at about 300 K."""
    potential = load_potential(SILICON, dtype="float32")
    atoms = bulk("Si", a=5.469, cubic=True) * (edge, edge, edge)
    # Half of it becomes potential energy.
    simulation = Simulation(atoms, potential, Settings(timestep=1.0, temperature=600.0, seed=0))
    for _ in range(20):
        simulation.step()
    forces = simulation.force_function
    lists = {"skin": forces.neighbors, "from scratch": VerletList(potential.cutoff, 0.0)}
    times: dict[str, list[tuple[float, float]]] = {name: [] for name in lists}
    builds = {name: verlet.n_builds for name, verlet in lists.items()}
    for _ in range(steps):
        before = simulation.state
        for name, verlet in lists.items():
            # The same step with either list, so that noise of the machine hits both.
            watch = _Watch(verlet)
            simulation.state, forces.neighbors = before, watch  # type: ignore[assignment]
            start = time.perf_counter()
            simulation.step()
            times[name].append((watch.seconds, time.perf_counter() - start))
    result = {}
    for name, verlet in lists.items():
        listing, whole = (statistics.fmean(values) for values in zip(*times[name], strict=True))
        result[name] = Share(verlet.skin, verlet.n_builds - builds[name], 1e6 * listing / len(atoms), listing / whole)
    return result


def dynamics_table(edges: Sequence[int], steps: int, keep: bool = False) -> None:
    """Print `shares`."""
    table = Table("neighbour lists in dynamics", keep)
    for edge in edges:
        for name, share in shares(edge, steps).items():
            searches = {"skin, Å": share.skin, "searches / steps": f"{share.builds} / {steps}"}
            costs = {"list, µs/atom": share.cost, "part of a step, %": 100 * share.part}
            table.add({"Si atoms": 8 * edge**3, "list": name}, {**searches, **costs})


class _Watch:
    """A list that keeps the time it takes."""

    def __init__(self, verlet: VerletList) -> None:
        self.verlet, self.seconds = verlet, 0.0

    @property
    def is_whole(self) -> bool:
        return self.verlet.is_whole

    def candidates(self, *given: object) -> object:
        start = time.perf_counter()
        pairs = self.verlet.candidates(*given)  # type: ignore[arg-type]
        self.seconds += time.perf_counter() - start
        return pairs


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dynamics", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=several, default=5)
    parser.add_argument("--keep", action="store_true", help="put the rows into docs/measured.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.dynamics:
        dynamics_table((5, 11), steps=40, keep=arguments.keep)
    else:
        builder_table(arguments.sizes, arguments.rounds, arguments.keep)


if __name__ == "__main__":
    main()
