"""The official PONITA: `eqpot.network.reference`, which the tests compare with it to 1e-10, and the training of its rMD17 script."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.nn import functional

from eqpot.network.reference import build_reference
from eqpot.network.reference_config import ReferenceConfig
from workers.learner import Labelled, Learner, fit_job, statistics_of

CONFIG = ReferenceConfig(input_dim=9, hidden_dim=128, output_dim=1, num_layers=5, num_ori=20, basis_dim=256)
ENERGY_WEIGHT = 1 / 500
TURNS = 5
"""The published errors are those of the mean over so many random rotations of a structure."""


class PonitaLearner(Learner):
    """Defaults of the official script: no cutoff, structures turned at random, Adam at 0.0005, EMA 0.99, clip 0.5, warm-up of 2 %."""

    gradient_clip = 0.5
    ema_decay = 0.99
    warmup = 0.02

    def __init__(self, frames: Sequence[Labelled]) -> None:
        self.mean, self.scale = statistics_of(frames)
        self.model = build_reference(CONFIG)
        self.model.ori_grid.copy_(repelled(CONFIG.num_ori))
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=5e-4)
        numbers, positions, features, edges, batch = collate(self.prepare(frames[: self.batch_size]))[:5]
        self.model.calibrate(numbers, positions, features, edges, batch=batch)

    def prepare(self, frames: Sequence[Labelled]) -> list[Any]:
        items = []
        for frame in frames:
            n_atoms = len(frame.atoms)
            pairs = torch.cartesian_prod(torch.arange(n_atoms), torch.arange(n_atoms)).t()
            numbers, positions = torch.tensor(frame.atoms.numbers), torch.tensor(frame.atoms.positions, dtype=torch.float32)
            energy = torch.tensor((frame.energy - self.mean * n_atoms) / self.scale, dtype=torch.float32)
            items.append((numbers, positions, pairs, energy, torch.tensor(frame.forces / self.scale, dtype=torch.float32)))
        return items

    def evaluate(self, items: Sequence[Any], training: bool) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        _, positions, features, edges, batch, rotations = collate(items)
        positions.requires_grad_()
        vectors = positions[edges[0]] - positions[edges[1]]
        atomic = self.model(vectors, edges, features, positions.new_zeros(len(positions), 0, 3))[0][:, 0]
        energies = torch.zeros(len(items)).index_add(0, batch, atomic)
        (gradient,) = torch.autograd.grad(energies.sum(), positions, create_graph=training)
        return energies, -gradient, rotations[batch]

    def loss(self, items: Sequence[Any]) -> torch.Tensor:
        energies, forces, rotations = self.evaluate(items, training=True)
        targets = torch.einsum("nij,nj->ni", rotations, torch.cat([item[4] for item in items]))
        return ENERGY_WEIGHT * (energies - torch.stack([item[3] for item in items])).square().mean() + (forces - targets).square().mean()

    def predict(self, items: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        total, back = torch.zeros(len(items)), torch.zeros(sum(len(item[0]) for item in items), 3)
        for _ in range(TURNS):
            energies, forces, rotations = self.evaluate(items, training=False)
            total += energies.detach() / TURNS
            back += torch.einsum("nji,nj->ni", rotations, forces) / TURNS
        counts = torch.tensor([len(item[0]) for item in items])
        return total.double() * self.scale + self.mean * counts, back * self.scale


def collate(items: Sequence[Any]) -> tuple[torch.Tensor, ...]:
    """Return numbers, positions, features, edges and structure of each atom, and the rotation that each structure was turned by."""
    counts = torch.tensor([len(item[0]) for item in items])
    batch = torch.repeat_interleave(torch.arange(len(items)), counts)
    first = torch.cumsum(counts, 0) - counts
    numbers = torch.cat([item[0] for item in items])
    rotations = random_rotations(len(items))
    positions = torch.einsum("nij,nj->ni", rotations[batch], torch.cat([item[1] for item in items]))
    edges = torch.cat([item[2] + start for item, start in zip(items, first, strict=True)], dim=1)
    return numbers, positions, functional.one_hot(numbers, CONFIG.input_dim).float(), edges, batch, rotations


def random_rotations(count: int) -> torch.Tensor:
    """[count, 3, 3], uniform: from quaternions of normal numbers."""
    w, x, y, z = functional.normalize(torch.randn(count, 4), dim=1).unbind(1)
    rows = (
        (1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        (2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        (2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack([torch.stack(row, dim=1) for row in rows], dim=1)


def repelled(count: int, steps: int = 500) -> torch.Tensor:
    """Return random points on the sphere that repelled one another, [count, 3]."""
    points = functional.normalize(torch.randn(count, 3), dim=1)
    for _ in range(steps):
        apart = points.unsqueeze(1) - points.unsqueeze(0)
        push = apart / (apart.norm(dim=2, keepdim=True) ** 3 + torch.eye(count).unsqueeze(2))
        points = functional.normalize(points + 0.01 * push.sum(dim=1), dim=1)
    return points


if __name__ == "__main__":
    fit_job(lambda _, frames: PonitaLearner(frames))
