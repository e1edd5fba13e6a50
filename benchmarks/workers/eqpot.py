"""eqpot: the default network with random weights, through `EqpotCalculator`; the training step as `eqpot train` takes it."""

import tempfile
from pathlib import Path

import ase.io
import numpy as np
import torch
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator

from eqpot import EqpotCalculator, save_potential
from eqpot.neighbors import neighbor_list
from eqpot.network.config import NetworkConfig
from eqpot.network.fibre_bundle import FibreBundleNetwork
from eqpot.potential import Potential
from eqpot.training import TrainConfig, Trainer
from eqpot.training.compiled import choose_step
from eqpot.training.loss import collate_samples
from flops import flops_per_atom
from structures import make_structure
from workers.serve import MOVE, Server, Step, endless_batches, labelled_frames, single_points


def save_random_potential(path: Path, atoms: Atoms, average_neighbors: float) -> None:
    elements = [int(number) for number in np.unique(atoms.numbers)]
    network = FibreBundleNetwork(NetworkConfig(), len(elements), average_neighbors)
    save_potential(Potential(network, elements, torch.zeros(len(elements)), scale=1.0), path)


def training_step(atoms: Atoms, batch: int, dtype: str, compiled: bool, folder: Path) -> Step:
    frames = []
    for moved, energy, forces in labelled_frames(atoms):
        moved.calc = SinglePointCalculator(moved, energy=energy, forces=forces)
        frames.append(moved)
    ase.io.write(folder / "frames.extxyz", frames)
    config = TrainConfig.model_validate(
        {
            "output": folder / "run",
            "dtype": dtype,
            "data": {"train": folder / "frames.extxyz", "reference_energies": "mean"},
            "training": {"batch_size": batch, "compile": compiled, "threads": torch.get_num_threads()},
        }
    )
    trainer = Trainer(config)
    example = collate_samples(trainer.samples[:batch])
    function, is_compiled = choose_step(trainer.potential.network, config.training, example, with_stress=False, n_steps=1)
    if is_compiled != compiled:
        raise RuntimeError("The training step could not be compiled")
    weights = [parameter.detach() for parameter in trainer.parameters]
    loss_weights = weights[0].new_tensor(trainer.schedule.loss_weights)
    batches = endless_batches(len(trainer.samples), batch)

    def step() -> None:
        sample = collate_samples([trainer.samples[i] for i in next(batches)])
        loss, *gradients = function(weights, loss_weights, *sample.tensors())
        trainer._update(loss, gradients, 0.0)

    return step


def list_only(atoms: Atoms, cutoff: float) -> Step:
    start, random = atoms.positions.copy(), np.random.default_rng(0)

    def step() -> None:
        atoms.positions = start + random.normal(scale=MOVE, size=start.shape)
        neighbor_list(atoms, cutoff)

    return step


def main() -> None:
    server = Server()
    job = server.job
    atoms = make_structure(job["system"])
    with tempfile.TemporaryDirectory() as folder:
        if "batch" in job:
            step = training_step(atoms, job["batch"], job["dtype"], job["compiled"], Path(folder))
            server.run(step, atoms=len(atoms))
            return
        config = NetworkConfig()
        neighbors = neighbor_list(atoms, config.cutoff)[0].shape[1] / len(atoms)
        path = Path(folder) / "random.safetensors"
        save_random_potential(path, atoms, neighbors)
        # A list from scratch at every step, as the peers' calculators make it.
        calculator = EqpotCalculator(path, dtype=job["dtype"], skin=0.0)
        step = list_only(atoms, config.cutoff) if job.get("list_only") else single_points(atoms, calculator)
    server.run(step, atoms=len(atoms), flops=len(atoms) * flops_per_atom(config, neighbors))


if __name__ == "__main__":
    main()
