"""What stops a simulation and what it is warned of; A30, A31."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import bulk, molecule
from pydantic import ValidationError
from scipy.stats import chi2

from eqpot import load_potential
from eqpot.errors import SimulationError
from eqpot.graph import collate
from eqpot.md import Settings, Simulation
from eqpot.md.state import State
from eqpot.md.watchdog import MARGIN, RAREST, Memory, Watchdog, WatchdogError, WatchdogSettings, temperature_limits
from eqpot.neighbors import build_graph
from eqpot.units import BOLTZMANN
from helpers import random_potential

ETHANOL, SILICON = molecule("CH3CH2OH"), bulk("Si", cubic=True)


def state_of(*structures, temperature=300.0, step=0):
    """Systems at a temperature exactly."""
    rng = np.random.default_rng(0)
    velocities = []
    for atoms in structures:
        v = rng.normal(size=(len(atoms), 3))
        kinetic = 0.5 * (atoms.get_masses()[:, None] * v**2).sum()
        velocities.append(v * np.sqrt(1.5 * len(atoms) * BOLTZMANN * temperature / kinetic))
    n = len(structures)
    positions = torch.from_numpy(np.concatenate([atoms.positions for atoms in structures]))
    return State(
        positions=positions,
        velocities=torch.from_numpy(np.concatenate(velocities)),
        forces=torch.zeros_like(positions),
        masses=torch.from_numpy(np.concatenate([atoms.get_masses() for atoms in structures])).unsqueeze(1),
        mobile=torch.ones(len(positions), 1, dtype=torch.float64),
        batch=torch.repeat_interleave(torch.arange(n), torch.tensor([len(atoms) for atoms in structures])),
        cells=torch.from_numpy(np.stack([atoms.cell.array for atoms in structures])),
        potential_energy=torch.zeros(n, dtype=torch.float64),
        stress=torch.zeros(n, 3, 3, dtype=torch.float64),
        heat=torch.zeros(n, dtype=torch.float64),
        step=step,
    )


def freedom(state):
    return 3 * torch.bincount(state.batch, minlength=state.n_systems)


def watchdog(state, temperature=300.0, timestep=1.0, memory=None, trained=None, **settings):
    temperatures = torch.full((state.n_systems,), temperature, dtype=torch.float64)
    return Watchdog(WatchdogSettings(**settings), state, freedom(state), temperatures, timestep, memory, trained)


def changed(values, place, value):
    values = values.clone()
    values[place] = value
    return values


def graph_of(*structures):
    return collate([build_graph(atoms, 4.0) for atoms in structures])


def test_a_sound_simulation_passes():
    start = state_of(ETHANOL, SILICON)
    dog = watchdog(start)
    for step in range(21):
        assert dog.check(replace(start, step=step), graph_of(ETHANOL, SILICON)) == []


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("what", ["forces", "velocities"])
def test_a30_what_is_not_finite_stops_at_any_step(what, value):
    start = state_of(ETHANOL, SILICON, step=3)
    dog = watchdog(start)
    broken = replace(start, **{what: changed(getattr(start, what), (9 + 5, 1), value)})
    assert not dog.due(3)
    with pytest.raises(SimulationError, match=r"^In step 3, system 1: the force on or velocity of atom 5 is not finite; use ") as caught:
        dog.check(broken)
    assert (caught.value.alarm.kind, caught.value.alarm.system) == ("not finite", 1)


def test_a30_an_energy_that_is_not_finite_stops():
    start = state_of(ETHANOL, SILICON, step=3)
    with pytest.raises(WatchdogError, match="In step 3, system 0: the energy is not finite"):
        watchdog(start).check(replace(start, potential_energy=changed(start.potential_energy, 0, -torch.inf)))
    # Infinities of both signs must not hide one another.
    both = changed(changed(start.forces, (0, 0), torch.inf), (0, 1), -torch.inf)
    with pytest.raises(WatchdogError, match="atom 0 is not finite"):
        watchdog(start).check(replace(start, forces=both))


@pytest.mark.parametrize("n", [1, 3, 24, 1536])
def test_a30_the_limit_of_the_temperature_leaves_room_for_fluctuations(n):
    limit = float(temperature_limits(WatchdogSettings(), torch.tensor([n]), torch.tensor([1000.0], dtype=torch.float64))[0])
    assert chi2.sf(n * limit / (MARGIN * 1000.0), n) == pytest.approx(RAREST, rel=1e-6)


def test_a30_a_spike_of_the_temperature_stops():
    hot = state_of(SILICON.repeat(3), temperature=1300.0)
    assert watchdog(hot, 300.0, max_temperature=1310.0).check(hot) == []
    assert watchdog(hot, 600.0).check(hot) == []
    with pytest.raises(WatchdogError, match=r"Before the first step: the temperature is 1300 K, above the limit of 1298 K; use "):
        watchdog(hot, 300.0).check(hot)
    with pytest.raises(WatchdogError, match="limit of 1290 K"):
        watchdog(hot, 300.0, max_temperature=1290.0).check(hot)
    # From rest at 0 K, half of the potential energy becomes heat.
    mild = state_of(SILICON.repeat(3), temperature=200.0)
    assert watchdog(mild, 0.0).check(mild) == []
    single = state_of(Atoms("Ar"), temperature=1300.0)
    assert watchdog(single, 300.0).check(single) == []


def test_a30_the_limit_of_the_temperature_goes_by_the_hottest_point_of_the_schedule():
    schedule = [{"time": time, "temperature": temperature} for time, temperature in ((0, 300.0), (1, 1500.0), (2, 400.0))]
    settings = [Settings(ensemble="nvt", **keys) for keys in ({"schedule": schedule}, {"temperature": 1500.0})]
    annealed, hot = (Simulation(SILICON, random_potential([14]), each) for each in settings)
    assert torch.equal(annealed.watchdog.limits, hot.watchdog.limits)


def test_a30_checks_wait_for_the_interval():
    hot = state_of(SILICON, temperature=30000.0, step=3)
    dog = watchdog(hot, interval=4)
    assert dog.check(hot) == []
    assert [step for step in range(9) if dog.due(step)] == [0, 4, 8]
    with pytest.raises(WatchdogError):
        dog.check(replace(hot, step=4))


def test_a31_overlaps_are_found_before_the_first_step():
    close = SILICON.copy()
    # Across the boundary of the cell: Si has a radius of 1.11 Å.
    close.positions[0] = [0.1, 0.0, 0.0]
    close.positions[6] = [close.cell[0, 0] - 0.9, 0.0, 0.0]
    state = state_of(ETHANOL, close)
    with pytest.raises(
        WatchdogError, match=r"^Before the first step, system 1: atoms Si 0 and Si 6 are 1.00 Å apart, 45% .*; move them"
    ) as caught:
        watchdog(state).check(state, graph_of(ETHANOL, close))
    assert caught.value.alarm.system == 1
    assert watchdog(state, min_distance=0.44).check(state, graph_of(ETHANOL, close)) == []
    assert watchdog(state).check(state) == []


def test_a30_atoms_too_close_stop_a_run_before_the_heat_they_make():
    close = molecule("H2")
    close.set_distance(0, 1, 0.2)
    state = state_of(close, temperature=1e6, step=10)
    with pytest.raises(WatchdogError, match=r"^In step 10: atoms H 0 and H 1 are 0.20 Å apart, 32% .*; use a shorter timestep"):
        watchdog(state).check(state, graph_of(close))


def test_distances_that_the_training_data_lack_are_told_of():
    state, graph = state_of(SILICON, step=10), graph_of(SILICON)
    bond = float(SILICON.get_distance(0, 1))
    assert watchdog(state, trained={"Si-Si": bond / 0.91}).check(state, graph) == []
    dog = watchdog(state, trained={"Si-Si": 2.8})
    (sentence,) = dog.check(state, graph)
    assert sentence.startswith("In step 10: atoms Si 0 and Si 1 are 2.35 Å apart, and the training data have no two such atoms nearer than")
    assert dog.check(replace(state, step=20), graph) == []
    assert watchdog(state, trained={"Si-Si": 2.8}, min_trained_distance=0.8).check(state, graph) == []
    with pytest.raises(WatchdogError, match="extrapolates"):
        watchdog(state, trained={"Si-Si": 2.8}, on_extrapolation="stop").check(state, graph)


def test_elements_that_never_met_in_the_training_data_are_told_of():
    two = state_of(ETHANOL)
    graph = graph_of(ETHANOL)
    met = {"H-H": 1.0, "H-C": 0.9, "C-C": 1.3, "H-O": 0.8}
    assert watchdog(two, trained={**met, "C-O": 1.2}).check(two, graph) == []
    (sentence,) = watchdog(two, trained=met).check(two, graph)
    assert "no two such atoms next to each other" in sentence
    assert watchdog(two, trained=met, min_trained_distance=0.0).check(two, graph) == []


def test_elements_beyond_the_cutoff_of_each_other_have_not_met(caplog):
    """Lists keep pairs beyond the cutoff, of which the training data know nothing."""
    simulation = Simulation(Atoms("OO", [[0, 0, 0], [0, 0, 10.0]]), load_potential("ethanol"), Settings(temperature=10.0, timestep=0.5))
    for _ in range(20):
        simulation.step()
    assert simulation.force_function.graph.edge_index.shape[1] == 2
    assert not caplog.messages


def test_elements_count_for_how_close_is_too_close():
    # 0.7 Å: a bond of two hydrogens, an overlap of two silicons.
    for symbols, fine in (("H2", True), ("Si2", False)):
        pair = Atoms(symbols, [[0, 0, 0], [0, 0, 0.7]])
        state = state_of(pair)
        if fine:
            assert watchdog(state).check(state, graph_of(pair)) == []
        else:
            with pytest.raises(WatchdogError, match="Si 0 and Si 1"):
                watchdog(state).check(state, graph_of(pair))


@pytest.mark.parametrize(("factor", "word"), [(3.1, "explodes"), (1 / 3.1, "collapses"), (torch.nan, "collapses")])
def test_a30_a_cell_that_explodes_or_collapses_stops(factor, word):
    start = state_of(ETHANOL, SILICON)
    dog = watchdog(start)
    cells = start.cells * torch.tensor([1.0, factor ** (1 / 3)], dtype=torch.float64).view(-1, 1, 1)
    for _ in range(2):
        with pytest.raises(WatchdogError, match=rf"In step 10, system 1: the volume is .* the cell {word}; check the pressure"):
            dog.check(replace(start, cells=cells, step=10))
    assert watchdog(start, max_volume_change=3.2).check(replace(start, cells=cells if factor == factor else start.cells, step=10)) == []
    mild = start.cells * 1.4  # cubed: 2.7
    assert dog.check(replace(start, cells=mild, step=10)) == []


def drifted(start, per_atom, step, system=1):
    """The state at a step, its conserved energy changed by so many meV/atom."""
    n = int((start.batch == system).sum())
    return replace(start, heat=changed(start.heat, system, -1e-3 * per_atom * n), step=step)


@pytest.mark.parametrize("sign", [1, -1])
def test_a30_a_drift_is_warned_of_once_and_stops_at_ten_times_the_limit(sign):
    start = state_of(ETHANOL, SILICON)
    dog = watchdog(start)
    # k_B T / 2 is 12.9 meV, and k_B T over 8 atoms 3.2 meV.
    assert dog.check(drifted(start, sign * 16.0, 10)) == []
    assert dog.check(drifted(start, sign * (16.0 + 49), 5000)) == []
    (sentence,) = dog.check(drifted(start, sign * (16.2 + 51), 5000))
    assert sentence.startswith("In step 5000, system 1: the conserved energy has changed by ")
    assert f"by {sign * 67.2} meV/atom in 5 ps" in sentence
    assert dog.check(drifted(start, sign * 68.0, 5010)) == []
    assert len(dog.check(drifted(start, sign * 68.0, 5010, system=0))) == 1
    assert dog.check(drifted(start, sign * (16.0 + 480), 5000)) == []
    with pytest.raises(WatchdogError, match="conserved energy"):
        dog.check(drifted(start, sign * (16.2 + 501), 5000))


def test_a_cold_run_may_drift_as_a_warm_one():
    start = state_of(ETHANOL, SILICON)
    assert watchdog(start, 0.0).check(drifted(start, 16.0 + 9, 10)) == []
    assert len(watchdog(start, 0.0).check(drifted(start, 16.2 + 11, 10))) == 1


def test_a_jump_counts_as_the_drift_of_a_picosecond():
    start = state_of(ETHANOL, SILICON)
    assert watchdog(start).check(drifted(start, 16.0 + 9, 10)) == []
    assert len(watchdog(start).check(drifted(start, 16.2 + 11, 10))) == 1
    with pytest.raises(WatchdogError):
        watchdog(start).check(drifted(start, 16.2 + 101, 10))


def test_drifts_are_measured_over_windows_and_a_memory_goes_on():
    """A burst late in a long run is not lost in the average over it, and a resumed run says what the whole one says."""
    start = state_of(ETHANOL, SILICON)
    dog = watchdog(start)
    assert dog.check(drifted(start, 100.0, 10_000)) == []  # 10 ps: within 16 + 100; a new window starts
    assert dog.memory.step == 10_000
    resumed = watchdog(start, memory=Memory(**json.loads(json.dumps(asdict(dog.memory)))))
    late = drifted(start, 100.0 + 16.2 + 11, 10_500)
    assert len(dog.check(late)) == 1
    assert dog.check(late) == []
    assert len(resumed.check(late)) == 1
    again = watchdog(start, memory=Memory(**json.loads(json.dumps(asdict(resumed.memory)))))
    assert again.check(late) == []
    assert asdict(again.memory)["energy"] == list(dog.memory.energy)


def test_extrapolation_warns_or_stops():
    start = state_of(ETHANOL, SILICON, step=1000)
    deviations = torch.full((17, 3), 0.1, dtype=torch.float64)
    deviations[9 + 2] = torch.tensor([0.9, 0.0, 0.0])  # 0.52 per component
    dog = watchdog(start)
    assert dog.deviations_due(1000)
    assert not dog.deviations_due(1010)
    assert dog.check_deviations(start, deviations) == []
    assert dog.check_deviations(start, deviations, error=0.11) == []
    (sentence,) = dog.check_deviations(start, deviations, error=0.1)
    assert "system 1: the force on atom 2 is uncertain by 0.52 eV/Å, more than 0.5: the potential extrapolates" in sentence
    assert dog.check_deviations(start, deviations, error=0.1) == []
    with pytest.raises(WatchdogError, match="atom 2 is uncertain by 0.52 eV/Å, more than 0.3"):
        watchdog(start, max_force_deviation=0.3, on_extrapolation="stop").check_deviations(start, deviations, error=0.2)
    with pytest.raises(WatchdogError, match="atom 0"):
        watchdog(start, on_extrapolation="stop").check_deviations(start, changed(deviations, (0, 0), torch.nan), error=0.2)


def test_alone_and_among_others_a_system_is_judged_alike():
    squeezed = ETHANOL.copy()
    squeezed.positions *= 0.4
    alone = state_of(squeezed)
    with pytest.raises(WatchdogError) as caught:
        watchdog(alone).check(alone, graph_of(squeezed))
    among = state_of(ETHANOL, squeezed)
    with pytest.raises(WatchdogError) as other:
        watchdog(among).check(among, graph_of(ETHANOL, squeezed))
    assert str(other.value) == str(caught.value).replace("step:", "step, system 1:")


def test_settings_are_checked():
    for wrong in ({"interval": 0}, {"max_temperature": -1.0}, {"min_distance": 1.5}, {"max_drfit": 3.0}, {"max_volume_change": 0.5}):
        with pytest.raises(ValidationError):
            WatchdogSettings(**wrong)


def test_a_move_that_was_rejected_is_not_looked_at():
    """The graph evaluated last may hold the cell of a rejected move; the watchdog looks at the state."""
    simulation = Simulation(SILICON, random_potential([14]), Settings(ensemble="npt", temperature=300.0))
    graph = simulation.force_function.graph
    simulation.force_function.graph = replace(graph, positions=0.2 * graph.positions, cells=0.2 * graph.cells)
    simulation._inspect(simulation.state)
    squeezed = replace(simulation.state, positions=0.2 * simulation.state.positions, cells=0.2 * simulation.state.cells)
    with pytest.raises(WatchdogError, match="apart"):
        simulation._inspect(squeezed)
