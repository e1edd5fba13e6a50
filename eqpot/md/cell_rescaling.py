"""Constant pressure: stochastic cell rescaling, isotropic (Bernetti and Bussi 2020) or of the full cell (Del Tatto et al. 2022).

Every n steps the cell h, positions and velocities change by a symmetric strain e: h -> exp(e) h, x -> exp(e) x, v -> exp(-e) v, with

    e = -beta n dt / (3 tau) (P0 - P) + sqrt(2 D n dt) W,   D = k_B T beta / (3 V tau)

where P is the pressure tensor, and W a symmetric matrix of normal numbers with variance 1 on its diagonal and 1/2 off it. Isotropic
is a third of the trace of e, times the unit matrix. The stationary density is exp(-(K + U + P0 V) / k_B T), per volume, or for the
full cell per d^9 h / V^2. A rotation of the cell changes no energy, so the antisymmetric part of W is left out. Between these moves
velocities are rescaled stochastically at every step (`velocity_rescaling`).

Euler's step alone obeys detailed balance up to an error of first order in a = n dt B beta / tau, where B is the bulk modulus of the
system: volumes fluctuate too much. So moves are accepted or rejected, as Metropolis does, and Rossky, Doll and Friedman (1978) with
Euler's steps: with the probability min(1, exp(-w / k_B T)), where

    w = d(K + U + P0 V) - k_B T ln(V' / V) - k_B T ln(p'(-e) / p(e))

is what a move from h to h' adds to the effective energy (Bussi and Parrinello 2007), and p and p' are the densities of a move from h and
from h'. That makes the density above exact for every a; with the defaults and a good guess of B, a is 0.005, and nearly all are accepted.
A move is a mere exchange with baths then: what it changes of K + U is heat.

| symbol | variable |
| --- | --- |
| h, V | `State.cells` (rows are lattice vectors), `.volume` |
| P, P0 | `State.pressure_tensor()`, `Conditions.pressure`, eV/Å^3 |
| beta | `compressibility`, Å^3/eV; it multiplies 1 / tau and nothing else, so a guess, rather too stiff, will do |
| tau | `pressure_time`, Å sqrt(amu / eV) |
| n | `interval`; a move costs an evaluation of the potential |
"""

from dataclasses import replace

import torch

from eqpot.md.matrices import apply_matrices, matrix_function
from eqpot.md.nve import init, update_forces
from eqpot.md.random import BAROSTAT, standard_normal
from eqpot.md.state import Conditions, ForceFunction, State
from eqpot.md.velocity_rescaling import step as rescaling_step

__all__ = ["init", "move_cells", "step"]

INTERVAL = 10
"""Steps between moves of the cell: a tenth of an evaluation more a step, and far below any time in which a cell moves."""


def step(
    state: State,
    force_function: ForceFunction,
    timestep: float,
    conditions: Conditions,
    relaxation_time: float,
    pressure_time: float,
    compressibility: float,
    isotropic: bool,
    interval: int = INTERVAL,
) -> State:
    """Return the state one time step later; the heat of both baths is added to `heat`."""
    state = rescaling_step(state, force_function, timestep, conditions, relaxation_time)
    if state.step % interval:
        return state
    return move_cells(state, force_function, interval * timestep, conditions, compressibility / pressure_time, isotropic)


def move_cells(state: State, force_function: ForceFunction, timestep: float, conditions: Conditions, rate: float, isotropic: bool) -> State:
    """Rescale the cells once, where that is accepted; rate: compressibility over relaxation time of the pressure."""
    n_systems, device = state.n_systems, state.positions.device
    noise = standard_normal([11] * n_systems, 1, conditions.seeds, state.step, BAROSTAT).to(device).view(n_systems, 11)
    mean, variance = _drift(state, conditions, timestep, rate, isotropic)
    strains = _allowed(mean + torch.sqrt(variance) * noise[:, :9].view(n_systems, 3, 3), isotropic)
    new = update_forces(strained(state, strains), force_function)
    back, back_variance = _drift(new, conditions, timestep, rate, isotropic)
    thermal, free = conditions.thermal_energy, 1 if isotropic else 6
    change = new.total_energy - state.total_energy + conditions.pressure * (new.volume - state.volume)
    forwards = _log_density(strains - mean, variance, free)
    backwards = _log_density(-strains - back, back_variance, free)
    work = change / thermal - torch.log(new.volume / state.volume) - backwards + forwards
    # Half the squares of two normal numbers are minus the logarithm of a uniform one. An energy that is no number passes, to be seen.
    rejected = work > noise[:, 9:].square().sum(dim=1) / 2
    new = replace(new, heat=new.heat + new.total_energy - state.total_energy)
    return new.with_systems_of(state, rejected)


def strained(state: State, strains: torch.Tensor) -> State:
    """Apply symmetric strains e [n_systems, 3, 3]: exp(e) to cells and positions, exp(-e) to velocities."""
    grow, shrink = matrix_function(strains, torch.exp), matrix_function(-strains, torch.exp)
    return replace(
        state,
        positions=apply_matrices(state.positions, state.of_atoms(grow)),
        velocities=apply_matrices(state.velocities, state.of_atoms(shrink)),
        cells=apply_matrices(state.cells, grow.unsqueeze(1)),
    )


def _drift(state: State, conditions: Conditions, timestep: float, rate: float, isotropic: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and variance (of a diagonal entry) of the strain of a move, [n_systems, 3, 3] and [n_systems, 1, 1]."""
    unit = torch.eye(3, dtype=torch.float64, device=state.positions.device)
    excess = state.pressure_tensor() - conditions.pressure.view(-1, 1, 1) * unit
    variance = 2 * timestep * rate * conditions.thermal_energy / (3 * state.volume)
    return _allowed(rate * timestep / 3 * excess, isotropic), variance.view(-1, 1, 1)


def _allowed(strains: torch.Tensor, isotropic: bool) -> torch.Tensor:
    """Return the symmetric part, or the isotropic one."""
    if isotropic:
        trace = strains[:, 0, 0] + strains[:, 1, 1] + strains[:, 2, 2]
        return (trace / 3).view(-1, 1, 1) * torch.eye(3, dtype=strains.dtype, device=strains.device)
    return (strains + strains.transpose(1, 2)) / 2


def _log_density(deviations: torch.Tensor, variance: torch.Tensor, free: int) -> torch.Tensor:
    """Return the logarithm [n_systems] of the normal density of a strain, up to a constant."""
    # Isotropic deviations are d times the unit matrix, where d has a third of the variance: their nine squares sum to 3 d^2.
    return -deviations.square().sum(dim=(1, 2)) / (2 * variance.view(-1)) - 0.5 * free * torch.log(variance.view(-1))
