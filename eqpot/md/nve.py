"""Constant energy: velocity Verlet (Swope, Andersen, Berens, Wilson 1982).

    v(t + dt/2) = v(t) + dt/2 F(t) / m
    x(t + dt)   = x(t) + dt v(t + dt/2)
    v(t + dt)   = v(t + dt/2) + dt/2 F(t + dt) / m

| symbol | variable |
| --- | --- |
| x, v, F, m | `State.positions`, `.velocities`, `.forces`, `.masses` |
| dt | `timestep`, Å sqrt(amu / eV) |
"""

from dataclasses import replace

import torch

from eqpot.md.state import Conditions, ForceFunction, State


def init(state: State, conditions: Conditions) -> State:  # noqa: ARG001 (all ensembles are called alike)
    """Return the state at step 0."""
    return state


def kick(state: State, timestep: float) -> State:
    """Advance the velocities by `timestep` under the present forces; held atoms stay at rest."""
    return replace(state, velocities=state.velocities + timestep * state.mobile / state.masses * state.forces)


def drift(state: State, timestep: float) -> State:
    """Advance the positions by `timestep` at the present velocities."""
    return replace(state, positions=state.positions + timestep * state.velocities)


def update_forces(state: State, force_function: ForceFunction) -> State:
    """Evaluate energy, forces and stress at the present positions."""
    energy, forces, stress = force_function(state.positions, state.cells)
    return replace(state, potential_energy=energy, forces=forces, stress=stress)


def step(state: State, force_function: ForceFunction, timestep: float, conditions: Conditions) -> State:  # noqa: ARG001 (as in init)
    """Return the state one time step later."""
    return verlet(state, force_function, timestep)


def verlet(state: State, force_function: ForceFunction, timestep: float) -> State:
    """Return the state one step of velocity Verlet later; `kick`, `drift` and `kick` at once, as small systems feel every call."""
    push = (timestep / 2) * state.mobile / state.masses
    halfway = state.velocities + push * state.forces
    positions = state.positions + timestep * halfway
    energy, forces, stress = force_function(positions, state.cells)
    return replace(
        state,
        positions=positions,
        velocities=halfway + push * forces,
        forces=forces,
        potential_energy=energy,
        stress=stress,
        step=state.step + 1,
    )


def scaled_velocities(state: State, factors: torch.Tensor) -> State:
    """Multiply the velocities of each system by its factor [n_systems]."""
    return replace(state, velocities=state.velocities * state.of_atoms(factors).unsqueeze(1))
