"""Constant temperature: stochastic velocity rescaling (Bussi, Donadio and Parrinello 2007).

After each step of velocity Verlet all velocities are multiplied by alpha, with (their appendix A)

    alpha^2 = c + (1 - c) K0 / (N_f K) (R_1^2 + S) + 2 R_1 sqrt(c (1 - c) K0 / (N_f K)),   c = exp(-dt / tau)

R_1 standard normal, S the sum of N_f - 1 squares of such numbers, and alpha of the sign of R_1 + sqrt(c N_f K / ((1 - c) K0)).

| symbol | variable |
| --- | --- |
| K | `State.kinetic_energy` |
| K0 = N_f k_B T / 2 | from `Conditions` |
| N_f | `Conditions.degrees_of_freedom` |
| tau | `relaxation_time`, Å sqrt(amu / eV) |
| dt | `timestep`, the same |

Momentum and angular momentum stay zero if they were. One number changes all velocities, so diffusion is hardly disturbed; modes that
do not exchange energy, as in a stiff small crystal, are not brought to equilibrium with one another.
"""

import math
from dataclasses import replace

import torch

from eqpot.md.nve import init, scaled_velocities, verlet
from eqpot.md.random import generator
from eqpot.md.state import Conditions, ForceFunction, State

__all__ = ["init", "rescale", "step"]


def step(state: State, force_function: ForceFunction, timestep: float, conditions: Conditions, relaxation_time: float) -> State:
    """Return the state one time step later; what the thermostat adds to the kinetic energy is added to `heat`."""
    return rescale(verlet(state, force_function, timestep), timestep, conditions, relaxation_time)


def rescale(state: State, timestep: float, conditions: Conditions, relaxation_time: float) -> State:
    """Rescale the velocities for `timestep` of the thermostat."""
    before = state.kinetic_energy
    factors = [
        _factor(float(kinetic), 0.5 * freedom * thermal, freedom, math.exp(-timestep / relaxation_time), seed, state.step)
        for kinetic, thermal, freedom, seed in zip(
            before, conditions.thermal_energy.tolist(), conditions.degrees_of_freedom.tolist(), conditions.seeds, strict=True
        )
    ]
    state = scaled_velocities(state, torch.tensor(factors, dtype=before.dtype, device=before.device))
    return replace(state, heat=state.heat + state.kinetic_energy - before)


def _factor(kinetic: float, target: float, freedom: int, decay: float, seed: int, step: int) -> float:
    # Nothing that moves can be scaled from rest, and a single degree of freedom has no other to share with.
    if freedom == 0 or kinetic == 0:
        return 1.0
    random = generator(seed, step)
    first = random.standard_normal()
    others = 2 * random.standard_gamma((freedom - 1) / 2) if freedom > 1 else 0.0
    share = (1 - decay) * target / (freedom * kinetic)
    square = decay + share * (first**2 + others) + 2 * first * math.sqrt(decay * share)
    sign = math.copysign(1.0, first + math.sqrt(decay / share)) if share > 0 else 1.0
    return sign * math.sqrt(max(square, 0.0))
