"""Constant pressure: the equations of Martyna, Tobias and Klein (1994), integrated as Tuckerman et al. (2006) and Yu et al. (2010) do.

The cell has a velocity g, symmetric so that it does not rotate, and isotropic if asked; particles and cell have a Nosé-Hoover
chain each:

    dx/dt = v + g x,   dv/dt = F / m - (g + tr(g) / N_f) v - xi_1 v,   dh/dt = g h
    W dg/dt = V (P - P0) + 2 K / N_f - W xi'_1 g,   W = (N_f + 3) k_B T tau_p^2 / 3

A step is symmetric: chains dt/2, g dt/2, v dt/2, x and h dt, forces, v dt/2, g dt/2, chains dt/2, each part exact for what it holds
fixed (matrix functions of g). Conserved is K + U + P0 V + W tr(g^2) / 2 and the energies of both chains.

| symbol | variable |
| --- | --- |
| x, v, F, m, h | `State.positions`, `.velocities`, `.forces`, `.masses`, `.cells` (rows are lattice vectors) |
| g | `State.bath["cell_velocities"]` [n_systems, 3, 3] |
| xi, xi' | `State.bath["chain_velocities"]`, `["cell_chain_velocities"]` |
| P, P0 | `State.pressure_tensor()`, `Conditions.pressure`, eV/Å^3 |
| N_f | `Conditions.degrees_of_freedom` |
| tau, tau_p | `relaxation_time`, `pressure_time`, Å sqrt(amu / eV) |
"""

from dataclasses import replace

import torch

from eqpot.md import nose_hoover
from eqpot.md.matrices import apply_matrices, hyperbolic_sine_over_x, matrix_function
from eqpot.md.nve import update_forces
from eqpot.md.state import Conditions, ForceFunction, State


def init(state: State, conditions: Conditions) -> State:
    """Return the state at step 0, cell and chains at rest."""
    bath = {"cell_velocities": torch.zeros_like(state.cells), **nose_hoover.resting_chain(state, "cell_chain")}
    return replace(nose_hoover.init(state, conditions), bath={**nose_hoover.init(state, conditions).bath, **bath})


def step(
    state: State,
    force_function: ForceFunction,
    timestep: float,
    conditions: Conditions,
    relaxation_time: float,
    pressure_time: float,
    isotropic: bool,
) -> State:
    """Return the state one time step later; `heat` is what cell, pressure and chains have lost."""
    number, half = state.step, timestep / 2
    inertia = (conditions.degrees_of_freedom + 3) * conditions.thermal_energy * pressure_time**2 / 3
    before = _cell_energy(state, conditions, inertia)
    state = _thermostats(state, half, conditions, relaxation_time, pressure_time, inertia, isotropic)
    lost_by_chains = state.heat
    state = _kick(_push_cell(state, half, conditions, inertia, isotropic), half, conditions)
    state = update_forces(_drift(state, timestep), force_function)
    state = _push_cell(_kick(state, half, conditions), half, conditions, inertia, isotropic)
    state = replace(state, heat=lost_by_chains)
    state = _thermostats(state, half, conditions, relaxation_time, pressure_time, inertia, isotropic)
    return replace(state, heat=state.heat + before - _cell_energy(state, conditions, inertia), step=number + 1)


def _cell_energy(state: State, conditions: Conditions, inertia: torch.Tensor) -> torch.Tensor:
    """Return P0 V + W tr(g^2) / 2 [n_systems]."""
    return conditions.pressure * state.volume + 0.5 * inertia * state.bath["cell_velocities"].square().sum(dim=(1, 2))


def _thermostats(
    state: State,
    timestep: float,
    conditions: Conditions,
    relaxation_time: float,
    pressure_time: float,
    inertia: torch.Tensor,
    isotropic: bool,
) -> State:
    state = nose_hoover.thermostat(state, timestep, conditions, relaxation_time)
    velocities = state.bath["cell_velocities"]
    n_freedom = [1 if isotropic else 6] * state.n_systems
    moving = inertia * velocities.square().sum(dim=(1, 2))
    factors, state = nose_hoover.move_chains(state, "cell_chain", moving, n_freedom, timestep, conditions, pressure_time)
    return replace(state, bath={**state.bath, "cell_velocities": velocities * factors.view(-1, 1, 1)})


def _push_cell(state: State, timestep: float, conditions: Conditions, inertia: torch.Tensor, isotropic: bool) -> State:
    """Advance g under the excess of the pressure."""
    unit = torch.eye(3, dtype=torch.float64, device=state.positions.device)
    excess = state.pressure_tensor() - conditions.pressure.view(-1, 1, 1) * unit
    shared = 2 * state.kinetic_energy / conditions.degrees_of_freedom
    forces = state.volume.view(-1, 1, 1) * excess + shared.view(-1, 1, 1) * unit
    forces = (forces + forces.transpose(1, 2)) / 2
    if isotropic:
        forces = (forces[:, 0, 0] + forces[:, 1, 1] + forces[:, 2, 2]).view(-1, 1, 1) / 3 * unit
    velocities = state.bath["cell_velocities"] + timestep * forces / inertia.view(-1, 1, 1)
    return replace(state, bath={**state.bath, "cell_velocities": velocities})


def _kick(state: State, timestep: float, conditions: Conditions) -> State:
    """Advance the velocities under forces and the motion of the cell, exactly for both held fixed."""
    velocities = state.bath["cell_velocities"]
    trace = (velocities[:, 0, 0] + velocities[:, 1, 1] + velocities[:, 2, 2]) / conditions.degrees_of_freedom
    drag = velocities + trace.view(-1, 1, 1) * torch.eye(3, dtype=torch.float64, device=velocities.device)
    old = matrix_function(drag, lambda rate: torch.exp(-rate * timestep))
    pushed = matrix_function(drag, lambda rate: timestep * torch.exp(-rate * timestep / 2) * hyperbolic_sine_over_x(rate * timestep / 2))
    accelerations = state.forces / state.masses
    return replace(
        state, velocities=apply_matrices(state.velocities, state.of_atoms(old)) + apply_matrices(accelerations, state.of_atoms(pushed))
    )


def _drift(state: State, timestep: float) -> State:
    """Advance positions and cells, exactly for g and v held fixed."""
    velocities = state.bath["cell_velocities"]
    grown = matrix_function(velocities, lambda rate: torch.exp(rate * timestep))
    moved = matrix_function(
        velocities, lambda rate: timestep * torch.exp(rate * timestep / 2) * hyperbolic_sine_over_x(rate * timestep / 2)
    )
    positions = apply_matrices(state.positions, state.of_atoms(grown)) + apply_matrices(state.velocities, state.of_atoms(moved))
    return replace(state, positions=positions, cells=apply_matrices(state.cells, grown.unsqueeze(1)))
