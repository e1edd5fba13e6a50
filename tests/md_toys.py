"""Systems whose statistical mechanics are known: oscillators, free gases, and a crystal held by springs to its cell."""

import math

import numpy as np
import torch

from eqpot.md.state import Conditions, State
from eqpot.units import BOLTZMANN

STIFFNESS = 5.0


def harmonic(positions, cells):
    """Independent oscillators about the origin, all of one system."""
    energy = 0.5 * STIFFNESS * positions.square().sum().view(1)
    return energy, -STIFFNESS * positions, torch.zeros_like(cells)


def free(positions, cells):
    """An ideal gas of any number of systems."""
    return torch.zeros(len(cells), dtype=torch.float64), torch.zeros_like(positions), torch.zeros_like(cells)


def make_state(positions, velocities, masses, function, cells=None, batch=None):
    batch = torch.zeros(len(positions), dtype=torch.int64) if batch is None else batch
    cells = torch.zeros(1, 3, 3, dtype=torch.float64) if cells is None else cells
    energy, forces, stress = function(positions, cells)
    heat = torch.zeros(len(cells), dtype=torch.float64)
    return State(positions, velocities, forces, masses, torch.ones_like(masses), batch, cells, energy, stress, heat)


def conditions(n_freedom, temperature=300.0, pressure=0.0, seeds=(0,)):
    shape = [len(seeds)]
    return Conditions(
        torch.full(shape, temperature, dtype=torch.float64),
        torch.full(shape, pressure, dtype=torch.float64),
        torch.full(shape, n_freedom),
        tuple(seeds),
    )


def oscillators(n=200, temperature=300.0, seed=0, function=harmonic):
    random = np.random.default_rng(seed)
    masses = torch.full((n, 1), 12.0, dtype=torch.float64)
    positions = torch.from_numpy(random.normal(size=(n, 3))) * math.sqrt(BOLTZMANN * temperature / STIFFNESS)
    velocities = torch.from_numpy(random.normal(size=(n, 3))) * torch.sqrt(BOLTZMANN * temperature / masses)
    return make_state(positions, velocities, masses, function)


def gas(n=20, temperature=300.0, n_systems=8, volume=5000.0, seed=0):
    """An ideal gas in cubic cells."""
    random = np.random.default_rng(seed)
    edge, masses = volume ** (1 / 3), torch.full((n * n_systems, 1), 12.0, dtype=torch.float64)
    positions = torch.from_numpy(random.uniform(0, edge, size=(n * n_systems, 3)))
    velocities = torch.from_numpy(random.normal(size=(n * n_systems, 3))) * torch.sqrt(BOLTZMANN * temperature / masses)
    cells = edge * torch.eye(3, dtype=torch.float64).expand(n_systems, 3, 3)
    return make_state(positions, velocities, masses, free, cells, torch.arange(n_systems).repeat_interleave(n))


def elastic(reference, bulk_modulus=0.5, shear_modulus=0.3):
    """Atoms that do not interact in a cell with an energy of its shape: a strained Hookean solid (finite strain E = (F^T F - 1) / 2)."""
    inverse, volume = torch.linalg.inv(reference), float(torch.linalg.det(reference).abs())

    def energy_of(cells):
        deformation = torch.matmul(inverse, cells)
        strain = (torch.matmul(deformation, deformation.transpose(1, 2)) - torch.eye(3, dtype=torch.float64)) / 2
        trace = strain.diagonal(dim1=1, dim2=2).sum(dim=1)
        return volume * (0.5 * bulk_modulus * trace.square() + shear_modulus * strain.square().sum(dim=(1, 2)))

    def function(positions, cells):
        shear = torch.zeros_like(cells).requires_grad_()
        energy = energy_of(torch.matmul(cells, torch.eye(3, dtype=torch.float64) + (shear + shear.transpose(1, 2)) / 2))
        (gradient,) = torch.autograd.grad(energy.sum(), shear)
        return energy.detach(), torch.zeros_like(positions), gradient / torch.linalg.det(cells).abs().view(-1, 1, 1)

    return function
