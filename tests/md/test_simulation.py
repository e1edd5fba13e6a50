"""`Simulation`: what it starts from, what it refuses, and that systems do not feel each other; A26, A29, A31."""

import math

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.build import bulk
from ase.constraints import FixAtoms, FixBondLengths
from ase.md.verlet import VelocityVerlet

from eqpot import EqpotCalculator, load_potential
from eqpot.errors import ConfigError, NeighborError, SimulationError, UnknownElementError
from eqpot.graph import collate
from eqpot.md import Settings, Simulation
from eqpot.md.forces import PotentialForces, bytes_per_edge, split
from eqpot.md.integrators import conditions_at
from eqpot.md.velocities import conserved_degrees_of_freedom, draw_velocities
from eqpot.neighbors import build_graph
from eqpot.units import GIGAPASCAL
from helpers import ROOT, SMALL, crystal, ethanol, random_potential

METHODS = (
    ("nve", None),
    ("nvt", "langevin"),
    ("nvt", "velocity_rescaling"),
    ("nvt", "nose_hoover"),
    ("npt", "cell_rescaling"),
    ("npt", "martyna_tobias_klein"),
)


CALM = {"min_distance": 0.0, "max_temperature": 1e9, "max_drift": 1e9}
"""For networks that were never trained."""


@pytest.fixture(scope="module")
def silicon():
    return load_potential(ROOT / "potentials" / "silicon" / "potential.safetensors")


def spinning(atoms, velocity=0.01):
    atoms = atoms.copy()
    arms = atoms.positions - atoms.get_center_of_mass()
    atoms.set_velocities(draw_velocities(atoms, 300.0, seed=0, at_rest=True) + np.cross([0, velocity, 0], arms))
    return atoms


def heating(temperatures):
    return [{"time": 0.0, "temperature": temperatures}, {"time": 0.02, "temperature": 700.0}]


@pytest.mark.parametrize(("ensemble", "method"), METHODS)
def test_a_system_moves_among_others_as_it_does_alone(silicon, ensemble, method):
    systems = [bulk("Si", cubic=True), bulk("Si", cubic=True) * (2, 1, 1), bulk("Si", cubic=True)]
    common = {"ensemble": ensemble, "method": method, "timestep": 1.0, "steps": 50}
    temperatures, pressures = [300.0, 900.0, 600.0], [0.0, 1.0, -1.0]

    def settings(which):
        held = {"cell": "full", "pressure": np.array(pressures)[which].tolist()} if ensemble == "npt" else {}
        seed = 7 if which == slice(None) else 7 + which
        return Settings(**common, **held, seed=seed, schedule=heating(np.array(temperatures)[which].tolist()))

    together = Simulation(systems, silicon, settings(slice(None)))
    alone = [Simulation(system, silicon, settings(k)) for k, system in enumerate(systems)]
    for _ in range(12):
        together.step()
        for simulation in alone:
            simulation.step()
    for name in ("positions", "velocities", "cells", "conserved_energy"):
        assert torch.equal(getattr(together.state, name), torch.cat([getattr(simulation.state, name) for simulation in alone])), name
    assert together.thermo() == [{"system": k, **simulation.thermo()[0]} for k, simulation in enumerate(alone)]


def test_evaluating_some_systems_at_a_time_changes_nothing(silicon):
    systems = [bulk("Si", cubic=True) * (1 + k % 2, 1, 1) for k in range(5)]
    for k, system in enumerate(systems):
        system.rattle(0.05, seed=k)
    graph = collate([build_graph(system, silicon.cutoff) for system in systems])
    whole = silicon.evaluate(graph)
    for n_edges in (1, 700, 10**9):
        parts = split(graph, n_edges)
        assert len(parts) == {1: 5, 700: 3, 10**9: 1}[n_edges]
        for name in ("energy", "forces", "stress"):
            assert torch.equal(torch.cat([silicon.evaluate(part)[name] for part in parts]), whole[name])


def test_little_memory_is_a_smaller_batch(silicon, monkeypatch):
    eager = load_potential(ROOT / "potentials" / "silicon" / "potential.safetensors")
    eager.kernel_choice = None
    systems = [bulk("Si", cubic=True)] * 4
    whole, sizes = Simulation(systems, eager, Settings(seed=0, steps=3)), []
    original = eager.evaluate
    monkeypatch.setattr(eager, "evaluate", lambda graph: sizes.append(graph.n_structures) or original(graph))
    # 224 edges a system.
    monkeypatch.setattr("eqpot.md.forces.free_memory", lambda device: 2 * 500 * bytes_per_edge(eager))
    parts = Simulation(systems, eager, Settings(seed=0, steps=3))
    assert sizes == [2, 2]
    assert torch.equal(parts.state.forces, whole.state.forces)
    assert bytes_per_edge(eager) == pytest.approx(43_000, rel=0.2)


def test_trajectory_equals_that_of_ase(model_path):
    atoms = spinning(ethanol())
    simulation = Simulation(atoms, load_potential(model_path), Settings(timestep=0.5, watchdog=CALM))
    atoms.calc = EqpotCalculator(model_path, dtype="float64")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    for _ in range(100):
        simulation.step()
    dynamics.run(100)
    np.testing.assert_allclose(simulation.state.positions.numpy(), atoms.positions, atol=1e-10)
    np.testing.assert_allclose(simulation.state.velocities.numpy(), atoms.get_velocities(), atol=1e-10)
    assert float(simulation.state.potential_energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)
    current = simulation.current_atoms()
    np.testing.assert_allclose(current.get_forces(), atoms.get_forces(), atol=1e-9)
    assert current.info == {"step": 100, "time_fs": 50.0}


def test_pressure_and_stress_are_those_of_ase(silicon):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=0)
    simulation = Simulation(atoms, silicon, Settings(temperature=800.0, seed=0))
    row, current = simulation.thermo()[0], simulation.current_atoms()
    expected = -current.get_stress(include_ideal_gas=True)[:3].mean() / GIGAPASCAL
    assert row["pressure_gpa"] == pytest.approx(expected, rel=1e-9)
    assert row["volume_ang3"] == pytest.approx(atoms.get_volume(), rel=1e-12)
    assert (
        "pressure_gpa"
        not in Simulation(ethanol(), load_potential(ROOT / "potentials/ethanol/potential.safetensors"), Settings()).thermo()[0]
    )


def test_pressures_are_told_where_all_systems_are_crystals(model_path):
    potential, settings = load_potential(model_path), Settings(watchdog=CALM)
    repeated = crystal().repeat(2)
    assert all("pressure_gpa" in row for row in Simulation([repeated, repeated], potential, settings).thermo())
    assert not any("pressure_gpa" in row for row in Simulation([repeated, ethanol()], potential, settings).thermo())


def test_masses_of_the_structure_are_those_that_move(model_path):
    atoms = ethanol()
    masses = np.linspace(2.0, 14.0, 9)
    atoms.set_masses(masses)
    simulation = Simulation(atoms, load_potential(model_path), Settings(temperature=250.0))
    np.testing.assert_array_equal(simulation.state.masses[:, 0].numpy(), masses)
    np.testing.assert_array_equal(simulation.current_atoms().get_masses(), masses)
    assert simulation.thermo()[0]["temperature_k"] == pytest.approx(250.0)


def test_momentum_and_angular_momentum_are_conserved(model_path):
    simulation = Simulation(spinning(ethanol()), load_potential(model_path), Settings(watchdog=CALM))
    before = simulation.state.angular_momentum()
    for _ in range(200):
        simulation.step()
    after = simulation.state.angular_momentum()
    assert float((after - before).norm() / before.norm()) < 1e-8


@pytest.mark.parametrize(("ensemble", "method"), METHODS[:4])
def test_drawn_velocities_have_the_temperature_and_no_drift_where_it_would_stay(model_path, ensemble, method):
    potential = load_potential(model_path)
    settings = Settings(ensemble=ensemble, method=method, temperature=250.0, seed=5)
    for atoms, conserved in ((ethanol(), 6), (crystal().repeat((2, 2, 1)), 3)):
        simulation = Simulation(atoms, potential, settings)
        is_free = method == "langevin"
        assert int(simulation.degrees_of_freedom) == 3 * len(atoms) - (0 if is_free else conserved)
        assert simulation.thermo()[0]["temperature_k"] == pytest.approx(250.0, rel=1e-6)
        momentum = (simulation.state.masses * simulation.state.velocities).sum(dim=0)
        assert (float(momentum.abs().max()) < 1e-10) != is_free
        if conserved == 6 and not is_free:
            assert float(simulation.state.angular_momentum().abs().max()) < 1e-8
    again = Simulation(ethanol(), potential, settings.model_copy(update={"seed": 6}))
    assert not torch.equal(again.state.velocities, Simulation(ethanol(), potential, settings).state.velocities)


def test_degrees_of_freedom():
    assert conserved_degrees_of_freedom(Atoms("H")) == 0
    assert conserved_degrees_of_freedom(Atoms("H2", [[0, 0, 0], [0, 0, 1]])) == 1
    assert conserved_degrees_of_freedom(Atoms("CO2", [[0, 0, 0], [0, 0, 1], [0, 0, -1]])) == 4
    assert conserved_degrees_of_freedom(ethanol()) == 21
    assert conserved_degrees_of_freedom(crystal()) == 3
    # What is periodic in some direction cannot turn.
    assert conserved_degrees_of_freedom(crystal(pbc=[True, True, False])) == 3


def test_motion_of_the_whole_counts_where_there_is_some(model_path):
    potential = load_potential(model_path)
    still, turning = spinning(ethanol(), 0.0), spinning(ethanol())
    moving = turning.copy()
    moving.set_velocities(turning.get_velocities() + np.array([0.01, 0, 0]))
    for atoms, expected in ((still, 21), (turning, 24), (moving, 27)):
        assert int(Simulation(atoms, potential, Settings()).degrees_of_freedom) == expected
        assert int(Simulation(atoms, potential, Settings(ensemble="nvt")).degrees_of_freedom) == 27


def test_velocities_of_a_file_rest_as_far_as_its_digits_say(tmp_path, model_path):
    ase.io.write(tmp_path / "start.extxyz", spinning(ethanol(), 0.0))
    atoms = ase.io.read(tmp_path / "start.extxyz")
    assert abs(atoms.get_momenta().sum(axis=0)).max() > 1e-9
    assert int(Simulation(atoms, load_potential(model_path), Settings()).degrees_of_freedom) == 21


@pytest.mark.parametrize(("ensemble", "method"), METHODS[:4])
def test_atoms_that_are_held_stay(silicon, ensemble, method):
    atoms = bulk("Si", cubic=True) * (2, 1, 1)
    atoms.set_constraint(FixAtoms(range(4)))
    simulation = Simulation(atoms, silicon, Settings(ensemble=ensemble, method=method, temperature=500.0, seed=1))
    assert int(simulation.degrees_of_freedom) == 36
    assert simulation.thermo()[0]["temperature_k"] == pytest.approx(500.0)
    for _ in range(5):
        simulation.step()
    moved = np.abs(simulation.current_atoms().positions - atoms.positions).max(axis=1)
    assert moved[:4].max() == 0
    assert moved[4:].min() > 0


@pytest.mark.parametrize("n_edges", [None, 1])
def test_atoms_that_are_held_show_no_force_whether_or_not_all_systems_go_together(silicon, n_edges):
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=0)
    atoms.set_constraint(FixAtoms([3]))
    simulation = Simulation([atoms, atoms], silicon, Settings(seed=0))
    simulation.force_function._limit = n_edges
    forces = simulation.step().forces.reshape(2, 8, 3).abs().amax(dim=2)
    assert (forces == 0).tolist() == [[atom == 3 for atom in range(8)]] * 2


def test_runs_draw_their_own_seed(model_path):
    potential = load_potential(model_path)
    seeds = [Simulation(ethanol(), potential, Settings(ensemble="nvt")).settings.seed for _ in range(2)]
    assert seeds[0] != seeds[1]


def test_schedules_are_linear_between_their_points():
    points = [
        {"time": 0.01, "temperature": [100.0, 300.0]},
        {"time": 0.03, "temperature": 500.0, "pressure": 1.0},
        {"time": 0.05, "pressure": 3.0},
    ]
    settings = Settings(timestep=1.0, schedule=points, temperature=7.0, pressure=7.0, ensemble="nvt")
    freedom = torch.tensor([3, 3])
    for step, temperatures, pressure in (
        (0, [100, 300], 1),
        (20, [300, 400], 1),
        (30, [500, 500], 1),
        (40, [500, 500], 2),
        (90, [500, 500], 3),
    ):
        conditions = conditions_at(settings, step, freedom)
        assert conditions.temperature.tolist() == pytest.approx(temperatures)
        assert conditions.pressure.tolist() == pytest.approx([pressure * GIGAPASCAL] * 2)


def test_a_step_holds_what_the_schedule_says_at_its_start(model_path):
    schedule = [{"time": 0.0, "temperature": 100.0}, {"time": 0.002, "temperature": 500.0}]
    simulation = Simulation(ethanol(), load_potential(model_path), Settings(ensemble="nvt", schedule=schedule, seed=0, watchdog=CALM))
    held = []
    for _ in range(5):
        held.append(float(simulation.conditions.temperature))
        simulation.step()
    assert held == pytest.approx([100, 200, 300, 400, 500])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ensemble": "nvp"}, "nvt"),
        ({"ensemble": "nve", "method": "langevin"}, "langevin does not integrate nve; use velocity_verlet"),
        ({"timestep": 20.0}, "10"),
        ({"timestep": 0.0}, "greater than 0"),
        ({"timestep": math.nan}, "finite"),
        ({"temperature": -1.0}, "must not be negative"),
        ({"schedule": [{"time": 1, "temperature": [3.0, -1.0]}]}, "must not be negative"),
        ({"schedule": [{"time": 1, "temperature": 3.0}, {"time": 1, "temperature": 4.0}]}, "later than the one before"),
        ({"schedule": [{"time": 1, "temperatures": 3.0}]}, "temperature"),
        ({"pressure": 101325.0}, "give it in GPa"),
        ({"ensemble": "npt", "method": "martyna_tobias_klein", "temperature": 0.0}, "a temperature is 0 K.*use cell_rescaling"),
        ({"friction": -1.0}, "friction is -1.0, and should be greater than or equal to 0"),
        ({"temperature": "300K"}, r": temperature is '300K', and should be a valid number\.$"),
        ({"temperature": [300, "a"]}, r": temperature.1 is 'a', and should be a valid number\.$"),
        ({"seed": 1.5}, r": seed is 1.5, and should be a valid integer\.$"),
        ({"interval": 0}, "1"),
        ({"seed": -1}, "seed"),
        ({"temperatures": 3}, "temperature"),
    ],
)
def test_a29_settings_that_cannot_be_meant_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ensemble": "nvt", "pressure": 1.0}, r"dynamics.pressure is 1.0, and langevin \(nvt\) does not use it.*cell_rescaling \(npt\)"),
        ({"ensemble": "nve", "friction": 1.0}, r"dynamics.friction is 1.0, and velocity_verlet \(nve\) .*: langevin \(nvt\)"),
        ({"ensemble": "nvt", "thermostat_time": 50.0}, "dynamics.thermostat_time"),
        ({"ensemble": "npt", "method": "martyna_tobias_klein", "bulk_modulus": 50.0}, "dynamics.bulk_modulus"),
        ({"ensemble": "nvt", "cell": "full"}, "dynamics.cell"),
    ],
)
def test_keys_that_the_integrator_does_not_use_are_refused(arguments, message, model_path):
    with pytest.raises(ConfigError, match=message):
        Simulation(ethanol(), load_potential(model_path), Settings(**arguments))


def test_keys_that_are_used_or_defaults_are_kept():
    for ensemble, method in METHODS:
        # What a run folder holds: every key.
        Settings(**Settings(ensemble=ensemble, method=method, temperature=500.0).model_dump()).check_used()
    Settings(ensemble="npt", pressure=1.0, cell="full", thermostat_time=50.0, barostat_time=500.0, bulk_modulus=50.0).check_used()


def test_a_name_for_a_potential_is_refused():
    with pytest.raises(ConfigError, match=r"give what eqpot.load_potential\('silicon'\) returns"):
        Simulation(bulk("Si"), "silicon", Settings())


def test_lists_must_have_one_value_for_each_system(model_path):
    with pytest.raises(ConfigError, match="temperature lists 2 values for 3 systems"):
        Simulation([ethanol()] * 3, load_potential(model_path), Settings(temperature=[1.0, 2.0]))
    with pytest.raises(ConfigError, match="seed lists 2 values for 1 system;"):
        Simulation(ethanol(), load_potential(model_path), Settings(seed=[1, 2]))


def test_a31_bad_structures_are_found_before_the_first_step(model_path, silicon):
    potential = load_potential(model_path)
    with pytest.raises(NeighborError, match="on top of each other"):
        Simulation(Atoms("H2", [[0, 0, 0], [0, 0, 0.02]]), potential, Settings())
    with pytest.raises(UnknownElementError, match="Fe"):
        Simulation(Atoms("Fe"), potential, Settings())
    bond = FixBondLengths([[0, 1]])
    for atoms, message in (
        ([], "no structure"),
        (Atoms(), "no atoms"),
        ([ethanol(), Atoms()], "of system 1 has no atoms"),
        (Atoms("O2", [[0, 0, 0], [0, 0, 1]], constraint=bond), "FixBondLengths"),
        (Atoms("O2", [[0, 0, 0], [0, 0, np.nan]]), "NaN"),
        (Atoms("O2", [[0, 0, 0], [0, 0, 1]], masses=[16, 0]), "Atom 1 has no positive mass"),
        (Atoms("O2", [[0, 0, 0], [0, 0, 1]], momenta=[[0, 0, 0], [0, 0, np.inf]]), "NaN or infinity"),
    ):
        with pytest.raises(SimulationError, match=message):
            Simulation(atoms, potential, Settings())
    slab, held = bulk("Si", cubic=True), bulk("Si", cubic=True)
    slab.pbc = [True, True, False]
    held.set_constraint(FixAtoms([0]))
    for atoms, message in ((slab, "not periodic in three directions"), (held, "holds atoms fixed")):
        with pytest.raises(SimulationError, match=message):
            Simulation(atoms, silicon, Settings(ensemble="npt"))
    held.set_constraint(FixAtoms([]))
    Simulation(held, silicon, Settings(ensemble="npt"))
    alone = Atoms("Si", cell=[[2, 2, 0], [0, 2, 2], [2, 0, 2]], pbc=True)
    with pytest.raises(SimulationError, match="of system 1 has one atom.*use cell_rescaling"):
        Simulation([held, alone], silicon, Settings(ensemble="npt", method="martyna_tobias_klein"))


def test_a_step_that_fails_leaves_the_state(model_path, monkeypatch):
    simulation = Simulation([ethanol(), ethanol()], load_potential(model_path), Settings(seed=0))
    before, original = simulation.state, PotentialForces.__call__

    def failing(self, positions, cells):
        energy, forces, stress = original(self, positions, cells)
        return energy * torch.tensor([1.0, math.nan]), forces, stress

    monkeypatch.setattr(PotentialForces, "__call__", failing)
    with pytest.raises(SimulationError, match="In step 1, system 1: the energy is not finite"):
        simulation.step()
    assert simulation.state is before


def test_a_committee_that_disagrees_is_told_or_stops(model_path, caplog):
    potential, other = load_potential(model_path), load_potential(model_path)
    with torch.no_grad():
        other.network.embedding.weight.add_(0.1)
    with pytest.raises(ConfigError, match="max_force_deviation"):
        Simulation(ethanol(), potential, Settings(), committee=[other])
    longer = random_potential(config=SMALL.model_copy(update={"cutoff": 5.0}))
    with pytest.raises(ConfigError, match="different cutoffs"):
        Simulation(ethanol(), potential, Settings(watchdog={"max_force_deviation": 1.0}), committee=[other, longer])
    Simulation(ethanol(), potential, Settings(watchdog={**CALM, "max_force_deviation": 1e-9}), committee=[other])
    assert "is uncertain by" in caplog.text
    caplog.clear()
    stop = {**CALM, "max_force_deviation": 1e-9, "on_extrapolation": "stop"}
    with pytest.raises(SimulationError, match="extrapolates"):
        Simulation(ethanol(), potential, Settings(watchdog=stop), committee=[other])
    Simulation(ethanol(), potential, Settings(watchdog=stop), committee=[load_potential(model_path)])
    assert not caplog.text
