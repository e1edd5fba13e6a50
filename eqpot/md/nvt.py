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
| T | `temperature`, K |

Positions are sampled exactly for harmonic forces and with an error of second order in dt, small among such splittings, in
general. Velocities, and so the kinetic temperature, come out low by an error of second order even for harmonic forces.
"""

import math
from dataclasses import replace

import numpy as np
import torch

from eqpot.md.nve import ForceFunction, drift, init, kick, update_forces
from eqpot.md.state import State
from eqpot.units import BOLTZMANN

__all__ = ["init", "step"]


def standard_normal(shape: tuple[int, ...], seed: int, step_number: int) -> torch.Tensor:
    """Return normal random numbers that depend on seed and step alone (Philox; Salmon et al. 2011).

    A counter-based generator has no state that a restart would have to keep.
    """
    generator = np.random.Generator(np.random.Philox(key=seed, counter=[0, 0, step_number, 0]))
    return torch.from_numpy(generator.standard_normal(shape))


def step(state: State, force_function: ForceFunction, timestep: float, temperature: float, friction: float, seed: int) -> State:
    """Return the state one time step later; what the thermostat adds to the kinetic energy is added to `heat`."""
    state = drift(kick(state, timestep / 2), timestep / 2)
    before = state.kinetic_energy
    damping = math.exp(-friction * timestep)
    amplitude = torch.sqrt((1 - damping**2) * BOLTZMANN * temperature / state.masses)
    noise = standard_normal(tuple(state.velocities.shape), seed, state.step).to(state.velocities.device)
    state = replace(state, velocities=damping * state.velocities + amplitude * noise)
    state = replace(state, heat=state.heat + state.kinetic_energy - before)
    state = kick(update_forces(drift(state, timestep / 2), force_function), timestep / 2)
    return replace(state, step=state.step + 1)
