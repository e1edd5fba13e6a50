"""Dynamics; A26, A27 (ideal gas and harmonic crystal), A29, A31."""

import csv
import json
import math

import ase.io
import numpy as np
import pytest
import torch
from ase import Atoms, units
from ase.constraints import FixAtoms
from ase.md.verlet import VelocityVerlet

from eqpot import EqpotCalculator, load_potential
from eqpot.errors import ConfigError, NeighborError, SimulationError, UnknownElementError
from eqpot.md import Settings, Simulation, nve, nvt
from eqpot.md.velocities import conserved_degrees_of_freedom, draw_velocities
from eqpot.units import BOLTZMANN, FEMTOSECOND
from helpers import crystal, ethanol

STIFFNESS = 5.0


def harmonic(positions):
    return 0.5 * STIFFNESS * positions.square().sum(), -STIFFNESS * positions


def free(positions):
    return torch.zeros((), dtype=torch.float64), torch.zeros_like(positions)


def oscillators(n=200, temperature=300.0, seed=0):
    random = np.random.default_rng(seed)
    masses = torch.full((n, 1), 12.0, dtype=torch.float64)
    positions = torch.from_numpy(random.normal(size=(n, 3))) * math.sqrt(BOLTZMANN * temperature / STIFFNESS)
    velocities = torch.from_numpy(random.normal(size=(n, 3))) * torch.sqrt(BOLTZMANN * temperature / masses)
    return nve.init(positions, velocities, masses, harmonic)


def test_a26_energy_fluctuation_scales_with_the_square_of_the_timestep():
    fluctuations = []
    for timestep, steps in ((1.0, 400), (0.5, 800)):
        state, energies = oscillators(), []
        for _ in range(steps):
            state = nve.step(state, harmonic, timestep * FEMTOSECOND)
            energies.append(float(state.total_energy))
        fluctuations.append(np.std(energies))
    assert fluctuations[0] / fluctuations[1] == pytest.approx(4.0, rel=0.05)


def test_a26_velocity_verlet_is_reversible():
    start = oscillators()
    state = start
    for sign in (1, -1):
        for _ in range(200):
            state = nve.step(state, harmonic, sign * 0.5 * FEMTOSECOND)
    torch.testing.assert_close(state.positions, start.positions, rtol=0, atol=1e-12)
    torch.testing.assert_close(state.velocities, start.velocities, rtol=0, atol=1e-12)


def test_velocity_verlet_follows_the_exact_oscillation():
    masses = torch.ones(1, 1, dtype=torch.float64)
    state = nve.init(torch.ones(1, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64), masses, harmonic)
    timestep = 0.01
    for _ in range(100):
        state = nve.step(state, harmonic, timestep)
    assert float(state.positions[0, 0]) == pytest.approx(math.cos(math.sqrt(STIFFNESS)), abs=1e-4)


@pytest.mark.parametrize("temperature", [100.0, 600.0])
def test_a27_langevin_samples_the_canonical_distribution(temperature):
    """Kinetic and potential energy of harmonic oscillators each have the mean and the variance of 3 N / 2 k_B T."""
    state = oscillators(temperature=300.0)
    kinetic, potential = [], []
    for number in range(6000):
        state = nvt.step(state, harmonic, 1.0 * FEMTOSECOND, temperature, 0.05 / FEMTOSECOND, seed=1)
        if number >= 500 and number % 10 == 0:
            kinetic.append(float(state.kinetic_energy))
            potential.append(float(state.potential_energy))
    expected = 1.5 * len(state.positions) * BOLTZMANN * temperature
    relative_width = math.sqrt(2 / (3 * len(state.positions)))
    for energies in (kinetic, potential):
        assert np.mean(energies) == pytest.approx(expected, rel=0.01)
        assert np.std(energies) / expected == pytest.approx(relative_width, rel=0.2)


def test_langevin_without_friction_is_velocity_verlet():
    a = b = oscillators()
    for _ in range(50):
        a = nve.step(a, harmonic, 0.5 * FEMTOSECOND)
        b = nvt.step(b, harmonic, 0.5 * FEMTOSECOND, 300.0, 0.0, seed=0)
    torch.testing.assert_close(a.positions, b.positions, rtol=0, atol=1e-12)


def test_langevin_conserves_its_quantity_in_a_free_gas():
    state = oscillators()
    state = nve.init(state.positions, state.velocities, state.masses, free)
    start = float(state.conserved_energy)
    for _ in range(100):
        state = nvt.step(state, free, 1.0 * FEMTOSECOND, 500.0, 0.02 / FEMTOSECOND, seed=0)
    assert abs(float(state.heat)) > 0.1
    assert float(state.conserved_energy) == pytest.approx(start, abs=1e-10)


def test_random_numbers_depend_on_seed_and_step_alone():
    draw = nvt.standard_normal
    assert torch.equal(draw((5, 3), 1, 7), draw((5, 3), 1, 7))
    assert not torch.equal(draw((5, 3), 1, 7), draw((5, 3), 1, 8))
    assert not torch.equal(draw((5, 3), 1, 7), draw((5, 3), 2, 7))
    many = torch.cat([draw((100, 3), 0, step) for step in range(300)])
    assert abs(float(many.mean())) < 0.01
    assert float(many.std()) == pytest.approx(1.0, abs=0.01)
    assert abs(float((many[:-1] * many[1:]).mean())) < 0.01


def test_trajectory_equals_that_of_ase(model_path):
    atoms = ethanol()
    atoms.set_velocities(draw_velocities(atoms, 300.0, seed=0, at_rest=True) + np.cross([0.01, 0.02, 0.0], atoms.positions))
    simulation = Simulation(atoms, load_potential(model_path), Settings("nve", timestep=0.5))
    atoms.calc = EqpotCalculator(model_path, dtype="float64")
    dynamics = VelocityVerlet(atoms, 0.5 * units.fs)
    for _ in range(100):
        simulation.step()
    dynamics.run(100)
    np.testing.assert_allclose(simulation.state.positions.numpy(), atoms.positions, atol=1e-10)
    np.testing.assert_allclose(simulation.state.velocities.numpy(), atoms.get_velocities(), atol=1e-10)
    assert float(simulation.state.potential_energy) == pytest.approx(atoms.get_potential_energy(), abs=1e-9)


def test_momentum_and_angular_momentum_are_conserved(model_path):
    atoms = ethanol()
    atoms.set_velocities(draw_velocities(atoms, 300.0, seed=0, at_rest=True) + np.cross([0.01, 0.02, 0.0], atoms.positions))
    simulation = Simulation(atoms, load_potential(model_path), Settings("nve"))
    before = simulation.state.angular_momentum()
    for _ in range(200):
        simulation.step()
    after = simulation.state.angular_momentum()
    assert float((after - before).norm() / before.norm()) < 1e-8


def test_drawn_velocities_have_the_temperature_and_no_drift(model_path):
    potential = load_potential(model_path)
    for atoms, conserved in ((ethanol(), 6), (crystal().repeat((2, 2, 1)), 3)):
        simulation = Simulation(atoms, potential, Settings("nve", temperature=250.0, seed=5))
        assert simulation.degrees_of_freedom == 3 * len(atoms) - conserved
        assert simulation.thermo()["temperature_k"] == pytest.approx(250.0, rel=1e-6)
        momentum = (simulation.state.masses * simulation.state.velocities).sum(dim=0)
        assert float(momentum.abs().max()) < 1e-10
        if conserved == 6:
            assert float(simulation.state.angular_momentum().abs().max()) < 1e-8
    again = Simulation(ethanol(), potential, Settings("nve", temperature=250.0, seed=6))
    assert again.thermo()["temperature_k"] == pytest.approx(250.0, rel=1e-6)


def test_degrees_of_freedom():
    assert conserved_degrees_of_freedom(Atoms("H")) == 0
    assert conserved_degrees_of_freedom(Atoms("H2", [[0, 0, 0], [0, 0, 1]])) == 1
    assert conserved_degrees_of_freedom(Atoms("CO2", [[0, 0, 0], [0, 0, 1], [0, 0, -1]])) == 4
    assert conserved_degrees_of_freedom(ethanol()) == 21
    assert conserved_degrees_of_freedom(crystal()) == 3


def test_motion_of_the_whole_counts_where_there_is_some(model_path):
    potential = load_potential(model_path)
    still = ethanol()
    still.set_velocities(draw_velocities(still, 300.0, seed=0, at_rest=True))
    spinning, moving = still.copy(), still.copy()
    spinning.set_velocities(still.get_velocities() + np.cross([0.0, 0.01, 0.0], still.positions - still.get_center_of_mass()))
    moving.set_velocities(spinning.get_velocities() + np.array([0.01, 0, 0]))
    for atoms, expected in ((still, 21), (spinning, 24), (moving, 27)):
        assert Simulation(atoms, potential, Settings("nve")).degrees_of_freedom == expected
        assert Simulation(atoms, potential, Settings("nvt")).degrees_of_freedom == 27


def test_a_thermostatted_run_starts_at_its_temperature_and_draws_its_own_seed(model_path):
    potential = load_potential(model_path)
    runs = [Simulation(ethanol(), potential, Settings("nvt", temperature=250.0)) for _ in range(2)]
    for run in runs:
        assert run.thermo()["temperature_k"] == pytest.approx(250.0, rel=1e-6)
    assert runs[0].settings.seed != runs[1].settings.seed


@pytest.mark.parametrize("ensemble", ["nve", "nvt"])
def test_a_run_writes_what_it_promises(tmp_path, model_path, ensemble):
    settings = Settings(ensemble, interval=4, temperature=300.0)
    reports = []
    simulation = Simulation(ethanol(), load_potential(model_path), settings)
    summary = simulation.run(10, tmp_path / "run", reports.append)
    with (tmp_path / "run" / "thermo.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "4", "8", "10"]
    assert float(rows[-1]["time_fs"]) == 5.0
    trajectory = ase.io.read(tmp_path / "run" / "trajectory.extxyz", ":")
    assert [atoms.info["step"] for atoms in trajectory] == [0, 4, 8, 10]
    final = ase.io.read(tmp_path / "run" / "final.extxyz")
    np.testing.assert_allclose(final.positions, simulation.state.positions.numpy(), atol=1e-7)
    np.testing.assert_allclose(final.get_velocities(), simulation.state.velocities.numpy(), atol=1e-7)
    assert final.get_potential_energy() == pytest.approx(float(simulation.state.potential_energy))
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert len(reports) == 4
    assert summary["steps"] == 10
    assert summary["seed"] == settings.seed
    drift = np.polyfit([float(row["time_fs"]) for row in rows], [float(row["conserved_energy_ev"]) for row in rows], 1)[0] * 1e6 / 9
    assert summary["energy_drift_mev_per_atom_per_ps"] == pytest.approx(drift, rel=1e-6)


def test_existing_results_are_left_alone(tmp_path, model_path):
    simulation = Simulation(ethanol(), load_potential(model_path), Settings())
    with pytest.raises(ConfigError, match="exists"):
        simulation.run(1, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"ensemble": "npt"}, "nve or nvt"),
        ({"timestep": 20.0}, "at most 10 fs"),
        ({"timestep": 0.0}, "above 0"),
        ({"timestep": math.nan}, "above 0"),
        ({"temperature": -1.0}, "must not be negative"),
        ({"friction": -1.0}, "must not be negative"),
        ({"interval": 0}, "1 or more"),
    ],
)
def test_a29_settings_that_cannot_be_meant_are_refused(arguments, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**arguments)


def test_a31_bad_structures_are_found_before_the_first_step(model_path):
    potential = load_potential(model_path)
    with pytest.raises(NeighborError, match="on top of each other"):
        Simulation(Atoms("H2", [[0, 0, 0], [0, 0, 0.02]]), potential, Settings())
    with pytest.raises(UnknownElementError, match="Fe"):
        Simulation(Atoms("Fe"), potential, Settings())
    for atoms, message in (
        (Atoms(), "no atoms"),
        (Atoms("O", constraint=FixAtoms([0])), "constraints"),
        (Atoms("O2", [[0, 0, 0], [0, 0, np.nan]]), "NaN"),
        (Atoms("O2", [[0, 0, 0], [0, 0, 1]], masses=[16, 0]), "Atom 1 has no positive mass"),
        (Atoms("O2", [[0, 0, 0], [0, 0, 1]], momenta=[[0, 0, 0], [0, 0, np.inf]]), "NaN or infinity"),
    ):
        with pytest.raises(SimulationError, match=message):
            Simulation(atoms, potential, Settings())


def test_a_run_that_blows_up_stops_and_keeps_its_frames(tmp_path, model_path, monkeypatch):
    simulation = Simulation(ethanol(), load_potential(model_path), Settings(interval=1))
    original = simulation.force_function

    def failing(positions):
        energy, forces = original(positions)
        return (energy * math.nan, forces) if simulation.state.step == 3 else (energy, forces)

    monkeypatch.setattr(simulation, "force_function", failing)
    with pytest.raises(SimulationError, match="after step 4"):
        simulation.run(10, tmp_path / "run")
    assert len(ase.io.read(tmp_path / "run" / "trajectory.extxyz", ":")) == 4
