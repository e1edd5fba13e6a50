"""Observables against cases whose answer is known."""

import numpy as np
import pytest
from ase import Atoms
from ase.build import bulk, molecule

from eqpot.errors import ConfigError, DataError
from eqpot.observables import (
    RadialDistribution,
    Trajectory,
    autocorrelation,
    average,
    block_error,
    canonical_test,
    density,
    dihedral_angles,
    drift,
    einstein,
    equilibration,
    find_torsions,
    find_wells,
    first_shell,
    green_kubo,
    mean_distribution,
    mean_squared_displacement,
    radial_distribution,
    statistical_inefficiency,
    torsional_free_energy,
    unwrap,
    velocity_autocorrelation,
    vibrational_spectrum,
)
from eqpot.observables.vibrations import WAVENUMBER
from eqpot.units import BOLTZMANN
from helpers import ethanol

SHEARED = np.array([[20.0, 0.0, 0.0], [9.0, 18.0, 0.0], [-7.0, 5.0, 21.0]])


def autoregressive(n, phi, seed, shape=()):
    """x(i + 1) = phi x(i) + noise, of variance 1 from the start, [n, *shape]."""
    random = np.random.default_rng(seed)
    noise = random.normal(size=(n, *shape)) * np.sqrt(1 - phi**2)
    values = np.empty_like(noise)
    values[0] = random.normal(size=shape)
    for number in range(1, n):
        values[number] = phi * values[number - 1] + noise[number]
    return values


def frames_of(positions, cells, numbers=None, pbc=True, velocities=None, interval=1.0):
    numbers = np.full(positions.shape[1], 18) if numbers is None else np.array(numbers)
    masses = Atoms(numbers).get_masses()
    times = interval * np.arange(len(positions))
    return Trajectory(numbers, masses, positions, velocities, cells, np.full(3, pbc), times)


def test_autocorrelation_is_the_sum_over_origins():
    values = np.random.default_rng(0).normal(size=(50, 300, 2))
    expected = [(values[: 50 - lag] * values[lag:]).sum() / (50 - lag) for lag in range(50)]
    np.testing.assert_allclose(autocorrelation(values), expected, atol=1e-10)


def test_statistical_inefficiency_is_that_of_its_definition():
    values = np.array([3.0, 2.0, 4.0, 3.0, 1.0, -2.0, -3.0, -1.0, -4.0, -3.0])
    correlation = [(values[: 10 - lag] * values[lag:]).mean() / (values**2).mean() for lag in range(10)]
    end = next(lag for lag in range(10) if correlation[lag] <= 0)
    assert end == 4
    expected = 1 + 2 * sum((1 - lag / 10) * correlation[lag] for lag in range(1, end))
    assert statistical_inefficiency(values) == pytest.approx(expected)


@pytest.mark.parametrize("phi", [0.0, 0.5, 0.9])
def test_statistical_inefficiency_of_an_autoregressive_process(phi):
    values = autoregressive(100_000, phi, seed=1)
    exact = (1 + phi) / (1 - phi)
    found = average(3.0 + values)
    assert found.inefficiency == pytest.approx(exact, rel=0.08)
    assert found.standard_error == pytest.approx(np.sqrt(exact / len(values)), rel=0.06)
    assert block_error(values, 100) == pytest.approx(found.standard_error, rel=0.25)
    assert abs(found.mean - 3.0) < 3 * found.standard_error


def test_errors_hold_what_they_promise():
    """Of 400 means of correlated series 68 % lie within one standard error of the truth, but for the noise of 400 and of the errors."""
    series = autoregressive(1000, 0.8, seed=2, shape=(400,)).T
    found = [average(values) for values in series]
    for errors in ([item.standard_error for item in found], [item.block_error for item in found]):
        share = np.mean(abs(np.array([item.mean for item in found])) < errors)
        assert 0.60 < share < 0.74


def test_an_oscillation_does_not_hide_what_is_slow():
    """A quickly damped oscillation, which makes the correlation change sign early, over slow noise that carries the error of the mean."""
    rotation = autoregressive(4000, 0.9, 4, (200, 2)) @ [1, 1j] * np.exp(1j * np.arange(4000))[:, None]
    series = (rotation.real + 0.3 * autoregressive(4000, 0.98, 5, (200,))).T
    found = [average(values) for values in series]
    means = np.array([item.mean for item in found])
    assert np.mean(abs(means) < [item.standard_error for item in found]) < 0.5
    assert 0.6 < np.mean(abs(means) < [item.error for item in found]) < 0.8


def test_replicas_have_a_common_mean_and_tell_its_error():
    series = autoregressive(500, 0.8, seed=6, shape=(200, 8)).transpose(1, 2, 0)
    found = [average(7.0 + values) for values in series]
    truth = np.sqrt(9.0 / (8 * 500))
    assert np.mean([item.standard_error for item in found]) == pytest.approx(truth, rel=0.1)
    assert np.mean([item.block_error for item in found]) == pytest.approx(truth, rel=0.1)
    assert np.std([item.mean for item in found]) == pytest.approx(truth, rel=0.2)
    assert found[0].n_samples == 8 * 500
    # Replicas that never met: their scatter is that of their means, however long they are.
    stuck = average(series[0] * 0.01 + np.arange(8.0)[:, None])
    assert stuck.block_error == pytest.approx(np.arange(8).std(ddof=1) / np.sqrt(8), rel=0.01)
    assert average(series[0][:1]) == average(series[0][0])


def test_a_constant_series_has_no_error_and_a_broken_one_is_refused():
    assert average(np.full(100, 0.1)).standard_error == pytest.approx(0.0, abs=1e-15)
    with pytest.raises(DataError, match="at least 4 samples"):
        average(np.ones(3))
    with pytest.raises(DataError, match="Sample 5 of the series is NaN"):
        average(np.where(np.arange(9) == 5, np.nan, 1.0))
    with pytest.raises(ConfigError, match="use 2 or more"):
        block_error(np.arange(9.0), 1)
    # What does not fill the blocks is left out at the start.
    values = np.random.default_rng(0).normal(size=25)
    assert block_error(values) == pytest.approx(values[5:].reshape(10, 2).mean(axis=1).std(ddof=1) / np.sqrt(10))
    with pytest.raises(DataError, match="do not fill"):
        block_error(np.arange(9.0), 10)


def test_equilibration_is_found():
    noise = autoregressive(4000, 0.5, seed=3)
    assert equilibration(1e9 + noise) < 600
    start = equilibration(1e9 + noise + 20 * np.exp(-np.arange(4000) / 100))
    # After 250 to 800 steps the transient is 1.6 sigma to 0.007 sigma.
    assert 250 <= start <= 800
    values = np.random.default_rng(0).normal(size=31)
    assert equilibration(values) == np.argmin([values[t:].var() / (31 - t) for t in range(16)])
    # What never settles stops at half, where the noise of a short rest would be chosen otherwise.
    assert 1900 <= equilibration(noise + 0.05 * np.arange(4000)) <= 2000


def test_drift_has_an_error_that_knows_of_correlation():
    times = 0.5 * np.arange(1000)
    slopes = [drift(times, 7.0 + 0.01 * times + autoregressive(1000, 0.8, seed)) for seed in range(100)]
    pulls = np.array([(found.slope - 0.01) / found.error for found in slopes])
    assert abs(pulls.mean()) < 0.35
    assert 0.8 < pulls.std() < 1.3


def test_unwrapping_undoes_wrapping():
    random = np.random.default_rng(4)
    walk = np.cumsum(random.normal(size=(500, 20, 3)), axis=0)
    cells = np.broadcast_to(SHEARED, (500, 3, 3))
    fractional = walk @ np.linalg.inv(SHEARED)
    wrapped = (fractional - np.floor(fractional)) @ SHEARED
    shift = wrapped[0] - walk[0]
    np.testing.assert_allclose(unwrap(wrapped, cells, np.ones(3)), walk + shift, atol=1e-9)
    # Positions that run on through the walls stay as they are.
    np.testing.assert_allclose(unwrap(walk, cells, np.ones(3)), walk, atol=1e-9)
    np.testing.assert_array_equal(unwrap(walk, cells, np.zeros(3)), walk)
    # Along an open direction, which may have no lattice vector, nothing is folded.
    slab = np.diag([20.0, 20.0, 0.0])
    flat = walk - 20 * np.floor(walk / 20) * [1, 1, 0]
    np.testing.assert_allclose(unwrap(flat, np.broadcast_to(slab, (500, 3, 3)), np.array([1, 1, 0])), walk + flat[0] - walk[0], atol=1e-9)


def test_a_cell_that_breathes_moves_no_atom():
    random = np.random.default_rng(5)
    fractional = np.broadcast_to(random.uniform(-2, 3, size=(30, 3)), (200, 30, 3))
    cells = SHEARED * (1 + 0.05 * np.sin(np.arange(200)))[:, None, None]
    trajectory = frames_of(fractional @ cells, cells).at_rest()
    assert mean_squared_displacement(trajectory.positions).max() < 1e-20
    # A step through the wall while the cell grows is measured in the mean of both cells.
    growing = np.array([10 * np.eye(3), 12 * np.eye(3)])
    moved = unwrap(np.array([[[9.5, 0, 0]], [[0.6, 0, 0]]]), growing, np.ones(3))
    np.testing.assert_allclose(moved[1, 0], [9.5 + 0.1 * 11, 0, 0])


def test_frames_too_far_apart_are_refused():
    random = np.random.default_rng(6)
    walk = np.cumsum(5 * random.normal(size=(20, 50, 3)), axis=0)
    with pytest.raises(DataError, match=r"Atom \d+ moves 0\.\d\d of the cell's width from frame \d+ to \d+.*write frames more often"):
        unwrap(walk, np.broadcast_to(SHEARED, (20, 3, 3)), np.ones(3))


def test_msd_is_that_of_its_definition():
    positions = np.random.default_rng(7).normal(size=(40, 6, 3)).cumsum(axis=0) + 1e4
    expected = [((positions[lag:] - positions[: 40 - lag]) ** 2).sum(axis=2).mean() for lag in range(40)]
    np.testing.assert_allclose(mean_squared_displacement(positions), expected, atol=1e-6, rtol=1e-9)


def test_free_particles_fly():
    velocities = np.random.default_rng(8).normal(size=(20, 3)) * 0.01
    times = np.arange(300) * 2.0
    positions = times[:, None, None] * velocities
    np.testing.assert_allclose(mean_squared_displacement(positions), (velocities**2).sum(axis=1).mean() * times**2, rtol=1e-8, atol=1e-9)
    assert einstein(positions, 2.0).exponent == pytest.approx(2.0, abs=1e-3)
    # The drift of the whole is no motion of its atoms.
    cells = np.broadcast_to(50 * np.eye(3), (300, 3, 3))
    together = frames_of(np.broadcast_to(times[:, None, None] * [0.01, 0.02, 0.0], (300, 20, 3)), cells).at_rest()
    assert mean_squared_displacement(together.positions).max() < 1e-12


def test_where_atoms_are_held_the_others_move_against_them():
    """An adatom on a light slab: the wall takes its momentum, so its motion is not that of the centre of mass in part."""
    random = np.random.default_rng(12)
    slab = np.array([[0.0, 0, 0], [3, 0, 0], [0, 3, 0], [3, 3, 0]])
    walk = np.cumsum(0.1 * random.normal(size=(400, 1, 3)), axis=0) + np.array([1.5, 1.5, 2.0])
    positions = np.concatenate([np.broadcast_to(slab, (400, 4, 3)), walk], axis=1)
    cells = np.broadcast_to(20 * np.eye(3), (400, 3, 3))
    velocities = np.gradient(positions, axis=0)
    trajectory = frames_of(positions, cells, [29] * 4 + [79], velocities=velocities)
    assert trajectory.held.tolist() == [True] * 4 + [False]
    resting = trajectory.at_rest()
    np.testing.assert_allclose(resting.positions, positions, atol=1e-12)
    np.testing.assert_array_equal(resting.velocities, velocities)


def test_diffusion_of_a_random_walk_is_right_within_its_error():
    """Steps of variance 2 D dt in each direction; pulls over 40 walks have the scatter of a standard error from five blocks."""
    expected, interval = 3e-4, 4.0
    random = np.random.default_rng(9)
    pulls = []
    for _ in range(40):
        walk = np.cumsum(random.normal(size=(1000, 8, 3)) * np.sqrt(2 * expected * interval), axis=0)
        found = einstein(walk, interval)
        pulls.append((found.coefficient - expected) / found.error)
        assert found.window == (20 * interval, 100 * interval)
    assert abs(np.mean(pulls)) < 0.5
    # Student's t with four degrees of freedom holds 63 % within 1, 88 % within 2.
    assert 0.45 < np.mean(np.abs(pulls) < 1) < 0.85
    assert np.mean(np.abs(pulls) < 2) > 0.75
    assert found.exponent == pytest.approx(1.0, abs=0.3)


def test_rattling_in_cages_does_not_hide_diffusion_and_is_none():
    random = np.random.default_rng(3)
    walk = np.cumsum(random.normal(size=(4000, 40, 3)) * 0.05, axis=0)
    rattling = 0.5 * random.normal(size=walk.shape)
    msd = mean_squared_displacement(walk + rattling)[80:401]
    assert np.polyfit(np.log(np.arange(80, 401)), np.log(msd), 1)[0] < 0.7
    found = einstein(walk + rattling, 1.0)
    assert found.exponent == pytest.approx(1.0, abs=0.1)
    assert found.coefficient == pytest.approx(0.05**2 / 2, rel=0.1)
    # Tied to their places, atoms slow down within the window.
    tied = autoregressive(4000, np.exp(-1 / 300), seed=4, shape=(40, 3))
    assert einstein(tied, 1.0).exponent < 0.4


def test_green_kubo_and_einstein_agree_with_langevin():
    """Velocities that forget with rate gamma: D = <v_x^2> / gamma."""
    interval, rate, speed = 1.0, 0.05, 0.01
    velocities = speed * autoregressive(6000, np.exp(-rate * interval), seed=10, shape=(60, 3))
    positions = np.cumsum((velocities[1:] + velocities[:-1]) / 2 * interval, axis=0)
    expected = speed**2 / rate
    window = (100.0, 300.0)
    for found in (green_kubo(velocities[1:], interval, window), einstein(positions, interval, window)):
        assert found.coefficient == pytest.approx(expected, rel=0.06)
        assert 0.005 * expected < found.error < 0.06 * expected


def test_green_kubo_is_the_mean_over_the_window():
    velocities = np.random.default_rng(13).normal(size=(40, 3, 3))
    correlation = [(velocities[: 40 - lag] * velocities[lag:]).sum(axis=2).mean() for lag in range(9)]
    integrals = [2.0 * (sum(correlation[: lag + 1]) - (correlation[0] + correlation[lag]) / 2) / 3 for lag in range(9)]
    found = green_kubo(velocities, 2.0, window=(6.0, 16.0), n_blocks=4)
    assert found.coefficient == pytest.approx(np.mean(integrals[3:]))
    assert found.window == (6.0, 16.0)


def test_diffusion_needs_time():
    positions = np.zeros((30, 2, 3))
    with pytest.raises(DataError, match="leave 3 lags"):
        einstein(positions, 1.0)
    with pytest.raises(ConfigError, match="The window ends at 6 fs, a block at 6 fs"):
        green_kubo(positions, 1.0, window=(1.0, 6.0))
    for interval in (0.0, -1.0):
        with pytest.raises(ConfigError, match=f"interval between frames is {interval:g} fs; it must be positive"):
            einstein(np.zeros((200, 2, 3)), interval)
    with pytest.raises(DataError, match="no atoms"):
        einstein(np.zeros((200, 0, 3)), 1.0)
    with pytest.raises(DataError, match="0 frames"):
        einstein(np.zeros((0, 2, 3)), 1.0)
    bound = einstein(np.zeros((200, 2, 3)), 1.0)
    assert (bound.coefficient, bound.error, bound.exponent) == (0.0, 0.0, 0.0)


def oscillators(wavenumber_of, n_frames, interval, masses, seed=0):
    """Velocities [n_frames, n_atoms, 3] of harmonic oscillators at the same temperature, with random phases."""
    random = np.random.default_rng(seed)
    phases = random.uniform(0, 2 * np.pi, size=(len(masses), 3))
    angles = 2 * np.pi * np.array(wavenumber_of)[:, None] / WAVENUMBER * interval * np.arange(n_frames)[:, None, None]
    return np.cos(angles + phases) / np.sqrt(masses)[:, None]


def test_spectrum_of_harmonic_oscillators():
    numbers, interval = np.array([1, 1, 6, 6, 6]), 2.0
    masses = Atoms(numbers).get_masses()
    velocities = oscillators([3000.0, 3000.0, 700.0, 700.0, 700.0], 8000, interval, masses)
    spectrum = vibrational_spectrum(velocities, numbers, masses, interval, resolution=12.0)
    step = spectrum.wavenumbers[1]
    # All atoms are equally warm, so each has three modes, whatever its mass.
    assert spectrum.total.sum() * step == pytest.approx(15.0, rel=1e-9)
    for symbol, count, wavenumber in (("H", 2, 3000.0), ("C", 3, 700.0)):
        line = spectrum.densities[symbol]
        assert spectrum.wavenumbers[line.argmax()] == pytest.approx(wavenumber, abs=step)
        assert line.sum() * step == pytest.approx(3 * count, rel=1e-3)
        fine = np.interp(np.linspace(wavenumber - 20, wavenumber + 20, 4001), spectrum.wavenumbers, line)
        assert (fine > line.max() / 2).sum() * 0.01 == pytest.approx(spectrum.resolution, rel=0.15)
    assert spectrum.resolution == pytest.approx(12.0, rel=0.01)
    assert spectrum.wavenumbers[-1] == pytest.approx(WAVENUMBER / (2 * interval), rel=0.01)
    assert spectrum.n_segments == 6


def test_velocity_autocorrelation_of_one_frequency_is_a_cosine():
    masses = np.array([1.0, 12.0])
    velocities = oscillators([1000.0, 1000.0], 4000, 1.0, masses)
    expected = np.cos(2 * np.pi * 1000.0 / WAVENUMBER * np.arange(200))
    np.testing.assert_allclose(velocity_autocorrelation(velocities, masses)[:200], expected, atol=0.02)
    # Without weights the light atom, which is faster, rules.
    mixed = oscillators([3000.0, 500.0], 4000, 1.0, masses)
    weights = [velocity_autocorrelation(mixed, weights)[:200] for weights in (None, masses)]
    light, heavy = (np.cos(2 * np.pi * number / WAVENUMBER * np.arange(200)) for number in (3000.0, 500.0))
    np.testing.assert_allclose(weights[0], (12 * light + heavy) / 13, atol=0.03)
    np.testing.assert_allclose(weights[1], (light + heavy) / 2, atol=0.03)


def test_atoms_that_are_held_have_no_modes():
    numbers = np.array([1, 6, 6, 8])
    masses = Atoms(numbers).get_masses()
    velocities = oscillators([3000.0, 700.0, 700.0, 1000.0], 2000, 2.0, masses)
    velocities[:, [2, 3]] = 0
    spectrum = vibrational_spectrum(velocities, numbers, masses, 2.0)
    assert spectrum.total.sum() * spectrum.wavenumbers[1] == pytest.approx(6.0)
    assert spectrum.densities["C"].sum() * spectrum.wavenumbers[1] == pytest.approx(3.0, rel=1e-2)
    assert not spectrum.densities["O"].any()


def test_spectra_that_cannot_be_had_are_refused():
    numbers, masses, velocities = np.array([1]), np.ones(1), np.ones((100, 1, 3))
    for interval in (0.0, -1.0, np.nan):
        with pytest.raises(ConfigError, match="it must be positive"):
            vibrational_spectrum(velocities, numbers, masses, interval)
    with pytest.raises(ConfigError, match="use 48 to 834 1/cm"):
        vibrational_spectrum(velocities, numbers, masses, 10.0, resolution=10.0)
    with pytest.raises(DataError, match="15 frames"):
        vibrational_spectrum(velocities[:15], numbers, masses, 10.0)
    with pytest.raises(DataError, match="All velocities are zero"):
        vibrational_spectrum(0 * velocities, numbers, masses, 10.0)
    with pytest.raises(DataError, match="All velocities are zero"):
        velocity_autocorrelation(0 * velocities)


def test_an_ideal_gas_has_no_structure():
    """In a sheared cell, within half its width and beyond; each bin within its Poisson error."""
    random = np.random.default_rng(11)
    numbers = np.array([10] * 40 + [18] * 60)
    cells = np.broadcast_to(2.5 * SHEARED, (60, 3, 3))
    positions = random.uniform(size=(60, 100, 3)) @ cells[0]
    found = radial_distribution(frames_of(positions, cells, numbers), r_max=20.0, bin_width=1.0)
    volume = abs(np.linalg.det(cells[0]))
    shells = 4 / 3 * np.pi * np.diff(found.edges**3)
    for pair, ideal in ((("Ne", "Ar"), 1.0), (("Ne", "Ne"), 39 / 40), (("Ar", "Ar"), 59 / 60)):
        counts = {"Ne": 40, "Ar": 60}
        pairs = 60 * counts[pair[0]] * counts[pair[1]] * shells / volume / (1 if ideal == 1 else 2)
        deviations = (found.values[pair] - ideal) * np.sqrt(pairs)
        assert abs(deviations[5:]).max() < 4
        assert 0.5 < np.mean(deviations[5:] ** 2) < 2
    np.testing.assert_allclose(found.values["Ne", "Ar"], found.values["Ar", "Ne"], rtol=1e-12)
    assert found.coordination_number("Ne", "Ar", 20.0) == pytest.approx(60 * 4 / 3 * np.pi * 20**3 / volume, rel=0.02)
    assert 60 * found.coordination_number("Ar", "Ne", 20.0) == pytest.approx(40 * found.coordination_number("Ne", "Ar", 20.0))
    assert found.n_frames == 60


@pytest.mark.parametrize("primitive", [True, False])
def test_shells_of_a_lattice(primitive):
    """Through images too: the primitive cell is a third as wide as the range."""
    atoms = bulk("NaCl", "rocksalt", a=5.6, cubic=not primitive)
    found = radial_distribution(Trajectory.from_frames([atoms], interval=1.0), r_max=6.0, bin_width=0.1)
    shells = {("Na", "Cl"): ((2.8, 6), (4.85, 14)), ("Na", "Na"): ((3.96, 12), (5.6, 18))}
    for pair, expected in shells.items():
        before = 0
        for radius, number in expected:
            assert found.coordination_number(*pair, radius - 0.15) == pytest.approx(before)
            assert found.coordination_number(*pair, radius + 0.15) == pytest.approx(number)
            before = number
        peak = int(np.argmin(abs(found.radii - (expected[0][0] + 0.01))))
        shell = 4 / 3 * np.pi * (found.edges[peak + 1] ** 3 - found.edges[peak] ** 3)
        assert found.values[pair][peak] == pytest.approx(expected[0][1] * (5.6**3 / 4) / shell, rel=1e-9)
    with pytest.raises(ConfigError, match="which ends at 6 Å"):
        found.coordination_number("Na", "Cl", 6.1)


def test_volumes_of_a_breathing_cell_count_frame_by_frame():
    atoms = bulk("Ar", "fcc", a=5.3, cubic=True)
    large = atoms.copy()
    large.set_cell(1.04 * atoms.cell.array, scale_atoms=True)
    frames = [Trajectory.from_frames([frame], interval=1.0) for frame in (atoms, large)]
    each = [radial_distribution(frame, 5.0).values["Ar", "Ar"] for frame in frames]
    both = radial_distribution(Trajectory.from_frames([atoms, large], interval=1.0), 5.0)
    np.testing.assert_allclose(both.values["Ar", "Ar"], (each[0] + each[1]) / 2)
    np.testing.assert_allclose(density(frames[0].masses, np.array([atoms.cell.array])), 1.7824, rtol=1e-4)


def test_a_left_handed_cell_holds_as_much_as_a_right_handed_one():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    swapped = Atoms(atoms, cell=atoms.cell.array[[1, 0, 2]])
    right, left = (Trajectory.from_frames([frame], interval=1.0) for frame in (atoms, swapped))
    assert np.linalg.det(right.cells[0]) * np.linalg.det(left.cells[0]) < 0
    np.testing.assert_allclose(density(right.masses, right.cells), density(left.masses, left.cells))
    for pair, values in radial_distribution(right, 5.0).values.items():
        np.testing.assert_allclose(radial_distribution(left, 5.0).values[pair], values)


def test_what_has_no_distribution_is_refused():
    slab = frames_of(np.zeros((1, 1, 3)), np.eye(3)[None], pbc=False)
    with pytest.raises(DataError, match="open direction"):
        radial_distribution(slab, 5.0)
    for n_frames, n_atoms in ((0, 1), (1, 0)):
        with pytest.raises(DataError, match=f"{n_frames} frames of {n_atoms} atoms have no distribution"):
            radial_distribution(frames_of(np.zeros((n_frames, n_atoms, 3)), np.zeros((n_frames, 3, 3))), 5.0)
    with pytest.raises(ConfigError, match="0 < bin width"):
        radial_distribution(slab, 5.0, bin_width=0.0)


def test_canonical_temperatures_are_known_from_others():
    n_degrees, temperature = 192, 300.0
    draws = chi_square(n_degrees, temperature, 2000)
    good = canonical_test(draws, n_degrees, temperature)
    assert good.p_value > 0.01
    assert good.expected_width == pytest.approx(300 * np.sqrt(2 / 192))
    assert abs(good.width - good.expected_width) < 3 * good.width_error
    assert good.width_error == pytest.approx(good.expected_width / np.sqrt(2 * 2000), rel=0.2)
    narrow = canonical_test(300 + (draws - 300) / np.sqrt(2), n_degrees, temperature)
    assert narrow.p_value < 1e-6
    assert canonical_test(draws + 6, n_degrees, temperature).p_value < 1e-6
    # Samples that repeat each other are no more evidence.
    repeated = canonical_test(np.repeat(chi_square(n_degrees, temperature, 40), 50), n_degrees, temperature)
    assert repeated.p_value > 1e-3


def chi_square(n_degrees, temperature, n):
    return np.random.default_rng(12).chisquare(n_degrees, size=n) * temperature / n_degrees


def test_dihedral_angles_are_those_of_ase_wherever_the_cell_ends():
    random = np.random.default_rng(0)
    positions = random.normal(size=(20, 5, 3)) * 1.5
    found = dihedral_angles(frames_of(positions, np.zeros((20, 3, 3)), pbc=False), [3, 0, 4, 1])
    expected = [Atoms("Ar5", frame).get_dihedral(3, 0, 4, 1) for frame in positions]
    np.testing.assert_allclose(np.mod(found, 360), expected, atol=1e-9)
    wrapped = np.array([Atoms("Ar5", frame, cell=SHEARED, pbc=True).get_positions(wrap=True) for frame in positions])
    again = dihedral_angles(frames_of(wrapped, np.broadcast_to(SHEARED, (20, 3, 3))), [3, 0, 4, 1])
    np.testing.assert_allclose(again, found, atol=1e-9)
    with pytest.raises(ConfigError, match="four different atoms"):
        dihedral_angles(frames_of(positions, np.zeros((20, 3, 3)), pbc=False), [0, 1, 1, 2])
    line = np.array([[[0.0, 0, 0], [1, 0, 0], [2, 0, 0], [2, 1, 0]]])
    with pytest.raises(DataError, match="in line"):
        dihedral_angles(frames_of(line, np.zeros((1, 3, 3)), pbc=False), [0, 1, 2, 3])


@pytest.mark.parametrize("symmetry", [1, 3])
def test_torsional_free_energy_is_that_of_the_distribution(symmetry):
    """Samples of exp(-U / kT), U = B (1 - cos(s phi)) / 2 with its minimum at 0 and equivalent ones every 360 / s."""
    random, temperature, barrier = np.random.default_rng(1), 300.0, 80.0
    thermal = 1000 * BOLTZMANN * temperature
    phi = random.uniform(-180, 180, size=400_000)
    energy = barrier * (1 - np.cos(np.radians(symmetry * phi))) / 2
    kept = phi[random.uniform(size=len(phi)) < np.exp(-energy / thermal)]
    runs = kept[: len(kept) // 8 * 8].reshape(8, -1)
    profile = torsional_free_energy(runs, temperature, n_bins=20, symmetry=symmetry)
    expected = barrier * (1 - np.cos(np.radians(symmetry * profile.angles))) / 2
    offset = np.average(profile.energies - expected, weights=1 / profile.errors**2)
    deviations = (profile.energies - expected - offset) / profile.errors
    assert np.abs(profile.angles).max() < 180 / symmetry
    assert np.sqrt(np.mean(deviations**2)) < 2.5
    assert profile.errors.max() < 5
    single = torsional_free_energy(runs[0], temperature, n_bins=20, symmetry=symmetry)
    assert np.nanmax(single.errors) > np.nanmin(single.errors) > 0
    with pytest.raises(ConfigError, match="positive"):
        torsional_free_energy(runs, 0.0)


def test_torsions_are_bonds_that_parts_turn_about():
    assert [(torsion.atoms, torsion.symmetry) for torsion in find_torsions(ethanol())] == [((6, 0, 1, 2), 3), ((0, 1, 2, 3), 1)]
    assert find_torsions(molecule("C6H6")) == []
    # Acetylene's atoms are in line, cyclobutane's bonds in a ring.
    assert find_torsions(molecule("C2H2")) == []
    assert find_torsions(molecule("cyclobutane")) == []
    butane = find_torsions(molecule("trans-butane"))
    assert sorted(torsion.symmetry for torsion in butane) == [1, 3, 3]
    (middle,) = (torsion for torsion in butane if torsion.symmetry == 1)
    assert abs(molecule("trans-butane").get_dihedral(*middle.atoms) - 180) < 1


def test_wells_of_a_torsion_lie_between_its_barriers():
    """Samples of U = 40 (1 + cos 3 phi) + 15 cos phi meV, with minima at 180 and near +- 64 degrees; exact values by integration."""
    random, temperature = np.random.default_rng(1), 300.0
    thermal = 1000 * BOLTZMANN * temperature

    def weight(degrees):
        return np.exp(-(40 * (1 + np.cos(np.radians(3 * degrees))) + 15 * np.cos(np.radians(degrees)) + 15) / thermal)

    phi = random.uniform(-180, 180, size=400_000)
    runs = phi[random.uniform(size=len(phi)) < weight(phi)]
    runs = runs[: len(runs) // 8 * 8].reshape(8, -1)
    right, anti, left = find_wells(runs, torsional_free_energy(runs, temperature), temperature)
    grid = np.arange(-180, 180, 0.1) + 0.05
    exact = -thermal * np.log(weight(grid).reshape(36, 100).mean(axis=1))
    exact -= exact.min()
    expected = weight(grid)[abs(grid) > 115].sum() / weight(grid).sum()
    assert [right.minimum, abs(anti.minimum), left.minimum] == pytest.approx([65, 175, -65], abs=11)
    assert right.population + anti.population + left.population == pytest.approx(1.0)
    assert anti.population == pytest.approx(expected, abs=0.01)
    assert right.population == pytest.approx(left.population, abs=0.01)
    assert 0 < anti.population_error < 0.01
    gauche, between, outer = exact[24], exact[17:19].max(), exact[28:31].max()
    for well, lowest, tops in (
        (right, gauche, (between, outer)), (anti, 0.0, (outer, outer)), (left, gauche, (outer, between))
    ):  # fmt: skip
        assert well.energy == pytest.approx(lowest, abs=5 + 4 * well.error)
        for barrier, error, top in zip(well.barriers, well.barrier_errors, tops, strict=True):
            assert barrier == pytest.approx(top - lowest, abs=5 + 4 * error)
    flat = torsional_free_energy(phi[:1000], temperature)
    assert find_wells(phi[:1000], flat, temperature) == []


def test_bins_without_a_sample_have_no_energy_and_part_wells():
    random = np.random.default_rng(2)
    angles = np.where(random.uniform(size=4000) < 0.25, 90.0, -90.0) + random.normal(0, 8, size=4000)
    profile = torsional_free_energy(angles, 300.0)
    assert np.isnan(profile.energies[abs(abs(profile.angles) - 90) > 50]).all()
    wells = find_wells(angles, profile, 300.0)
    assert [well.minimum for well in wells] == pytest.approx([90, -90], abs=10)
    assert [well.population for well in wells] == pytest.approx([0.25, 0.75], abs=0.03)
    assert np.isnan([well.barriers for well in wells]).all()


def test_the_first_shell_of_a_crystal():
    random = np.random.default_rng(0)
    atoms = bulk("Si", cubic=True) * (2, 2, 2)
    frames = [Atoms(atoms.numbers, atoms.positions + 0.1 * random.normal(size=(64, 3)), cell=atoms.cell, pbc=True) for _ in range(20)]
    trajectory = Trajectory.from_frames(frames, interval=1.0)
    parts = [radial_distribution(trajectory.at(slice(0, 15)), 5.0), radial_distribution(trajectory.at(slice(15, None)), 5.0)]
    mean, whole = mean_distribution(parts), radial_distribution(trajectory, 5.0)
    np.testing.assert_allclose(mean.values["Si", "Si"], whole.values["Si", "Si"])
    np.testing.assert_allclose(mean.coordination["Si", "Si"], whole.coordination["Si", "Si"])
    assert mean.n_frames == 20
    shell = first_shell(whole, "Si", "Si")
    assert shell.peak == pytest.approx(2.35, abs=0.1)
    # As high as the figure shows it, though peaks are looked for in means of five bins.
    assert shell.height == whole.values["Si", "Si"][whole.radii < 2.9].max()
    assert 2.7 < shell.end < 3.5
    assert whole.coordination_number("Si", "Si", shell.end) == pytest.approx(4.0)
    assert first_shell(radial_distribution(trajectory, 2.4), "Si", "Si") is None


def test_the_height_of_a_narrow_peak_is_its_own():
    """A mean of five bins is highest beside a peak of one bin that has a shoulder."""
    values = np.ones(60)
    values[:15] = 0
    values[18:22] = [14.6, 4, 4, 4]
    values[25:30] = 0.2
    found = RadialDistribution(np.linspace(0, 6, 61), {("Ar", "Ar"): values}, {("Ar", "Ar"): np.cumsum(values)}, 1)
    shell = first_shell(found, "Ar", "Ar")
    assert (shell.height, shell.peak) == pytest.approx((14.6, 1.85))
