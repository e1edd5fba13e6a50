"""SchNetPack: PaiNN and SchNet with 128 channels and three interactions, as its configurations for rMD17 have them."""

from collections.abc import Sequence
from typing import Any

import torch
from schnetpack import atomistic, nn, representation
from schnetpack.data.loader import _atoms_collate_fn
from schnetpack.interfaces.ase_interface import AtomsConverter, SpkCalculator
from schnetpack.model import NeuralNetworkPotential
from schnetpack.transform import MatScipyNeighborList

from structures import make_structure
from workers.learner import KCAL_MOL, Labelled, Learner, fit_job, statistics_of, training_step
from workers.serve import Server, job_of_process, single_points

CUTOFF = 5.0
NETWORKS = {"painn": representation.PaiNN, "schnet": representation.SchNet}


def make_model(name: str, dtype: torch.dtype) -> NeuralNetworkPotential:
    network = NETWORKS[name](128, 3, nn.GaussianRBF(20, CUTOFF), cutoff_fn=nn.CosineCutoff(CUTOFF))
    return NeuralNetworkPotential(
        representation=network,
        input_modules=[atomistic.PairwiseDistances()],
        output_modules=[atomistic.Atomwise(n_in=128, output_key="energy"), atomistic.Forces()],
    ).to(dtype)


class SchnetpackLearner(Learner):
    """The settings of PaiNN's MD17 runs (Schütt et al. 2021): batches of 10, AdamW at 0.001, decay 0.01, energy to force 0.05 : 0.95."""

    batch_size = 10

    def __init__(self, model: NeuralNetworkPotential, mean_energy: float = 0.0) -> None:
        self.model, self.mean_energy = model, mean_energy
        self.dtype = next(model.parameters()).dtype
        self.converter = AtomsConverter(MatScipyNeighborList(CUTOFF), dtype=self.dtype)
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)

    def prepare(self, frames: Sequence[Labelled]) -> list[Any]:
        items = []
        for frame in frames:
            inputs = {key: value for key, value in self.converter(frame.atoms).items() if key != "_idx_m"}
            energy = (frame.energy - self.mean_energy * len(frame.atoms)) / KCAL_MOL
            forces = torch.tensor(frame.forces / KCAL_MOL, dtype=self.dtype)
            items.append((inputs, torch.tensor(energy, dtype=self.dtype), forces))
        return items

    def loss(self, items: Sequence[Any]) -> torch.Tensor:
        inputs, energies, forces = zip(*items, strict=True)
        result = self.model(_atoms_collate_fn(list(inputs)))
        energy_loss = (result["energy"] - torch.stack(energies)).square().mean()
        return 0.05 * energy_loss + 0.95 * (result["forces"] - torch.cat(forces)).square().mean()

    def predict(self, items: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        result = self.model(_atoms_collate_fn([item[0] for item in items]))
        counts = torch.tensor([len(item[2]) for item in items])
        return result["energy"].double() * KCAL_MOL + self.mean_energy * counts, result["forces"] * KCAL_MOL


def learner(job: dict[str, Any], frames: Sequence[Labelled]) -> SchnetpackLearner:
    return SchnetpackLearner(make_model(job["model"], getattr(torch, job["dtype"])), statistics_of(frames)[0])


def main() -> None:
    if "fit" in job_of_process():
        fit_job(learner)
        return
    server = Server()
    job = server.job
    atoms, dtype = make_structure(job["system"]), getattr(torch, job["dtype"])
    model = make_model(job["model"], dtype)
    if "batch" in job:
        step = training_step(SchnetpackLearner(model), atoms, job["batch"])
    else:
        model = model.eval().requires_grad_(False)
        stress_key = "stress" if atoms.pbc.any() else None
        if stress_key is None:
            # Scripted it is faster. For the stress the calculator changes the model, which a scripted one does not allow.
            model = torch.jit.script(model)
        neighbors = MatScipyNeighborList(CUTOFF)
        calculator = SpkCalculator(model, neighbors, stress_key=stress_key, energy_unit="eV", dtype=dtype)
        step = single_points(atoms, calculator)
    server.run(step, atoms=len(atoms))


if __name__ == "__main__":
    main()
