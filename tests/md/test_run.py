"""Runs on disk: what they write, and how they go on; test_kills.py kills them."""

import csv
import json
import math

import ase.io
import numpy as np
import pytest
import yaml
from ase.build import bulk
from ase.constraints import FixAtoms

from eqpot import load_potential
from eqpot.errors import ConfigError, SimulationError
from eqpot.md import Settings, Simulation, resume_run, start_run
from eqpot.md.forces import PotentialForces
from eqpot.md.run import summarize
from eqpot.observables import read_thermo, read_trajectory
from helpers import ROOT, SMALL, ethanol, random_potential

SILICON = ROOT / "potentials" / "silicon" / "potential.safetensors"


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_run_writes_what_it_promises(tmp_path, model_path):
    settings = Settings(ensemble="nvt", interval=4, temperature=300.0, steps=10)
    reports = []
    simulation = Simulation(ethanol(), load_potential(model_path), settings)
    summary = start_run(simulation, tmp_path / "run").run(reports.append)
    with (tmp_path / "run" / "thermo.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["0", "4", "8"]
    assert float(rows[-1]["time_fs"]) == 4.0
    trajectory = ase.io.read(tmp_path / "run" / "trajectory.extxyz", ":")
    assert [atoms.info["step"] for atoms in trajectory] == [0, 4, 8]
    final = ase.io.read(tmp_path / "run" / "final.extxyz")
    np.testing.assert_allclose(final.positions, simulation.state.positions.numpy(), atol=1e-7)
    np.testing.assert_allclose(final.get_velocities(), simulation.state.velocities.numpy(), atol=1e-7)
    assert final.get_potential_energy() == pytest.approx(float(simulation.state.potential_energy))
    assert json.loads((tmp_path / "run" / "summary.json").read_text()) == summary
    assert yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())["dynamics"]["seed"] == settings.seed == summary["seed"]
    assert len(reports) == 2
    assert summary["steps"] == 10
    drift = np.polyfit([float(row["time_fs"]) for row in rows], [float(row["conserved_energy_ev"]) for row in rows], 1)[0] * 1e6 / 9
    assert summary["energy_drift_mev_per_atom_per_ps"] == pytest.approx(drift, rel=1e-6)


def test_the_drift_of_many_systems_is_the_largest_up_or_down(tmp_path, model_path):
    simulation = Simulation([ethanol()] * 2, load_potential(model_path), Settings())
    rows = [f"{system},{time},300,{slope * time}" for time in (0, 10, 20) for system, slope in enumerate((0.009, -0.018))]
    (tmp_path / "thermo.csv").write_text("\n".join(["system,time_fs,temperature_k,conserved_energy_ev", *rows]))
    summary = summarize(tmp_path, simulation)
    assert summary["energy_drift_mev_per_atom_per_ps"] == pytest.approx(-2000.0)
    assert summary["energy_fluctuation_mev_per_atom"] == pytest.approx(0.0, abs=1e-9)


def test_callbacks_are_called_every_so_many_steps(tmp_path, model_path):
    seen = []
    simulation = Simulation(ethanol(), load_potential(model_path), Settings(steps=7))
    start_run(simulation, tmp_path / "run").run(callbacks=[(3, lambda simulation: seen.append(simulation.state.step))])
    assert seen == [3, 6]


def test_a_run_that_is_shorter_than_the_interval_of_frames_is_warned_of(tmp_path, model_path, caplog):
    start_run(Simulation(ethanol(), load_potential(model_path), Settings(steps=20, interval=20)), tmp_path / "run")
    assert not caplog.text
    start_run(Simulation(ethanol(), load_potential(model_path), Settings(steps=20, interval=30)), tmp_path / "other")
    assert "interval is 30, and the run has 20 steps" in caplog.text


def test_existing_results_are_left_alone(tmp_path, model_path):
    simulation = Simulation(ethanol(), load_potential(model_path), Settings())
    with pytest.raises(ConfigError, match="exists"):
        start_run(simulation, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "method", ["velocity_verlet", "langevin", "velocity_rescaling", "nose_hoover", "cell_rescaling", "martyna_tobias_klein"]
)
def test_a33_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path, method):
    potential = load_potential(SILICON)
    ensemble = {"velocity_verlet": "nve", "cell_rescaling": "npt", "martyna_tobias_klein": "npt"}.get(method, "nvt")
    settings = Settings(
        ensemble=ensemble,
        method=method,
        timestep=1.0,
        schedule=[{"time": 0, "temperature": 600.0}, {"time": 0.02, "temperature": 900.0}],
        **({"cell": "full"} if ensemble == "npt" else {}),
        steps=24,
        interval=5,
        seed=2,
    )
    systems = [bulk("Si", cubic=True), bulk("Si", cubic=True)]
    systems[1].set_masses([30.0] * 8)
    formats = ("extxyz", "traj")
    start_run(Simulation(systems, potential, settings), tmp_path / "whole", formats).run()
    run = start_run(Simulation(systems, potential, settings), tmp_path / "parts", formats)
    for stop in (7, 10, 13):

        def interrupt(simulation, run=run, stop=stop):
            run.stop_requested = simulation.state.step == stop

        assert run.run(callbacks=[(1, interrupt)]) is None
        run = resume_run(tmp_path / "parts", potential)
    assert run.run() is not None
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_a33_atoms_that_are_held_are_held_in_a_resumed_run(tmp_path, model_path):
    atoms, potential = ethanol(), load_potential(model_path)
    atoms.set_constraint(FixAtoms([2]))
    simulations = [Simulation(atoms, potential, Settings(ensemble="nvt", steps=8, interval=2, seed=0)) for _ in range(2)]
    start_run(simulations[0], tmp_path / "whole").run()
    run = start_run(simulations[1], tmp_path / "parts")

    def interrupt(simulation):
        run.stop_requested = simulation.state.step == 3

    assert run.run(callbacks=[(1, interrupt)]) is None
    resume_run(tmp_path / "parts", potential).run()
    assert contents(tmp_path / "parts") == contents(tmp_path / "whole")


def test_more_steps_than_before(tmp_path, model_path):
    potential = load_potential(model_path)
    settings = Settings(steps=12, seed=0, ensemble="nvt", interval=4)
    start_run(Simulation(ethanol(), potential, settings), tmp_path / "short").run()
    longer = settings.model_copy(update={"steps": 20})
    assert resume_run(tmp_path / "short", potential, longer).run()["steps"] == 20
    start_run(Simulation(ethanol(), potential, longer), tmp_path / "long").run()
    short, long = contents(tmp_path / "short"), contents(tmp_path / "long")
    assert {name for name in long if short[name] != long[name]} == {"config.yaml"}


def test_a_resumed_run_has_its_settings_and_its_potential(tmp_path, model_path):
    potential = load_potential(model_path)
    start_run(Simulation(ethanol(), potential, Settings(steps=4, seed=0)), tmp_path / "run").run()
    with pytest.raises(ConfigError, match="temperature: 300.0 -> 400.0"):
        resume_run(tmp_path / "run", potential, Settings(steps=4, seed=0, temperature=400.0))
    with pytest.raises(ConfigError, match="another potential"):
        resume_run(tmp_path / "run", load_potential(SILICON))
    shifted = load_potential(model_path)
    shifted.reference_energies.add_(1.0)
    with pytest.raises(ConfigError, match="another potential"):
        resume_run(tmp_path / "run", shifted)
    with pytest.raises(ConfigError, match="another potential"):
        resume_run(tmp_path / "run", random_potential(config=SMALL.model_copy(update={"cutoff": 4.5})))
    with pytest.raises(ConfigError, match="no restart file"):
        resume_run(tmp_path / "none", potential)


def test_a30_a_run_that_blows_up_keeps_its_last_good_frame(tmp_path, model_path, monkeypatch):
    simulation = Simulation(ethanol(), load_potential(model_path), Settings(interval=1, steps=10, seed=0, watchdog={"interval": 2}))
    run, original = start_run(simulation, tmp_path / "run"), PotentialForces.__call__

    def failing(self, positions, cells):
        energy, forces, stress = original(self, positions, cells)
        return (energy * math.nan, forces, stress) if simulation.state.step == 3 else (energy, forces, stress)

    monkeypatch.setattr(PotentialForces, "__call__", failing)
    with pytest.raises(SimulationError, match="In step 4: the energy is not finite.*last_good.extxyz"):
        run.run()
    assert len(ase.io.read(tmp_path / "run" / "trajectory.extxyz", ":")) == 4
    assert ase.io.read(tmp_path / "run" / "last_good.extxyz").info["step"] == 2
    assert "In step 4" in (tmp_path / "run" / "stopped.txt").read_text()


def test_a_run_that_the_watchdog_stopped_says_so_again(tmp_path, caplog):
    """The restart file is that of the step before, and is sound, whatever the watchdog says of it."""
    potential = load_potential(ROOT / "potentials" / "ethanol" / "potential.safetensors")
    watchdog = {"min_trained_distance": 1.2, "interval": 5}
    settings = Settings(ensemble="nvt", timestep=4.0, steps=40, seed=0, friction=0.0, temperature=2000.0, interval=10, watchdog=watchdog)
    run = start_run(Simulation(ethanol(), potential, settings), tmp_path / "run")
    assert "the potential extrapolates" in caplog.text
    with pytest.raises(SimulationError) as stopped:
        run.run()
    stop = int(str(stopped.value).split()[2].rstrip(":"))
    assert run.simulation.state.step == stop - 1
    caplog.clear()
    resumed = resume_run(tmp_path / "run", potential)
    with pytest.raises(SimulationError) as again:
        resumed.run()
    assert str(again.value) == str(stopped.value)
    assert caplog.text == ""


def test_the_limit_of_the_temperature_is_that_of_the_start(tmp_path, model_path):
    """Without a thermostat it goes by the temperature of the first velocities, not of those at the restart."""
    atoms, potential = ethanol(), load_potential(model_path)
    atoms.set_velocities(0.2 * np.random.default_rng(0).normal(size=(9, 3)))
    calm = {"min_distance": 0.0, "max_drift": 1e9}
    run = start_run(Simulation(atoms, potential, Settings(timestep=0.1, steps=20, watchdog=calm)), tmp_path / "run")
    run.run()
    limits = run.simulation.watchdog.limits
    assert float(limits) > 1e4
    assert float(run.simulation.thermo()[0]["temperature_k"]) != pytest.approx(read_thermo(tmp_path / "run")["temperature_k"][0], rel=1e-3)
    assert resume_run(tmp_path / "run", potential).simulation.watchdog.limits.equal(limits)


def test_a_run_begins_at_a_frame(tmp_path, model_path):
    simulation = Simulation(ethanol(), load_potential(model_path), Settings(steps=20, interval=4, seed=0))
    simulation.step()
    with pytest.raises(ConfigError, match="stands at step 1, and frames are written every 4 steps"):
        start_run(simulation, tmp_path / "run")
    for _ in range(3):
        simulation.step()
    start_run(simulation, tmp_path / "run").run()
    assert read_trajectory(tmp_path / "run").times.tolist() == [2.0, 4.0, 6.0, 8.0, 10.0]
