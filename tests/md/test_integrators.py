"""Integrators on systems whose statistical mechanics are known; A26, A27 (ideal gas, harmonic crystal), A28."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from eqpot.md import cell_rescaling, langevin, martyna_tobias_klein, nose_hoover, nve, velocity_rescaling
from eqpot.md.matrices import hyperbolic_sine_over_x, matrix_function
from eqpot.md.random import BAROSTAT, standard_normal
from eqpot.units import BOLTZMANN, FEMTOSECOND
from md_toys import STIFFNESS, conditions, elastic, free, gas, harmonic, make_state, oscillators

PICOSECOND = 1000 * FEMTOSECOND


def run(module, state, function, conditions, steps, timestep, observe=None, **parameters):
    """Return the last state, and what `observe` saw after each step."""
    state, seen = module.init(state, conditions), []
    for _ in range(steps):
        state = module.step(state, function, timestep, conditions, **parameters)
        if observe is not None:
            seen.append(observe(state))
    return state, seen


def test_a26_energy_fluctuation_scales_with_the_square_of_the_timestep():
    fluctuations = []
    for timestep, steps in ((1.0, 400), (0.5, 800)):
        _, energies = run(nve, oscillators(), harmonic, conditions(600), steps, timestep * FEMTOSECOND, lambda s: float(s.total_energy))
        fluctuations.append(np.std(energies))
    assert fluctuations[0] / fluctuations[1] == pytest.approx(4.0, rel=0.05)


@pytest.mark.parametrize("module", [nve, nose_hoover, martyna_tobias_klein], ids=lambda module: module.__name__)
def test_a26_deterministic_integrators_are_reversible(module):
    reference = 20.0 * torch.eye(3, dtype=torch.float64).unsqueeze(0)
    function = elastic(reference)
    start = oscillators(20)
    start = make_state(start.positions, start.velocities, start.masses, function, 1.02 * reference)
    parameters = {nve: {}, nose_hoover: {"relaxation_time": 0.05 * PICOSECOND}}.get(
        module, {"relaxation_time": 0.05 * PICOSECOND, "pressure_time": 0.2 * PICOSECOND, "isotropic": False}
    )
    state = module.init(start, conditions(60))
    for sign in (1, -1):
        for _ in range(100):
            state = module.step(state, function, sign * 0.5 * FEMTOSECOND, conditions(60), **parameters)
    torch.testing.assert_close(state.positions, start.positions, rtol=0, atol=1e-10)
    torch.testing.assert_close(state.velocities, start.velocities, rtol=0, atol=1e-10)
    torch.testing.assert_close(state.cells, start.cells, rtol=0, atol=1e-10)


def test_velocity_verlet_follows_the_exact_oscillation():
    masses = torch.ones(1, 1, dtype=torch.float64)
    state = make_state(torch.ones(1, 3, dtype=torch.float64), torch.zeros(1, 3, dtype=torch.float64), masses, harmonic)
    state, _ = run(nve, state, harmonic, conditions(3), 100, 0.01)
    assert float(state.positions[0, 0]) == pytest.approx(math.cos(math.sqrt(STIFFNESS)), abs=1e-4)


THERMOSTATS = {
    "langevin": (langevin, {"friction": 0.05 / FEMTOSECOND}),
    "velocity_rescaling": (velocity_rescaling, {"relaxation_time": 50 * FEMTOSECOND}),
    "nose_hoover": (nose_hoover, {"relaxation_time": 50 * FEMTOSECOND}),
}


@pytest.mark.parametrize("name", THERMOSTATS)
def test_a27_thermostats_sample_the_canonical_distribution(name):
    """Kinetic energy has the mean and the variance of 3 N / 2 k_B T; with Langevin dynamics, which mix modes, the potential energy too."""
    module, parameters = THERMOSTATS[name]
    n, temperature = 60, 500.0
    start = oscillators(n)
    # Oscillators of one frequency would keep their phases.
    start = replace(start, masses=torch.linspace(4.0, 60.0, n, dtype=torch.float64).unsqueeze(1))
    _, seen = run(
        module, start, harmonic, conditions(3 * n, temperature), 6000, FEMTOSECOND,
        lambda s: (float(s.kinetic_energy), float(s.potential_energy)), **parameters,
    )  # fmt: skip
    expected, width = 1.5 * n * BOLTZMANN * temperature, math.sqrt(2 / (3 * n))
    for energies in np.array(seen[600::5]).T[: 2 if name == "langevin" else 1]:
        assert np.mean(energies) == pytest.approx(expected, rel=0.05 if name == "nose_hoover" else 0.02)
        assert np.std(energies) / expected == pytest.approx(width, rel=0.2)


def test_langevin_errs_in_velocities_alone_and_by_a_known_amount():
    """For harmonic forces the kinetic energy is low by the factor 1 - (w dt)^2 / 4, the potential energy right."""
    n, temperature, timestep = 20_000, 500.0, 1.0
    start = oscillators(n, temperature)
    _, seen = run(
        langevin, start, harmonic, conditions(3 * n, temperature), 300, timestep,
        lambda s: (float(s.kinetic_energy), float(s.potential_energy)), friction=0.3,
    )  # fmt: skip
    kinetic, potential = np.mean(seen[20:], axis=0) / (1.5 * n * BOLTZMANN * temperature)
    deficit = STIFFNESS / 12.0 * timestep**2 / 4
    assert kinetic == pytest.approx(1 - deficit, abs=0.03 * deficit)
    assert potential == pytest.approx(1, abs=0.03 * deficit)


@pytest.mark.parametrize("name", THERMOSTATS)
def test_a28_thermostats_conserve_their_quantity(name):
    module, parameters = THERMOSTATS[name]
    errors = []
    for timestep, steps in ((1.0, 300), (0.5, 600)):
        start = oscillators(50)
        _, energies = run(
            module,
            start,
            harmonic,
            conditions(150, 600.0),
            steps,
            timestep * FEMTOSECOND,
            lambda s: float(s.conserved_energy),
            **parameters,
        )
        assert max(abs(energy - float(start.total_energy)) for energy in energies) < 0.02
        errors.append(np.std(energies))
    if name == "nose_hoover":
        assert errors[0] / errors[1] == pytest.approx(4.0, rel=0.1)


def test_a_chain_is_integrated_in_fourth_order():
    """The error of what it conserves, in one step, goes with the fifth power of the step."""
    chain, errors = nose_hoover.Chain([0.0] * 3, [0.3, -0.2, 0.1], thermal_energy=1.0, n_freedom=3, relaxation_time=1.0), []
    for timestep in (0.1, 0.05):
        after, factor = chain.advance(6.0, timestep)
        errors.append(3.0 * factor**2 + after.energy() - 3.0 - chain.energy())
    assert errors[0] / errors[1] == pytest.approx(2**5, rel=0.2)


def test_langevin_without_friction_is_velocity_verlet():
    a, _ = run(nve, oscillators(), harmonic, conditions(600), 50, 0.5 * FEMTOSECOND)
    b, _ = run(langevin, oscillators(), harmonic, conditions(600), 50, 0.5 * FEMTOSECOND, friction=0.0)
    torch.testing.assert_close(a.positions, b.positions, rtol=0, atol=1e-12)


def test_rescaling_keeps_the_direction_and_what_is_conserved_at_zero():
    state = gas(n=10, n_systems=2)
    momentum = state.sum_atoms(state.masses * state.velocities)
    state = replace(state, velocities=state.velocities - state.of_atoms(momentum / state.sum_atoms(state.masses)))
    for module, parameters in list(THERMOSTATS.values())[1:]:
        after, _ = run(module, state, free, conditions(27, seeds=(0, 1)), 50, FEMTOSECOND, **parameters)
        assert float(after.sum_atoms(after.masses * after.velocities).abs().max()) < 1e-12
        factors = (after.velocities / state.velocities).reshape(2, -1)
        assert float((factors.std(dim=1) / factors.mean(dim=1)).abs().max()) < 1e-9
        assert abs(float(factors[0, 0] - factors[1, 0])) > 1e-3


def test_a_single_degree_of_freedom_forgets_its_direction_too():
    """Rescaled alone, a velocity is that of Langevin dynamics: <v(t) v(0)> / <v^2> = exp(-t / (2 tau))."""
    n_systems = 4000
    state = gas(n=1, n_systems=n_systems)
    start = torch.zeros_like(state.velocities)
    start[:, 0] = state.velocities[:, 0]
    settings = conditions(1, seeds=tuple(range(n_systems)))
    after = velocity_rescaling.rescale(replace(state, velocities=start), 1.0, settings, 1.0).velocities
    assert float((after * start).sum() / start.square().sum()) == pytest.approx(math.exp(-0.5), abs=0.05)
    assert float(after.square().sum() * 12 / n_systems) == pytest.approx(BOLTZMANN * 300.0, rel=0.1)


def test_thermostats_leave_what_is_at_rest_or_alone():
    still = replace(gas(n=4, n_systems=1), velocities=torch.zeros(4, 3, dtype=torch.float64))
    after, _ = run(velocity_rescaling, still, free, conditions(9), 3, FEMTOSECOND, relaxation_time=50 * FEMTOSECOND)
    assert torch.equal(after.velocities, still.velocities)
    for module, parameters in list(THERMOSTATS.values())[1:]:
        one = gas(n=1, n_systems=1)
        after, _ = run(module, one, free, conditions(0), 3, FEMTOSECOND, **parameters)
        assert torch.isfinite(after.velocities).all()
    cold, _ = run(nose_hoover, gas(n=4, n_systems=1), free, conditions(12, 0.0), 3, FEMTOSECOND, relaxation_time=50 * FEMTOSECOND)
    assert torch.isfinite(cold.velocities).all()


def test_held_atoms_stay():
    start = oscillators(10)
    mobile = torch.ones(10, 1, dtype=torch.float64)
    mobile[3:6] = 0
    start = replace(start, mobile=mobile, velocities=start.velocities * mobile)
    for module, parameters in ((nve, {}), *THERMOSTATS.values()):
        after, _ = run(module, start, harmonic, conditions(21), 20, FEMTOSECOND, **parameters)
        assert torch.equal(after.positions[3:6], start.positions[3:6])
        assert float((after.positions - start.positions).abs().min(dim=1).values[:3].max()) > 0


BAROSTATS = {
    "cell_rescaling": (cell_rescaling, {"compressibility": 1.0, "interval": 2}),
    "martyna_tobias_klein": (martyna_tobias_klein, {}),
}


@pytest.mark.parametrize("name", BAROSTATS)
def test_a27_isotropic_barostats_sample_the_volumes_of_an_ideal_gas(name):
    """p(V) ~ V^N exp(-P V / kT): mean (N + 1) kT / P and standard deviation sqrt(N + 1) kT / P."""
    module, parameters = BAROSTATS[name]
    n, n_systems, thermal = 10, 12, BOLTZMANN * 300.0
    pressure = (n + 1) * thermal / 1000.0
    if name == "cell_rescaling":
        parameters = parameters | {"compressibility": 1 / pressure}
    _, volumes = run(
        module, gas(n, 300.0, n_systems, 1000.0), free, conditions(3 * n, 300.0, pressure, tuple(range(n_systems))), 4000, 2 * FEMTOSECOND,
        lambda s: s.volume.numpy().copy(), relaxation_time=0.05 * PICOSECOND, pressure_time=0.15 * PICOSECOND, isotropic=True, **parameters,
    )  # fmt: skip
    volumes = np.array(volumes[400:])
    assert volumes.mean() == pytest.approx(1000.0, rel=0.03)
    assert volumes.std() == pytest.approx(1000.0 / math.sqrt(n + 1), rel=0.1)


def test_a27_cell_rescaling_is_exact_for_long_moves():
    """As above, with moves of 0.4 of the relaxation of the volume; without acceptance it runs off."""
    n, n_systems, thermal = 10, 24, BOLTZMANN * 300.0
    pressure = (n + 1) * thermal / 1000.0
    _, volumes = run(
        cell_rescaling, gas(n, 300.0, n_systems, 1000.0), free, conditions(3 * n, 300.0, pressure, tuple(range(n_systems))), 1000,
        2 * FEMTOSECOND, lambda s: s.volume.numpy().copy(), relaxation_time=0.01 * PICOSECOND, pressure_time=0.01 * PICOSECOND,
        isotropic=True, compressibility=1 / pressure, interval=2,
    )  # fmt: skip
    volumes = np.array(volumes[100:])
    assert volumes.mean() == pytest.approx(1000.0, rel=0.03)
    assert volumes.std() == pytest.approx(1000.0 / math.sqrt(n + 1), rel=0.07)


def test_a27_cell_rescaling_samples_the_strains_of_an_elastic_cell():
    """U = V c sum_ij E_ij^2: each shear E_xy has the variance kT / (4 V c); and <V (P - P0)> = -kT, the virial theorem of the cell.

    The deterministic barostat does not sample so few independent modes; it is tried on crystals and fluids.
    """
    n, n_systems, thermal, pressure = 4, 12, BOLTZMANN * 300.0, 1e-5
    stiffness = 60 * thermal / 1000.0
    state = gas(n, 300.0, n_systems, 1000.0)
    function = elastic(state.cells[:1], bulk_modulus=stiffness, shear_modulus=stiffness)
    state = make_state(state.positions, state.velocities, state.masses, function, state.cells.clone(), state.batch)
    inverse = torch.linalg.inv(state.cells[:1])

    def observe(s):
        deformation = torch.matmul(inverse, s.cells)
        strain = torch.matmul(deformation, deformation.transpose(1, 2)) / 2
        excess = s.volume.view(-1, 1, 1) * (s.pressure_tensor() - pressure * torch.eye(3, dtype=torch.float64))
        return torch.stack([strain[:, 0, 1], strain[:, 0, 2], strain[:, 1, 2], *excess.diagonal(dim1=1, dim2=2).unbind(1)], dim=1).numpy()

    _, seen = run(
        cell_rescaling, state, function, conditions(3 * n, 300.0, pressure, tuple(range(n_systems))), 5000, 2 * FEMTOSECOND, observe,
        relaxation_time=0.05 * PICOSECOND, pressure_time=0.1 * PICOSECOND, isotropic=False, compressibility=1 / stiffness, interval=2,
    )  # fmt: skip
    seen = np.array(seen[500:])
    assert seen[..., :3].var() == pytest.approx(thermal / (4 * 1000.0 * stiffness), rel=0.12)
    assert seen[..., 3:].mean() == pytest.approx(-thermal, abs=0.3 * thermal)


@pytest.mark.parametrize("cell", ["isotropic", "full"])
@pytest.mark.parametrize("name", BAROSTATS)
def test_a28_barostats_conserve_their_quantity(name, cell):
    module, parameters = BAROSTATS[name]
    reference = 20.0 * torch.eye(3, dtype=torch.float64).unsqueeze(0)
    function = elastic(reference)
    drifts = []
    for timestep in (1.0, 0.5):
        start = oscillators(50)
        start = make_state(start.positions, start.velocities, start.masses, function, 1.01 * reference)
        held = conditions(150, 300.0, 0.002)
        state, energies = run(
            module, start, function, held, int(400 / timestep), timestep * FEMTOSECOND,
            lambda s: float(s.conserved_energy), relaxation_time=0.05 * PICOSECOND, pressure_time=0.2 * PICOSECOND,
            isotropic=cell == "isotropic", **{**parameters, **({"compressibility": 2.0} if name == "cell_rescaling" else {})},
        )  # fmt: skip
        drifts.append(np.std(energies))
        assert abs(float(state.volume) / 8000.0 - 1.0303) > 1e-3
    assert drifts[0] < 0.06
    if name == "martyna_tobias_klein":
        assert drifts[0] / drifts[1] == pytest.approx(4.0, rel=0.2)


@pytest.mark.parametrize("cell", ["isotropic", "full"])
def test_a_cell_of_the_right_heat_does_not_push_its_chain(cell):
    """W = (N_f + 3) k_B T tau_p^2 / 3, and W tr(g^2) is k_B T for each way in which the cell can change: 1 or 6."""
    reference, pressure_time = 20.0 * torch.eye(3, dtype=torch.float64).unsqueeze(0), 0.2 * PICOSECOND
    held, n_ways = conditions(30), 1 if cell == "isotropic" else 6
    start = oscillators(10)
    state = martyna_tobias_klein.init(make_state(start.positions, start.velocities, start.masses, elastic(reference), reference), held)
    parameters = {"relaxation_time": 0.05 * PICOSECOND, "pressure_time": pressure_time, "isotropic": cell == "isotropic"}
    pushes = []
    for heat in (0.0, n_ways):
        rate = math.sqrt(heat / (33 * pressure_time**2 / 3) / 3)
        warm = replace(state, bath={**state.bath, "cell_velocities": rate * torch.eye(3, dtype=torch.float64).unsqueeze(0)})
        after = martyna_tobias_klein.step(warm, elastic(reference), 1e-4 * FEMTOSECOND, held, **parameters)
        pushes.append(float(after.bath["cell_chain_velocities"][0, 0]))
    assert pushes[0] < 0
    assert abs(pushes[1]) < 1e-3 * abs(pushes[0])


def test_a_system_whose_move_is_rejected_is_as_it_was():
    state = gas(n=3, n_systems=2)
    names = ("positions", "velocities", "forces", "cells", "stress", "potential_energy", "heat")
    moved = replace(state, **{name: getattr(state, name) + 1.0 for name in names})
    found = moved.with_systems_of(state, torch.tensor([True, False]))
    for name in names:
        (first, second), before, after = getattr(found, name).chunk(2), getattr(state, name), getattr(moved, name)
        assert torch.equal(first, before.chunk(2)[0]), name
        assert torch.equal(second, after.chunk(2)[1]), name


def test_random_numbers_depend_on_seed_step_and_stream_alone():
    def draw(seed, step, stream=0):
        return standard_normal([5], 3, [seed], step, stream)

    assert torch.equal(draw(1, 7), draw(1, 7))
    for other in (draw(1, 8), draw(2, 7), draw(1, 7, BAROSTAT)):
        assert not torch.equal(draw(1, 7), other)
    assert torch.equal(standard_normal([5, 2], 3, [1, 4], 7)[:5], draw(1, 7))
    many = torch.cat([draw(0, step) for step in range(6000)])
    assert abs(float(many.mean())) < 0.01
    assert float(many.std()) == pytest.approx(1.0, abs=0.01)
    assert abs(float((many[:-1] * many[1:]).mean())) < 0.01


def test_matrix_functions():
    matrices = torch.randn(5, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    matrices = matrices + matrices.transpose(1, 2)
    torch.testing.assert_close(matrix_function(matrices, torch.exp), torch.linalg.matrix_exp(matrices))
    x = torch.tensor([0.0, 1e-9, 9e-4, 1.1e-3, -2.0], dtype=torch.float64)
    expected = [1.0, *(math.sinh(value) / value for value in x.tolist()[1:])]
    np.testing.assert_allclose(hyperbolic_sine_over_x(x).numpy(), expected, rtol=1e-15)
