"""The benchmark of ensembles: right integrators pass, and wrong ones do not; A26, A27."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from ase.build import bulk

from ensembles import LIMIT, SYSTEMS, fluctuation_ratio, independent, validate
from eqpot.md import cell_rescaling, langevin, velocity_rescaling
from eqpot.neighbors import build_graph
from simple_potentials import LennardJones, Tethers


@pytest.fixture(autouse=True)
def one_thread():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def largest(found):
    return max(value for name, value in found.items() if name != "samples")


def short(name, replicas=100):
    return replace(SYSTEMS[name](), replicas=replicas)


@pytest.mark.parametrize(("name", "method"), [("ideal gas", "velocity_rescaling"), ("Einstein crystal", "langevin")])
def test_a27_right_thermostats_pass(name, method):
    found = validate(short(name), method, "", 800)
    assert found["samples"] > 500
    assert largest(found) < LIMIT


def test_a27_hot_noise_is_caught(monkeypatch):
    noise = langevin.standard_normal
    monkeypatch.setattr(langevin, "standard_normal", lambda *arguments: 1.03 * noise(*arguments))
    found = validate(short("Einstein crystal"), "langevin", "", 800)
    assert found["kinetic mean"] > LIMIT


def test_a27_a_thermostat_without_noise_is_caught(monkeypatch):
    """Berendsen's: the mean is right, and the fluctuations are not."""

    def factor(kinetic, target, _freedom, decay, _seed, _step):
        return math.sqrt(1 + (1 - decay) * (target / kinetic - 1))

    monkeypatch.setattr(velocity_rescaling, "_factor", factor)
    found = validate(short("Einstein crystal"), "velocity_rescaling", "", 800)
    assert found["two temperatures"] > LIMIT


def test_samples_are_thinned_until_they_are_independent():
    random, decay = np.random.default_rng(0), 0.9
    series = np.zeros((4000, 1, 8))
    for number in range(1, len(series)):
        series[number] = decay * series[number - 1] + random.normal(size=(1, 8))
    samples = independent(series).reshape(8, -1)
    assert samples.shape[1] == pytest.approx(4000 / (2 * (1 + decay) / (1 - decay)), rel=0.1)
    correlation = np.mean([np.corrcoef(values[:-1], values[1:])[0, 1] for values in samples])
    assert abs(correlation) < 0.1


def test_oscillations_do_not_pass_for_independence():
    """Correlations whose sum is small, as they change sign, and whose squares live long: variances would seem too certain."""
    random, decay, turn = np.random.default_rng(0), 0.99, np.pi / 4
    series = np.zeros((4000, 1, 32))
    for number in range(2, len(series)):
        noise = random.normal(size=(1, 32))
        series[number] = 2 * decay * np.cos(turn) * series[number - 1] - decay**2 * series[number - 2] + noise
    samples = independent(series[500:]).reshape(32, -1)
    variances = np.square(samples).mean(axis=1)
    expected = np.sqrt(2 / samples.shape[1]) * variances.mean()
    assert variances.std(ddof=1) < 1.4 * expected
    assert samples.shape[1] > 10


def graph_of(strain, displaced):
    atoms = bulk("Ar", "fcc", a=5.1, cubic=True)
    atoms.rattle(0.2, seed=0)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + strain), scale_atoms=True)
    atoms.positions += displaced
    return build_graph(atoms, LennardJones().cutoff)


@pytest.mark.parametrize("potential", [LennardJones(), Tethers(torch.zeros(4, 3), torch.linspace(0.1, 0.5, 12).view(4, 3))])
def test_forces_and_stress_are_derivatives(potential):
    step, nothing = 1e-4, np.zeros((4, 3))
    result = potential.evaluate(graph_of(np.zeros((3, 3)), nothing))

    def slope(strain, displaced):
        plus, minus = (float(potential.evaluate(graph_of(sign * strain, sign * displaced))["energy"]) for sign in (1, -1))
        return (plus - minus) / (2 * step)

    displaced = nothing.copy()
    displaced[1, 2] = step
    assert slope(np.zeros((3, 3)), displaced) == pytest.approx(-float(result["forces"][1, 2]), rel=1e-5)
    if isinstance(potential, LennardJones):
        strain = np.zeros((3, 3))
        strain[0, 1] = strain[1, 0] = step / 2
        volume = float(torch.linalg.det(graph_of(np.zeros((3, 3)), nothing).cells[0]))
        assert slope(strain, nothing) == pytest.approx(float(result["stress"][0, 0, 1]) * volume, rel=1e-5)


def test_a26_energy_fluctuates_by_a_quarter_when_the_step_halves():
    argon = bulk("Ar", "fcc", a=5.4, cubic=True) * (2, 2, 2)
    assert fluctuation_ratio(argon, LennardJones(), 8.0, 100.0) == pytest.approx(4, rel=0.05)


@pytest.mark.slow
def test_a27_a_barostat_at_a_wrong_pressure_is_caught(monkeypatch):
    move = cell_rescaling.move_cells

    def wrong(state, force_function, timestep, conditions, *rest):
        return move(state, force_function, timestep, replace(conditions, pressure=1.4 * conditions.pressure), *rest)

    monkeypatch.setattr(cell_rescaling, "move_cells", wrong)
    system = short("ideal gas", replicas=64)
    system = replace(system, settings=system.settings | {"barostat_time": 400.0})
    assert validate(system, "cell_rescaling", "isotropic", 5000)["two pressures"] > LIMIT


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "case"), [(name, case) for name in ("ideal gas", "Einstein crystal") for case in SYSTEMS[name]().cases], ids=str
)
def test_a27_ensembles(name, case):
    assert largest(validate(SYSTEMS[name](), *case)) < LIMIT
