"""Potentials whose statistical mechanics are simple, in the form that `Simulation` calls: an ideal gas, tethered atoms, Lennard-Jones."""

from typing import ClassVar

import torch

from eqpot.graph import AtomGraph, edge_vectors


class SimplePotential:
    """What `Simulation` asks of a potential; children override `evaluate`, which returns what `Potential.evaluate` does."""

    cutoff = 0.5
    device = torch.device("cpu")
    shortest_distances: ClassVar[dict[str, float]] = {}

    def fused_kernel(self) -> "SimplePotential":
        """Memory is no concern."""
        return self

    def evaluate(self, graph: AtomGraph) -> dict[str, torch.Tensor]:
        """Return energy, forces and stress; those of a system do not depend on others."""
        energy = torch.zeros(graph.n_structures, dtype=torch.float64)
        return {"energy": energy, "forces": torch.zeros_like(graph.positions), "stress": torch.zeros_like(graph.cells)}


class NoPairs:
    """A neighbour list that finds none: atoms without pair interactions may lie on top of each other."""

    is_whole = False

    def candidates(self, *_: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.zeros((2, 0), dtype=torch.int64), torch.zeros((0, 3), dtype=torch.int64)


class IdealGas(SimplePotential):
    """No energy at all."""


class Tethers(SimplePotential):
    """Atoms on springs to their sites [n_atoms, 3]: an Einstein crystal; stiffness in eV/Å^2, [n_atoms, 3]. Its stress is left out."""

    def __init__(self, places: torch.Tensor, stiffness: torch.Tensor) -> None:
        self.places, self.stiffness = places, stiffness

    def evaluate(self, graph: AtomGraph) -> dict[str, torch.Tensor]:
        forces = -self.stiffness * (graph.positions - self.places)
        energies = -0.5 * (forces * (graph.positions - self.places)).sum(dim=1)
        energy = torch.zeros(graph.n_structures, dtype=torch.float64).index_add(0, graph.batch, energies)
        return {"energy": energy, "forces": forces, "stress": torch.zeros_like(graph.cells)}


class LennardJones(SimplePotential):
    """4 epsilon ((s/r)^12 - (s/r)^6) times a switch with two derivatives from 0.8 cutoff on; argon (Rahman 1964), cut at 1.5 sigma."""

    def __init__(self, epsilon: float = 0.010324, sigma: float = 3.405, cutoff: float = 5.1) -> None:
        self.epsilon, self.sigma, self.cutoff = epsilon, sigma, cutoff

    def evaluate(self, graph: AtomGraph) -> dict[str, torch.Tensor]:
        vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
        energies, slopes = self.pair(vectors)
        # Every pair has two edges: each gives its target the whole force, and half of energy and virial.
        gradients = slopes.unsqueeze(1) * vectors
        x, y, z = vectors.unbind(1)
        products = torch.stack([x * x, x * y, x * z, y * y, y * z, z * z], dim=1)
        rows = torch.cat([0.5 * energies.unsqueeze(1), gradients, 0.5 * slopes.unsqueeze(1) * products], dim=1)
        atoms = torch.zeros(graph.n_atoms, 10, dtype=torch.float64).index_add(0, graph.edge_index[1], rows)
        systems = torch.zeros(graph.n_structures, 10, dtype=torch.float64).index_add(0, graph.batch, atoms)
        virial = systems[:, [4, 5, 6, 5, 7, 8, 6, 8, 9]].view(-1, 3, 3)
        stress = virial / torch.linalg.det(graph.cells).abs().view(-1, 1, 1)
        return {"energy": systems[:, 0], "forces": atoms[:, 1:4].contiguous(), "stress": stress}

    def pair(self, vectors: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return u(r) and u'(r) / r of edges [n_edges]."""
        squares = vectors.square().sum(dim=1)
        inverse = (self.sigma**2 / squares) ** 3
        energy = 4 * self.epsilon * (inverse * inverse - inverse)
        slope = -24 * self.epsilon * (2 * inverse * inverse - inverse) / squares
        start, end = (0.8 * self.cutoff) ** 2, self.cutoff**2
        x = ((squares - start) / (end - start)).clamp(0.0, 1.0)
        switch = 1 - x**3 * (10 - 15 * x + 6 * x * x)
        # d/d(r^2), and r^2 has the derivative 2 r.
        switch_slope = -30 * x * x * (1 - x) ** 2 / (end - start) * 2
        return energy * switch, slope * switch + energy * switch_slope
