"""Constant energy: velocity Verlet (Swope, Andersen, Berens, Wilson 1982).

    v(t + dt/2) = v(t) + dt/2 F(t) / m
    x(t + dt)   = x(t) + dt v(t + dt/2)
    v(t + dt)   = v(t + dt/2) + dt/2 F(t + dt) / m

| symbol | variable |
| --- | --- |
| x, v, F, m | `State.positions`, `.velocities`, `.forces`, `.masses` |
| dt | `timestep`, Å sqrt(amu / eV) |
"""

from collections.abc import Callable
from dataclasses import replace

import torch

from eqpot.md.state import State

ForceFunction = Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
"""positions [n_atoms, 3] -> (potential energy [], forces [n_atoms, 3])."""


def init(positions: torch.Tensor, velocities: torch.Tensor, masses: torch.Tensor, force_function: ForceFunction) -> State:
    """Return the state at step 0; the same for all ensembles at constant volume."""
    energy, forces = force_function(positions)
    return State(positions, velocities, forces, masses, energy, heat=torch.zeros((), dtype=torch.float64), step=0)


def kick(state: State, timestep: float) -> State:
    """Advance the velocities by `timestep` under the present forces."""
    return replace(state, velocities=state.velocities + timestep * state.forces / state.masses)


def drift(state: State, timestep: float) -> State:
    """Advance the positions by `timestep` at the present velocities."""
    return replace(state, positions=state.positions + timestep * state.velocities)


def update_forces(state: State, force_function: ForceFunction) -> State:
    """Evaluate energy and forces at the present positions."""
    energy, forces = force_function(state.positions)
    return replace(state, potential_energy=energy, forces=forces)


def step(state: State, force_function: ForceFunction, timestep: float) -> State:
    """Return the state one time step later."""
    state = drift(kick(state, timestep / 2), timestep)
    state = kick(update_forces(state, force_function), timestep / 2)
    return replace(state, step=state.step + 1)
