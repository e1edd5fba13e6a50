"""Do the ensembles of `eqpot.md` have the distributions of statistical mechanics? Tests of the package physical-validation.

python benchmarks/ensembles.py                       ideal gas, Einstein crystal, Lennard-Jones argon: fluid and crystal
python benchmarks/ensembles.py --systems silicon     with the shipped potential
python benchmarks/ensembles.py --systems "fluid argon" --integrators cell_rescaling
python benchmarks/ensembles.py --convergence         fluctuation of the energy of velocity Verlet when the time step halves

Kinetic energies are compared with their distribution: deviations of mean and width, in standard errors. Two runs that differ in
temperature or pressure are compared with each other, as the ratio of their distributions of energy (enthalpy at constant pressure) or
volume is known (Merz and Shirts 2018): the deviation is in standard errors again. Below three is what chance does.

Left out is what theory says cannot pass: one friction for all velocities, as Nosé-Hoover chains have, changes the energies of
independent modes in proportion, so those of an ideal gas or of an Einstein crystal never reach equilibrium with one another; a gas that
starts at the chain's temperature even keeps it. In an ideal gas the barostat built on them moves a handful of variables, and whether these
mix depends on its two times. An ideal gas at constant volume has no energy to compare at two temperatures, and an Einstein crystal no
pressure. A fluid has no shape, so the full cell is for crystals.
"""

import argparse
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import ase.io
import numpy as np
import physical_validation as pv
import torch
from ase import Atoms
from ase.build import bulk

from eqpot import load_potential
from eqpot.md import Settings, Simulation
from eqpot.md.settings import USERS
from eqpot.md.velocities import draw_velocities
from eqpot.observables import statistical_inefficiency
from eqpot.units import BOLTZMANN, GIGAPASCAL
from measured import Table
from simple_potentials import IdealGas, LennardJones, NoPairs, Tethers

POTENTIALS = Path(__file__).parents[1] / "potentials"
LIMIT = 3.0
CALM = {"min_distance": 0.0, "max_temperature": 1e9, "max_volume_change": 100.0, "max_drift": 1e9}
UNITS = pv.data.UnitData(
    kb=BOLTZMANN,
    energy_conversion=96.48533212,
    length_conversion=0.1,
    volume_conversion=1e-3,
    temperature_conversion=1,
    pressure_conversion=1e4 / GIGAPASCAL,
    time_conversion=1,
)
"""eV, Å, eV/Å^3 in kJ/mol, nm, bar."""

THERMOSTATS = ("langevin", "velocity_rescaling", "nose_hoover")
BAROSTATS = ("cell_rescaling", "martyna_tobias_klein")


@dataclass(frozen=True)
class System:
    """A structure, its potential, and how to sample it: temperature in K, pressure in GPa.

    cases: integrators, each with the motion of the cell and the steps of a run. conserves_momentum: whether the potential does.
    """

    atoms: Callable[[int], list[Atoms]]
    potential: Callable[[Sequence[Atoms]], object]
    cases: tuple[tuple[str, str, int], ...]
    temperature: float
    pressure: float = 0.0
    settings: dict[str, float] = field(default_factory=dict)
    has_energy: bool = True
    has_pairs: bool = True
    conserves_momentum: bool = True
    replicas: int = 32


def ideal_gas() -> System:
    def start(replicas: int) -> list[Atoms]:
        # p V = (N + 1) k_B T in the mean.
        edge = (21 * BOLTZMANN * 300.0 / (0.02 * GIGAPASCAL)) ** (1 / 3)
        places = np.random.default_rng(0).uniform(0, edge, size=(replicas, 20, 3))
        return [Atoms("Ar20", positions=positions, cell=[edge] * 3, pbc=True) for positions in places]

    cases = (("langevin", "", 4000), ("velocity_rescaling", "", 4000), ("cell_rescaling", "isotropic", 16_000))
    settings = {"timestep": 4.0, "bulk_modulus": 0.02}
    return System(start, lambda _: IdealGas(), cases, 300.0, 0.02, settings, has_energy=False, has_pairs=False, replicas=64)


def einstein_crystal() -> System:
    crystal = bulk("Ar", "fcc", a=5.3, cubic=True) * (2, 1, 1)

    def potential(systems: Sequence[Atoms]) -> Tethers:
        # No two frequencies are alike, or phases would never mix: an atom on an isotropic spring keeps swinging on one line.
        stiffness = torch.linspace(0.2, 2.0, 3 * len(crystal), dtype=torch.float64).view(-1, 3)
        return Tethers(torch.tensor(crystal.positions).repeat(len(systems), 1), stiffness.repeat(len(systems), 1))

    return System(
        atoms=lambda replicas: [crystal] * replicas,
        potential=potential,
        cases=(("langevin", "", 6000), ("velocity_rescaling", "", 6000)),
        temperature=100.0,
        settings={"timestep": 4.0},
        has_pairs=False,
        conserves_momentum=False,
        replicas=64,
    )


def fluid_argon() -> System:
    # Above the critical point and far from freezing: one phase at every temperature and pressure that is tried.
    def start(replicas: int) -> list[Atoms]:
        crystal = bulk("Ar", "fcc", a=6.0, cubic=True) * (2, 2, 2)
        settings = Settings(ensemble="nvt", temperature=400.0, timestep=4.0, seed=10**6, watchdog=CALM)
        simulation = Simulation([crystal] * replicas, LennardJones(), settings)  # type: ignore[arg-type]
        for _ in range(500):
            simulation.step()
        molten = [simulation.current_atoms(k) for k in range(replicas)]
        for atoms in molten:
            del atoms.arrays["momenta"]
        return molten

    cases = (
        *((method, "", 4000) for method in THERMOSTATS),
        ("martyna_tobias_klein", "isotropic", 5000),
        ("cell_rescaling", "isotropic", 30_000),
    )
    # The bulk modulus is what volumes fluctuate by here: a larger one would let them relax more slowly.
    return System(start, lambda _: LennardJones(), cases, 150.0, 0.06, {"timestep": 8.0, "bulk_modulus": 0.17})


def argon_crystal() -> System:
    crystal = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    cases = (("martyna_tobias_klein", "full", 3000), ("cell_rescaling", "full", 10_000))
    return System(lambda n: [crystal] * n, lambda _: LennardJones(), cases, 50.0, 0.02, {"timestep": 8.0, "bulk_modulus": 3.0})


def silicon() -> System:
    crystal = bulk("Si", a=5.469, cubic=True)
    cells = ("isotropic", "full")
    cases = (
        ("langevin", "", 4000),
        ("velocity_rescaling", "", 4000),
        # Modes of a crystal of eight atoms hardly mix, and the chains leave that to them.
        ("nose_hoover", "", 12_000),
        *(("cell_rescaling", cell, 6000) for cell in cells),
        *(("martyna_tobias_klein", cell, 8000) for cell in cells),
    )
    # Times as short as a small cell allows, as every step costs.
    settings = {"timestep": 2.0, "bulk_modulus": 84.0, "thermostat_time": 50.0, "barostat_time": 400.0}
    potential = load_potential(POTENTIALS / "silicon" / "potential.safetensors")
    return System(lambda n: [crystal] * n, lambda _: potential, cases, 1000.0, 0.0, settings)


SYSTEMS = {
    "ideal gas": ideal_gas,
    "Einstein crystal": einstein_crystal,
    "fluid argon": fluid_argon,
    "argon crystal": argon_crystal,
    "silicon": silicon,
}


INTERVAL = 10
"""Steps between samples; stochastic cell rescaling moves the cell as often."""


def run(system: System, method: str, cell: str, steps: int, temperature: float, pressure: float, seed: int) -> tuple[np.ndarray, int]:
    """Run replicas side by side; return kinetic and potential energy and volume [3, n_samples], independent, and degrees of freedom."""
    asked = {**system.settings, "steps": steps, "temperature": temperature, "pressure": pressure, "cell": cell or "isotropic", "seed": seed}
    used = {key: value for key, value in asked.items() if method in USERS.get(key, (method,))}
    settings = Settings(ensemble="npt" if method in BAROSTATS else "nvt", method=method, watchdog=CALM, **used)
    replicas = [atoms.copy() for atoms in system.atoms(system.replicas)]
    for number, atoms in enumerate(replicas):
        # The integrators take a momentum that is zero at the start for one that the potential conserves.
        if not system.conserves_momentum:
            atoms.set_velocities(draw_velocities(atoms, temperature, seed + number, at_rest=False))
    simulation = Simulation(replicas, system.potential(replicas), settings)  # type: ignore[arg-type]
    if not system.has_pairs:
        simulation.force_function.neighbors = NoPairs()  # type: ignore[assignment]
    seen = []
    for number in range(1, steps + 1):
        state = simulation.step()
        if number > steps // 5 and number % INTERVAL == 0:
            seen.append(torch.stack([state.kinetic_energy, state.potential_energy, state.volume]).numpy())
    return independent(np.array(seen)), int(simulation.degrees_of_freedom[0])


def independent(series: np.ndarray) -> np.ndarray:
    """Thin series [n_times, n_quantities, n_replicas] until nothing is correlated; return [n_quantities, n_samples], replica by replica."""
    together = series.transpose(1, 2, 0)
    # Replicas on end: their common mean shows correlation longer than a run. The sum of correlations ends where they fall to zero; of
    # energies that oscillate, as under a deterministic thermostat, more follows, which the scatter between replicas shows.
    inefficiency = max(max(statistical_inefficiency(values.ravel()), _between_replicas(values)) for values in together)
    # Samples as far apart as one such sum still have exp(-2) in common where correlation decays exponentially; twice as far, 2 %.
    stride = math.ceil(2 * inefficiency) if inefficiency > 1 else 1
    return together[:, :, ::stride].reshape(len(together), -1)


def _between_replicas(values: np.ndarray) -> float:
    """Return how many times more the means and variances of replicas [n_replicas, n_times] scatter than those of independent samples."""

    def excess(quantity: np.ndarray) -> float:
        scatter = float(quantity.var())
        return quantity.shape[1] * float(quantity.mean(axis=1).var(ddof=1)) / scatter if scatter > 0 else 1.0

    return max(excess(values), excess(np.square(values - values.mean())))


def data_of(
    samples: np.ndarray, n_freedom: int, n_atoms: int, barostat: bool, temperature: float, pressure: float
) -> pv.data.SimulationData:
    kinetic, potential, volume = samples
    conditions = {"pressure": pressure * GIGAPASCAL} if barostat else {"volume": float(volume[0])}
    return pv.data.SimulationData(
        units=UNITS,
        ensemble=pv.data.EnsembleData("NPT" if barostat else "NVT", natoms=n_atoms, temperature=temperature, **conditions),
        system=pv.data.SystemData(natoms=n_atoms, nconstraints=0, ndof_reduction_tra=3 * n_atoms - n_freedom, ndof_reduction_rot=0),
        observables=pv.data.ObservableData(
            kinetic_energy=kinetic, potential_energy=potential, total_energy=kinetic + potential, volume=volume
        ),
    )


def validate(system: System, method: str, cell: str, steps: int) -> dict[str, float]:
    """Return the deviations of an integrator on a system, in standard errors, and the number of samples of a run.

    The second temperature and pressure lie where the package finds the best compromise between overlap and difference of
    distributions, two standard deviations apart.
    """
    barostat = method in BAROSTATS
    n_atoms = len(system.atoms(1)[0])

    def data_at(temperature: float, pressure: float, seed: int) -> pv.data.SimulationData:
        samples, n_freedom = run(system, method, cell, steps, temperature, pressure, seed)
        return data_of(samples, n_freedom, n_atoms, barostat, temperature, pressure)

    first = data_at(system.temperature, system.pressure, 0)
    mean, width = pv.kinetic_energy.distribution(first, verbosity=0, bootstrap_seed=0, data_is_uncorrelated=True)
    found = {"samples": len(first.observables.kinetic_energy), "kinetic mean": mean, "kinetic width": width}
    if barostat or system.has_energy:
        # It also looks for a pair of temperature and pressure, of which an ideal gas has none.
        with np.errstate(divide="ignore"):
            apart = pv.ensemble.estimate_interval(first, verbosity=0, data_is_uncorrelated=True)
        others = {"two temperatures": (system.temperature + apart["dT"], system.pressure)}
        if barostat:
            others["two pressures"] = (system.temperature, system.pressure + apart["dP"] / GIGAPASCAL)
        for number, (name, point) in enumerate(others.items(), start=1):
            second = data_at(*point, 1000 * number)
            found[name] = pv.ensemble.check(first, second, verbosity=0, data_is_uncorrelated=True)[0]
    return {name: abs(value) for name, value in found.items()}


def tabulate(names: Sequence[str], integrators: Sequence[str], keep: bool) -> None:
    columns = ("samples", "kinetic mean", "kinetic width", "two temperatures", "two pressures")
    table, deviations = Table("ensembles", keep), []
    for name in names:
        system = SYSTEMS[name]()
        for method, cell, steps in (case for case in system.cases if case[0] in integrators):
            started = time.process_time()
            found = validate(system, method, cell, steps)
            deviations += [found[column] for column in columns[1:] if column in found]
            cells = {column: f"{found[column]:.2f}" if column in found else None for column in columns[1:]}
            effort = {"CPU s": round(time.process_time() - started)}
            table.add({"system": name, "integrator": f"`{method}`", "cell": cell}, {"samples": int(found["samples"]), **cells, **effort})
    beyond = sum(deviation > LIMIT for deviation in deviations)
    rms = math.sqrt(np.mean(np.square(deviations)))
    print(f"\n{len(deviations)} deviations: root mean square {rms:.2f}, largest {max(deviations):.2f}, {beyond} beyond {LIMIT:g}.")


def fluctuation_ratio(atoms: Atoms, potential: object, timestep: float, temperature: float) -> float:
    """Return how much less the total energy fluctuates over 0.5 ps from one start if the time step (fs) is halved; 4 in theory."""
    atoms = atoms.copy()
    atoms.set_velocities(draw_velocities(atoms, temperature, 0, at_rest=True))
    fluctuations = []
    for divisor in (1, 2):
        simulation = Simulation(atoms, potential, Settings(timestep=timestep / divisor, watchdog=CALM))  # type: ignore[arg-type]
        energies = []
        for number in range(1, divisor * round(500 / timestep) + 1):
            state = simulation.step()
            # At the same times, or the samples of few oscillations would differ.
            if number % divisor == 0:
                energies.append(float(state.total_energy))
        fluctuations.append(np.std(energies))
    return float(fluctuations[0] / fluctuations[1])


def convergence(keep: bool) -> None:
    table = Table("convergence", keep)
    argon = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    shipped = {name: load_potential(POTENTIALS / name / "potential.safetensors", dtype="float64") for name in ("ethanol", "silicon")}
    ethanol = ase.io.read(POTENTIALS / "ethanol" / "structure.extxyz")
    for name, atoms, potential, timestep, temperature in (
        ("argon", argon, LennardJones(), 8.0, 100.0),
        ("ethanol", ethanol, shipped["ethanol"], 0.5, 300.0),
        ("silicon", bulk("Si", a=5.469, cubic=True), shipped["silicon"], 2.0, 600.0),
    ):
        ratio = fluctuation_ratio(atoms, potential, timestep, temperature)
        table.add({"system": name, "time steps, fs": f"{timestep:g}, {timestep / 2:g}"}, {"ratio of fluctuations": f"{ratio:.3f}"})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--systems", nargs="+", choices=SYSTEMS, default=[name for name in SYSTEMS if name != "silicon"])
    parser.add_argument("--integrators", nargs="+", choices=(*THERMOSTATS, *BAROSTATS), default=(*THERMOSTATS, *BAROSTATS))
    parser.add_argument("--convergence", action="store_true")
    parser.add_argument("--keep", action="store_true", help="put the rows into docs/measured.jsonl")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    if arguments.convergence:
        convergence(arguments.keep)
    else:
        tabulate(arguments.systems, arguments.integrators, arguments.keep)


if __name__ == "__main__":
    main()
