"""The benchmark of dynamics prints its tables, and its long runs go on where they stood."""

import re
from pathlib import Path

import numpy as np
import pytest

import contest
import dynamics
from eqpot.md import Run

NUMBER = r"-?[\d.]+(?:e[+-]\d+)?"


@pytest.fixture(autouse=True)
def no_peers(monkeypatch, tmp_path):
    monkeypatch.setattr(contest, "PEERS", tmp_path)


def test_speed(capsys, monkeypatch):
    monkeypatch.setattr(dynamics, "seconds_of", lambda step, clock: (step(), 0.002)[1])
    dynamics.speed(rounds=2, threads=1, cases=[("ethanol", 0.5, 3)])
    printed = capsys.readouterr()
    rows = re.findall(rf"^\| (.+?) \| ({NUMBER}) \(.*?\) \| ({NUMBER}) \(.*?\) \| ({NUMBER}) \(.*\) \|$", printed.out, re.MULTILINE)
    assert rows == [
        (dynamics.STEP, "2", "1", "1"),
        (dynamics.CALL, "2", "1", "1"),
        ("fused kernel alone", "2", "1", "1"),
        ("ASE's VelocityVerlet, one after the other", "6", "3", "3"),
        (dynamics.ALONE, "6", "3", "3"),
    ]
    assert "torch-sim" in printed.err


def test_another_code_that_is_elsewhere_is_refused():
    simulation = dynamics.simulation_of("ethanol", dynamics.ethanol())
    energy = float(simulation.state.potential_energy)
    dynamics.check_energy(simulation, energy + 1e-6)
    with pytest.raises(ArithmeticError, match="torch-sim has"):
        dynamics.check_energy(simulation, energy + 1e-3)


def test_drift_goes_on_where_it_stood(tmp_path, capsys, monkeypatch):
    def drift(folder, picoseconds):
        dynamics.drift(tmp_path / folder, ["ethanol"], ["float64"], [0.5], picoseconds)
        return capsys.readouterr().out.splitlines()[-1]

    row = drift("whole", 0.05)
    assert re.fullmatch(rf"\| 9 of ethanol \| float64 \| 0.5 \| 0.05 \| {NUMBER} \| {NUMBER} ± {NUMBER} \| {NUMBER} \|", row)
    drift("parts", 0.02)
    assert drift("parts", 0.05) == row
    thermo = [(tmp_path / folder / "ethanol_float64_0.5fs" / "thermo.csv").read_bytes() for folder in ("whole", "parts")]
    assert thermo[0] == thermo[1]
    monkeypatch.setattr(dynamics.Simulation, "step", None)
    assert drift("whole", 0.05) == row


def test_the_drift_is_that_of_the_total_energy(tmp_path, capsys, monkeypatch):
    def tilted(folder):
        times = np.linspace(0.0, 50.0, 20)
        return {"time_fs": times, "total_energy_ev": 7.0 + 0.009 * times / 1000, "temperature_k": times}

    monkeypatch.setattr(dynamics, "read_thermo", tilted)
    monkeypatch.setattr(Run, "run", lambda run: None)
    dynamics.drift(tmp_path, ["ethanol"], ["float32"], [0.5], 0.05)
    assert "| 1.0e+00 ± " in capsys.readouterr().out


def test_memory(capsys):
    dynamics.memory(20)
    rows = re.findall(rf"^\| (?:steps alone|a run:).* \| ({NUMBER}) \| ({NUMBER}) \| ({NUMBER}) \|$", capsys.readouterr().out, re.MULTILINE)
    assert len(rows) == 2
    for before, after, growth in rows:
        assert float(growth) == pytest.approx(100 * (float(after) / float(before) - 1), abs=0.05)
        assert float(before) > 50


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="the system does not tell what a process holds now")
def test_memory_that_is_held_now_falls_when_it_is_given_back():
    before = dynamics.resident_memory()
    block = np.ones(20_000_000)
    assert dynamics.resident_memory() > before + 100
    del block
    assert dynamics.resident_memory() < before + 100
