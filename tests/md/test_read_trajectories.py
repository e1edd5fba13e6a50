"""Run folders and trajectories of all formats as arrays."""

import json

import ase.io
import h5py
import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk

from eqpot import load_potential
from eqpot.errors import DataError
from eqpot.md import Settings, Simulation, start_run
from eqpot.observables import Trajectory, degrees_of_freedom, read_thermo, read_trajectories, read_trajectory
from eqpot.units import BOLTZMANN, FEMTOSECOND
from helpers import ROOT, ethanol

RUN = Settings(interval=2, steps=9, seed=1, watchdog={"min_distance": 0.0, "max_temperature": 1e9})


def test_a_run_folder_is_read(tmp_path, model_path):
    settings = Settings(interval=4, temperature=300.0, seed=1, steps=18)
    simulation = Simulation(ethanol(), load_potential(model_path), settings)
    start_run(simulation, tmp_path / "run").run()
    thermo, found = read_thermo(tmp_path / "run"), read_trajectory(tmp_path / "run")
    np.testing.assert_allclose(found.times, [0, 2, 4, 6, 8])
    assert found.interval == pytest.approx(2.0)
    # Velocities are Å/fs: their kinetic energy is that of the table, 1 amu Å^2/fs^2 = 103.642697 eV.
    kinetic = 0.5 * 103.642697 * (found.masses[:, None] * found.velocities**2).sum(axis=(1, 2))
    np.testing.assert_allclose(kinetic, thermo["kinetic_energy_ev"][:5], rtol=1e-6)
    assert degrees_of_freedom(thermo) == 21
    np.testing.assert_allclose(thermo["temperature_k"], 2 * thermo["kinetic_energy_ev"] / (21 * BOLTZMANN))
    later = found.between(4.0)
    np.testing.assert_allclose(later.times, [4, 6, 8])
    np.testing.assert_array_equal(later.velocities, found.velocities[2:])
    assert abs((found.masses[:, None] * later.at_rest().positions).sum(axis=1)).max() < 1e-9
    momenta = (found.masses[:, None] * later.at_rest().velocities).sum(axis=1)
    assert abs(momenta).max() < 1e-12
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["steps"] == 18


@pytest.mark.parametrize("atoms", [ethanol(), bulk("C")])
def test_all_formats_of_a_run_say_the_same(tmp_path, model_path, atoms):
    start_run(Simulation(atoms, load_potential(model_path), RUN), tmp_path / "run", ("extxyz", "h5md"), restart_minutes=0).run()
    folder = tmp_path / "run"
    text, binary = read_trajectory(folder / "trajectory.extxyz"), read_trajectory(folder / "trajectory.h5md")
    for name in ("numbers", "masses", "pbc", "times", "cells"):
        np.testing.assert_allclose(getattr(binary, name), getattr(text, name), rtol=1e-12)
    # H5MD positions and velocities are float32.
    np.testing.assert_allclose(binary.positions, text.positions, atol=1e-6)
    np.testing.assert_allclose(binary.velocities, text.velocities, atol=1e-7)
    (folder / "trajectory.extxyz").unlink()
    np.testing.assert_array_equal(read_trajectory(folder).positions, binary.positions)
    np.testing.assert_allclose(read_trajectory(folder / "trajectory.h5md", interval=3.0).times, 3.0 * np.arange(len(binary.times)))


def test_h5md_of_other_kinds_is_refused(tmp_path):
    def write(**elements):
        path = tmp_path / "other.h5md"
        with h5py.File(path, "w") as file:
            particles = file.create_group("particles/all")
            particles.create_group("box").attrs["boundary"] = ["none"] * 3
            for name, (values, unit) in elements.items():
                particles[f"{name}/value"] = values
                particles[f"{name}/value"].attrs["unit"] = unit
                particles[f"{name}/time"] = 2.0 * np.arange(len(values))
            particles["species"] = [18, 18]
        return path

    positions = np.arange(18.0).reshape(3, 2, 3)
    found = read_trajectory(write(position=(positions, "Angstrom"), velocity=(positions[:2], "Angstrom fs-1")))
    np.testing.assert_array_equal(found.positions, positions[:2])
    np.testing.assert_allclose((found.times, found.masses), [[0, 2], [39.948, 39.948]], atol=0.01)
    assert not found.pbc.any()
    assert not found.cells.any()
    for elements, message in (
        ({"position": (positions, "nm")}, "The unit of position is 'nm'"),
        ({"velocity": (positions, "Angstrom fs-1")}, "lacks the position or the species"),
        ({"position": (positions[:0], "Angstrom")}, "has no frames"),
        ({"position": (positions * np.nan, "Angstrom")}, "NaN or infinity"),
    ):
        with pytest.raises(DataError, match=message):
            read_trajectory(write(**elements))
    with h5py.File(tmp_path / "none.h5md", "w"):
        pass
    with pytest.raises(DataError, match="has 0 groups of particles"):
        read_trajectory(tmp_path / "none.h5md")
    (tmp_path / "none.h5md").write_bytes(b"HDF")
    with pytest.raises(DataError, match="cannot be read as a trajectory"):
        read_trajectory(tmp_path / "none.h5md")


def test_tables_cut_short_and_broken_ones(tmp_path):
    table = tmp_path / "thermo.csv"
    table.write_text("step,temperature_k\n0,300.0\n1,301.0\n2")
    np.testing.assert_array_equal(read_thermo(tmp_path)["temperature_k"], [300.0, 301.0])
    for text, message in (("step,t\n", "has no rows"), ("step,t\n1,x\n", "table of numbers"), ("", "table of numbers")):
        table.write_text(text)
        with pytest.raises(DataError, match=message):
            read_thermo(tmp_path)
    with pytest.raises(DataError, match="cannot be read"):
        read_thermo(tmp_path / "nowhere")
    with pytest.raises(DataError, match="All temperatures are zero"):
        degrees_of_freedom({"temperature_k": np.zeros(3), "kinetic_energy_ev": np.zeros(3)})


def test_trajectories_that_are_none_are_one_sentence(tmp_path):
    def timed(*times, symbols="Ar2"):
        return [Atoms(symbols, np.eye(3)[:2], info={"time_fs": time}) for time in times]

    with pytest.raises(DataError, match="Frame 2 is 3 fs after the one before, others are 1 fs"):
        Trajectory.from_frames(timed(0.0, 1.0, 4.0, 5.0))
    with pytest.raises(DataError, match="Frame 2 is 1.01 fs after the one before"):
        Trajectory.from_frames(timed(0.0, 1.0, 2.01, 3.01))
    with pytest.raises(DataError, match="Frame 1 is 0 fs after"):
        Trajectory.from_frames(timed(1.0, 1.0, 1.0))
    with pytest.raises(DataError, match="has no frames"):
        Trajectory.from_frames([])
    with pytest.raises(DataError, match="atoms of frame 1 are not those of frame 0"):
        Trajectory.from_frames([*timed(0.0), *timed(1.0, symbols="Ne2")])
    with pytest.raises(DataError, match=r"Frame 0 has no `info\[\"time_fs\"\]`; give the interval"):
        Trajectory.from_frames([Atoms("Ar")])
    broken = timed(0.0, 1.0)
    broken[1].positions[0] = np.nan
    with pytest.raises(DataError, match="NaN or infinity"):
        Trajectory.from_frames(broken)
    with pytest.raises(DataError, match="one frame has no interval"):
        _ = Trajectory.from_frames(timed(0.0)).interval
    with pytest.raises(DataError, match=r"holds no trajectory\.extxyz or trajectory\.traj or trajectory\.h5md"):
        read_trajectory(tmp_path)
    (tmp_path / "trajectory.extxyz").write_text("2\n\nAr 0 0")
    with pytest.raises(DataError, match="cannot be read as a trajectory"):
        read_trajectory(tmp_path)
    (tmp_path / "trajectory.extxyz").unlink()
    ase.io.write(tmp_path / "trajectory.traj", [Atoms("Ar2", np.eye(3)[:2])] * 3)
    found = read_trajectory(tmp_path, interval=5.0)
    assert (found.interval, found.velocities) == (5.0, None)


def test_a_run_of_many_systems_is_read(tmp_path):
    settings = Settings(ensemble="nvt", temperature=[200.0, 300.0], seed=1, steps=20)
    potential = load_potential(ROOT / "potentials" / "ethanol" / "potential.safetensors")
    start_run(Simulation([ethanol(), ethanol()], potential, settings), tmp_path / "run").run()
    thermo, trajectories = read_thermo(tmp_path / "run"), read_trajectories(tmp_path / "run")
    assert thermo["temperature_k"].shape == (2, 3)
    assert "system" not in thermo
    for system, trajectory in enumerate(trajectories):
        kinetic = 0.5 * (trajectory.masses[:, None] * trajectory.velocities[-1] ** 2).sum() / FEMTOSECOND**2
        assert kinetic == pytest.approx(thermo["kinetic_energy_ev"][system, -1], rel=1e-5)
    with pytest.raises(DataError, match="holds 2 systems; name the file of one"):
        read_trajectory(tmp_path / "run")
    table = tmp_path / "run" / "thermo.csv"
    lines = table.read_text().splitlines()
    # Killed between the rows of a step, and within one.
    for end in ("\n".join(lines[:-1]), "\n".join(lines[:-1]) + "\n1,20"):
        table.write_text(end)
        assert read_thermo(tmp_path / "run")["temperature_k"].shape == (2, 2)
    table.write_text("\n".join([lines[0], lines[2], lines[1]]))
    with pytest.raises(DataError, match="does not list systems 0 to 1 at every step"):
        read_thermo(tmp_path / "run")
