"""Constant temperature: Nosé-Hoover chains (Martyna, Klein and Tuckerman 1992), integrated as Martyna et al. (1996) do.

A chain of M thermostats with positions eta_k and velocities xi_k acts on the kinetic energy of N_f degrees of freedom:

    Q_1 = N_f k_B T tau^2,   Q_k = k_B T tau^2
    G_1 = (2 K - N_f k_B T) / Q_1,   G_k = (Q_(k-1) xi_(k-1)^2 - k_B T) / Q_k
    d xi_k / dt = G_k - xi_k xi_(k+1),   d eta_k / dt = xi_k,   d v / dt = -xi_1 v

over dt/2 before and after a step of velocity Verlet, each half in the three parts of fourth order by Suzuki and Yoshida. Conserved is

    K + U + sum_k Q_k xi_k^2 / 2 + N_f k_B T eta_1 + k_B T sum_(k>1) eta_k

| symbol | variable |
| --- | --- |
| eta, xi | `State.bath["chain_positions"]`, `["chain_velocities"]` [n_systems, M] |
| K, U | `State.kinetic_energy`, `.potential_energy` |
| N_f, T | `Conditions.degrees_of_freedom`, `.temperature` |
| tau | `relaxation_time`, Å sqrt(amu / eV) |

Deterministic and time-reversible. Few or stiff oscillators are not sampled ergodically; Langevin dynamics are the safe choice there.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch

from eqpot.md.nve import scaled_velocities, verlet
from eqpot.md.state import Conditions, ForceFunction, State

CHAIN_LENGTH = 3
SUZUKI_YOSHIDA = (1 / (2 - 2 ** (1 / 3)), 1 - 2 / (2 - 2 ** (1 / 3)), 1 / (2 - 2 ** (1 / 3)))
"""Weights of fourth order."""


@dataclass(frozen=True)
class Chain:
    """The chain of one system; a few numbers, for which Python's are quicker than tensors."""

    positions: list[float]
    velocities: list[float]
    thermal_energy: float
    n_freedom: int
    relaxation_time: float

    def masses(self) -> list[float]:
        rest = self.thermal_energy * self.relaxation_time**2
        return [self.n_freedom * rest, *[rest] * (len(self.positions) - 1)]

    def energy(self) -> float:
        """The share of the chain in the conserved energy, eV."""
        moving = sum(mass * velocity**2 for mass, velocity in zip(self.masses(), self.velocities, strict=True)) / 2
        return moving + self.thermal_energy * (self.n_freedom * self.positions[0] + sum(self.positions[1:]))

    def advance(self, twice_kinetic: float, timestep: float) -> tuple["Chain", float]:
        """Return the chain `timestep` later, and the factor by which the velocities of its degrees of freedom change."""
        if self.n_freedom == 0 or self.thermal_energy == 0:
            return self, 1.0
        masses, eta, xi, factor = self.masses(), list(self.positions), list(self.velocities), 1.0
        last = len(eta) - 1

        def push(k: int, half: float) -> None:
            """Advance xi_k by `half` under its force and, twice for a quarter, the drag of the next."""
            force = twice_kinetic * factor**2 - self.n_freedom * self.thermal_energy
            if k > 0:
                force = masses[k - 1] * xi[k - 1] ** 2 - self.thermal_energy
            drag = math.exp(-half / 2 * xi[k + 1]) if k < last else 1.0
            xi[k] = (xi[k] * drag + half * force / masses[k]) * drag

        for weight in SUZUKI_YOSHIDA:
            part = weight * timestep
            for k in range(last, -1, -1):
                push(k, part / 2)
            factor *= math.exp(-part * xi[0])
            for k in range(last + 1):
                eta[k] += part * xi[k]
            for k in range(last + 1):
                push(k, part / 2)
        return replace(self, positions=eta, velocities=xi), factor


def init(state: State, conditions: Conditions) -> State:  # noqa: ARG001 (all ensembles are called alike)
    """Return the state at step 0, its chain at rest."""
    return replace(state, bath={**state.bath, **resting_chain(state, "chain")})


def resting_chain(state: State, name: str) -> dict[str, torch.Tensor]:
    """Return positions and velocities of a chain that has not moved yet, as entries of `State.bath`."""
    shape, device = (state.n_systems, CHAIN_LENGTH), state.positions.device
    return {f"{name}_{what}": torch.zeros(shape, dtype=torch.float64, device=device) for what in ("positions", "velocities")}


def step(state: State, force_function: ForceFunction, timestep: float, conditions: Conditions, relaxation_time: float) -> State:
    """Return the state one time step later; `heat` is what the chain has lost."""
    state = thermostat(state, timestep / 2, conditions, relaxation_time)
    return thermostat(verlet(state, force_function, timestep), timestep / 2, conditions, relaxation_time)


def thermostat(state: State, timestep: float, conditions: Conditions, relaxation_time: float) -> State:
    """Let the chain act on the velocities for `timestep`."""
    freedom = conditions.degrees_of_freedom.tolist()
    factors, state = move_chains(state, "chain", 2 * state.kinetic_energy, freedom, timestep, conditions, relaxation_time)
    return scaled_velocities(state, factors)


def move_chains(
    state: State,
    name: str,
    twice_kinetic: torch.Tensor,
    n_freedom: list[int],
    timestep: float,
    conditions: Conditions,
    relaxation_time: float,
) -> tuple[torch.Tensor, State]:
    """Advance the chains called `name`, one a system, and return the factors [n_systems] of what they act on, and the state."""
    chains = [
        Chain(positions, velocities, thermal, freedom, relaxation_time)
        for positions, velocities, thermal, freedom in zip(
            state.bath[f"{name}_positions"].tolist(),
            state.bath[f"{name}_velocities"].tolist(),
            conditions.thermal_energy.tolist(),
            n_freedom,
            strict=True,
        )
    ]
    moved = [chain.advance(kinetic, timestep) for chain, kinetic in zip(chains, twice_kinetic.tolist(), strict=True)]
    lost = [before.energy() - after.energy() for before, (after, _) in zip(chains, moved, strict=True)]
    tensor = _like(state.heat)
    bath = {
        **state.bath,
        f"{name}_positions": tensor([chain.positions for chain, _ in moved]),
        f"{name}_velocities": tensor([chain.velocities for chain, _ in moved]),
    }
    return tensor([factor for _, factor in moved]), replace(state, bath=bath, heat=state.heat + tensor(lost))


def _like(reference: torch.Tensor) -> Callable[[list[float] | list[list[float]]], torch.Tensor]:
    return lambda values: torch.tensor(values, dtype=reference.dtype, device=reference.device)
