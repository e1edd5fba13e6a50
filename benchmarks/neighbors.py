"""Time eqpot's neighbour lists beside other packages', interleaved in one process; print tables in Markdown.

python benchmarks/neighbors.py               µs and bytes an atom of a list from scratch, aspirin and silicon up to 97,336 atoms, 5 Å
python benchmarks/neighbors.py --dynamics    the list's share of a time step of silicon, with and without skin

Every list is full, with integer translations, of one thread. Lists of eqpot are checked, sorted and cut exactly at the cutoff; those of the
other packages are what the package returns. Builders whose package is missing are left out.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from ase import Atoms
from ase.build import bulk
from ase.neighborlist import primitive_neighbor_list
from matscipy.neighbours import neighbour_list
from pymatgen.optimization.neighbors import find_points_in_spheres

from contest import spread
from eqpot import load_potential
from eqpot.md import Settings, Simulation
from eqpot.neighbors import BUILDERS, VerletList, build_graph, neighbor_list
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
    return atoms.cell.array if atoms.cell.rank == 3 else 100.0 * np.eye(3)


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
    own: dict[str, Lister] = {"eqpot, looking again with a skin of 0.5 Å": _skin_list()}
    for name, builder in BUILDERS.items():
        if builder.is_installed() and builder.pbc and name != "brute_force":
            own[f"eqpot, {name}"] = lambda atoms, name=name: neighbor_list(atoms, CUTOFF, name)[0].shape[1]
    others: dict[str, Lister] = {"matscipy": _matscipy, "pymatgen": _pymatgen, "ASE": _ase}
    if BUILDERS["vesin"].is_installed():
        others["vesin"] = _vesin
    return own | others


def builder_table(sizes: Sequence[int], rounds: int) -> None:
    """Print µs an atom, and the memory that the largest list took."""
    candidates, rows = listers(), {}
    slow: set[str] = set()
    for n_atoms in sizes:
        atoms = make_system(n_atoms)
        expected = build_graph(atoms, CUTOFF).edge_index.shape[1]
        times: dict[str, list[float]] = {name: [] for name in candidates if name not in slow}
        for turn in range(rounds + 1):
            for name, values in times.items():
                # Another position every time, as in dynamics.
                atoms.positions += 1e-9
                start = time.perf_counter()
                found = candidates[name](atoms)
                seconds = time.perf_counter() - start
                assert found == expected, (name, found, expected)
                if turn:
                    values.append(seconds)
                if seconds > PATIENCE:
                    slow.add(name)
        for name, values in times.items():
            rows[name, n_atoms] = spread([1e6 * value / n_atoms for value in values])
    memory = {
        name: f"{_peak_bytes(lister, make_system(sizes[-1])) / sizes[-1] / 1e3:.1f}"
        for name, lister in candidates.items()
        if name not in slow
    }
    print(f"\n| list, µs/atom | {' | '.join(f'{n:,} atoms' for n in sizes)} | memory, kB/atom |")
    print("| --- " * (len(sizes) + 2) + "|")
    for name in candidates:
        print(f"| {name} | {' | '.join(rows.get((name, n), '') for n in sizes)} | {memory.get(name, '')} |")


def _peak_bytes(lister: Lister, atoms: Atoms) -> float:
    """Return by how much the memory of this process grew at most while a list was made (Linux; NaN elsewhere)."""
    status, reset = Path("/proc/self/status"), Path("/proc/self/clear_refs")
    if not reset.exists():
        return float("nan")

    def kilobytes(field: str) -> int:
        return next(int(line.split()[1]) for line in status.read_text(encoding="ascii").splitlines() if line.startswith(field))

    reset.write_text("5", encoding="ascii")
    before = kilobytes("VmRSS")
    lister(atoms)
    return 1024 * (kilobytes("VmHWM") - before)


def dynamics_table(edges: Sequence[int], steps: int) -> None:
    """Print the share of the list in steps of silicon at 300 K, alternating between skin lists and lists from scratch."""
    print("\n| Si atoms | list | skin, Å | builds / steps | list, µs/atom | share of a step, % |\n| --- | --- | --- | --- | --- | --- |")
    potential = load_potential(SILICON, dtype="float32")
    for edge in edges:
        atoms = bulk("Si", a=5.469, cubic=True) * (edge, edge, edge)
        simulation = Simulation(atoms, potential, Settings(timestep=1.0, temperature=600.0, seed=0))
        lists = {"skin": simulation.neighbors, "from scratch": VerletList(potential.cutoff, 0.0)}
        for _ in range(20):
            simulation.step()
        times: dict[str, list[tuple[float, float]]] = {name: [] for name in lists}
        builds = {name: verlet.n_builds for name, verlet in lists.items()}
        for _ in range(steps):
            before = simulation.state
            for name, verlet in lists.items():
                # The same step with either list, so that noise of the machine hits both.
                watch = _Watch(verlet)
                simulation.state, simulation.neighbors = before, watch  # type: ignore[assignment]
                start = time.perf_counter()
                simulation.step()
                times[name].append((watch.seconds, time.perf_counter() - start))
        for name, verlet in lists.items():
            share = statistics.fmean(part for part, _ in times[name]) / statistics.fmean(whole for _, whole in times[name])
            cost = 1e6 * statistics.fmean(part for part, _ in times[name]) / len(atoms)
            built = f"{verlet.n_builds - builds[name]} / {steps}"
            print(f"| {len(atoms):,} | {name} | {verlet.skin:.2f} | {built} | {cost:.2f} | {100 * share:.1f} |", flush=True)


class _Watch:
    """A list that keeps the time it takes."""

    def __init__(self, verlet: VerletList) -> None:
        self.verlet, self.seconds = verlet, 0.0

    def graph(self, *given: object) -> object:
        start = time.perf_counter()
        graph = self.verlet.graph(*given)  # type: ignore[arg-type]
        self.seconds += time.perf_counter() - start
        return graph


def main() -> None:
    """Parse the command line and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dynamics", action="store_true")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        f"One thread, torch {torch.__version__}, Python {sys.version.split()[0]}; median (lowest to highest) of {arguments.rounds} rounds."
    )
    if arguments.dynamics:
        dynamics_table((5, 11), steps=40)
    else:
        builder_table(arguments.sizes, arguments.rounds)


if __name__ == "__main__":
    main()
