"""What the peers' trainings share: one loop, so that only networks, losses and optimizers differ.

Every peer has the published settings of its network, loss and optimizer. One thing is the same for all, eqpot included: the learning
rate falls to zero along a cosine over the budget. Published schedules wait for a plateau that a short run never reaches, and would end at
a high rate; the cosine helps every peer.
"""

import copy
import json
import math
import time
import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from workers.serve import Step, endless_batches, job_of_process, labelled_frames

KCAL_MOL = units.kcal / units.mol

SAVED_EVERY = 60.0
"""Seconds of CPU time between checkpoints."""


@dataclass(frozen=True)
class Labelled:
    """A structure with its energy (eV) and forces (eV/Å)."""

    atoms: Atoms
    energy: float
    forces: np.ndarray


class Learner(ABC):
    """A model with the loss and the optimizer that it was published with; `items` are frames in the form that the model reads."""

    model: torch.nn.Module
    optimizer: torch.optim.Optimizer
    batch_size = 5
    gradient_clip: float | None = None
    ema_decay: float | None = None
    warmup = 0.0
    """Share of the run in which the learning rate rises from zero."""

    @abstractmethod
    def prepare(self, frames: Sequence[Labelled]) -> list[Any]: ...

    @abstractmethod
    def loss(self, items: Sequence[Any]) -> torch.Tensor: ...

    @abstractmethod
    def predict(self, items: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        """Return energies [n_items] in eV and forces [n_atoms, 3] in eV/Å."""

    def step(self, items: Sequence[Any]) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        self.loss(items).backward()
        if self.gradient_clip is not None:
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.gradient_clip)
        self.optimizer.step()


def training_step(learner: Learner, atoms: Atoms, batch: int) -> Step:
    """Return a training step on moved copies of a structure with random labels."""
    items = learner.prepare([Labelled(*frame) for frame in labelled_frames(atoms)])
    batches = endless_batches(len(items), batch)
    return lambda: learner.step([items[i] for i in next(batches)])


def statistics_of(frames: Sequence[Labelled]) -> tuple[float, float]:
    """Return the mean energy per atom (eV) and the root mean square of the force components (eV/Å)."""
    energies = np.array([frame.energy / len(frame.atoms) for frame in frames])
    return float(energies.mean()), float(np.sqrt(np.mean([np.mean(frame.forces**2) for frame in frames])))


def read_rmd17(path: Path) -> list[Labelled]:
    content = np.load(path)
    numbers = content["nuclear_charges"]
    return [
        Labelled(Atoms(numbers, positions), float(energy) * KCAL_MOL, forces * KCAL_MOL)
        for positions, energy, forces in zip(content["coords"], content["energies"], content["forces"], strict=True)
    ]


def fit(
    learner: Learner, train: Sequence[Labelled], test: Sequence[Labelled], seconds: float, checkpoint: Path | None = None
) -> dict[str, Any]:
    """Train for so many seconds of CPU time and return the errors on the test frames, energies of whole structures in meV.

    checkpoint: a file from which a run that was stopped goes on, with no more than SAVED_EVERY seconds lost.
    """
    items, random = learner.prepare(train), np.random.default_rng(0)
    rates = [group["lr"] for group in learner.optimizer.param_groups]
    average = copy.deepcopy(learner.model.state_dict())
    steps, queue, saved = 0, [], 0.0
    if checkpoint and checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        learner.model.load_state_dict(state["model"])
        learner.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["torch"])
        random.bit_generator.state = state["random"]
        average, steps, queue, saved = (state[name] for name in ("average", "steps", "queue", "seconds"))
    started = time.process_time() - saved
    while (progress := (time.process_time() - started) / seconds) < 1:
        for group, rate in zip(learner.optimizer.param_groups, rates, strict=True):
            rising = min(1.0, progress / learner.warmup) if learner.warmup else 1.0
            group["lr"] = rate * rising * 0.5 * (1 + math.cos(math.pi * progress))
        if len(queue) < learner.batch_size:
            queue = random.permutation(len(items)).tolist()
        members, queue = queue[: learner.batch_size], queue[learner.batch_size :]
        learner.step([items[i] for i in members])
        steps += 1
        if learner.ema_decay is not None:
            decay = min(learner.ema_decay, (1 + steps) / (10 + steps))
            for name, value in learner.model.state_dict().items():
                average[name].lerp_(value, 1 - decay) if value.is_floating_point() else average[name].copy_(value)
        if checkpoint and (used := time.process_time() - started) >= saved + SAVED_EVERY:
            saved = used
            state = {"model": learner.model.state_dict(), "optimizer": learner.optimizer.state_dict(), "torch": torch.get_rng_state()}
            state |= {"average": average, "steps": steps, "queue": queue, "seconds": used, "random": random.bit_generator.state}
            torch.save(state, checkpoint.with_suffix(".new"))
            checkpoint.with_suffix(".new").replace(checkpoint)
    used = time.process_time() - started
    if learner.ema_decay is not None:
        learner.model.load_state_dict(average)
    # Some settings learn the constant of the energies last, if they get so far: here all have the one that fits their training frames.
    offset = errors(learner, train)["energy_mean"]
    n_parameters = sum(one.numel() for one in learner.model.parameters())
    return {**errors(learner, test, offset), "steps": steps, "seconds": used, "parameters": n_parameters}


def errors(learner: Learner, frames: Sequence[Labelled], offset: float = 0.0, size: int = 20) -> dict[str, float]:
    """Return errors in meV and meV/Å; offset: taken off the energies of whole structures, meV."""
    energy_errors, force_errors = [], []
    for start in range(0, len(frames), size):
        batch = frames[start : start + size]
        energies, forces = learner.predict(learner.prepare(batch))
        energy_errors.append(energies.detach().double().numpy() - [frame.energy for frame in batch])
        force_errors.append(forces.detach().double().numpy() - np.concatenate([frame.forces for frame in batch]))
    found: dict[str, float] = {}
    for name, parts in (("energy", energy_errors), ("force", force_errors)):
        values = 1000 * np.concatenate(parts)
        if name == "energy":
            values -= offset
            found["energy_mean"] = float(values.mean())
        found[f"{name}_mae"], found[f"{name}_rmse"] = float(np.abs(values).mean()), float(np.sqrt(np.mean(values**2)))
    return found


def fit_job(make: Callable[[dict[str, Any], Sequence[Labelled]], Learner]) -> None:
    """Do the job of the process: train, and print what was measured; make(job, frames) returns the learner."""
    job = job_of_process()
    warnings.simplefilter("ignore")
    torch.set_num_threads(job["threads"])
    torch.manual_seed(job["seed"])
    train, test = (read_rmd17(Path(job[name])) for name in ("train", "test"))
    frames = train[: job["n_train"]]
    result = fit(make(job, frames), frames, test[: job.get("n_test")], job["seconds"], Path(job["checkpoint"]))
    print(f"\n{json.dumps(result)}", flush=True)
