"""Constant temperature: Langevin dynamics by the BAOAB splitting (Leimkuhler and Matthews 2013).

    B  v <- v + dt/2 F / m
    A  x <- x + dt/2 v
    O  v <- c v + sqrt((1 - c^2) k_B T / m) R,   c = exp(-gamma dt),  R standard normal
    A, B as before

| symbol | variable |
| --- | --- |
| x, v, F, m | `State.positions`, `.velocities`, `.forces`, `.masses` |
| dt | `timestep`, Å sqrt(amu / eV) |
| gamma | `friction`, the inverse of that |
| T | `Conditions.temperature`, K |

Positions are sampled exactly for harmonic forces and with an error of second order in dt, small among such splittings, in
general. Velocities come out low even for harmonic forces: the kinetic temperature of a vibration of angular frequency w is
T (1 - (w dt)^2 / 4).
The thermostat acts on every atom by itself, so it is ergodic for any structure, however small, and no momentum is conserved.
"""

import math
from dataclasses import replace

import torch

from eqpot.md.nve import drift, init, kick, update_forces
from eqpot.md.random import standard_normal
from eqpot.md.state import Conditions, ForceFunction, State

__all__ = ["init", "step"]


def step(state: State, force_function: ForceFunction, timestep: float, conditions: Conditions, friction: float) -> State:
    """Return the state one time step later; what the thermostat adds to the kinetic energy is added to `heat`."""
    state = drift(kick(state, timestep / 2), timestep / 2)
    before = state.kinetic_energy
    damping = math.exp(-friction * timestep)
    thermal = state.of_atoms(conditions.thermal_energy).unsqueeze(1)
    amplitude = torch.sqrt((1 - damping**2) * thermal / state.masses) * state.mobile
    counts = torch.bincount(state.batch, minlength=state.n_systems).tolist()
    noise = standard_normal(counts, 3, conditions.seeds, state.step).to(state.velocities.device)
    state = replace(state, velocities=damping * state.velocities + amplitude * noise)
    state = replace(state, heat=state.heat + state.kinetic_energy - before)
    state = kick(update_forces(drift(state, timestep / 2), force_function), timestep / 2)
    return replace(state, step=state.step + 1)
