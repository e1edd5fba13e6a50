"""SchNetPack: PaiNN and SchNet with 128 channels and three interactions, as its configurations for rMD17 have them."""

import torch
from ase import Atoms
from schnetpack import atomistic, nn, representation
from schnetpack.data.loader import _atoms_collate_fn
from schnetpack.interfaces.ase_interface import AtomsConverter, SpkCalculator
from schnetpack.model import NeuralNetworkPotential
from schnetpack.transform import MatScipyNeighborList

from structures import make_structure
from workers.serve import Server, Step, endless_batches, labelled_frames, single_points

CUTOFF = 5.0
NETWORKS = {"painn": representation.PaiNN, "schnet": representation.SchNet}


def make_model(name: str, dtype: torch.dtype) -> NeuralNetworkPotential:
    network = NETWORKS[name](128, 3, nn.GaussianRBF(20, CUTOFF), cutoff_fn=nn.CosineCutoff(CUTOFF))
    return NeuralNetworkPotential(
        representation=network,
        input_modules=[atomistic.PairwiseDistances()],
        output_modules=[atomistic.Atomwise(n_in=128, output_key="energy"), atomistic.Forces()],
    ).to(dtype)


def training_step(model: NeuralNetworkPotential, atoms: Atoms, batch: int, dtype: torch.dtype) -> Step:
    converter = AtomsConverter(MatScipyNeighborList(CUTOFF), dtype=dtype)
    frames = []
    for moved, energy, forces in labelled_frames(atoms):
        inputs = {key: value for key, value in converter(moved).items() if key != "_idx_m"}
        frames.append((inputs, energy, torch.tensor(forces, dtype=dtype)))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    batches = endless_batches(len(frames), batch)

    def step() -> None:
        inputs, energies, forces = zip(*(frames[i] for i in next(batches)), strict=True)
        result = model(_atoms_collate_fn(list(inputs)))
        loss = 0.01 * (result["energy"] - torch.tensor(energies, dtype=dtype)).square().mean()
        loss = loss + 0.99 * (result["forces"] - torch.cat(forces)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def main() -> None:
    server = Server()
    job = server.job
    atoms, dtype = make_structure(job["system"]), getattr(torch, job["dtype"])
    model = make_model(job["model"], dtype)
    if "batch" in job:
        step = training_step(model, atoms, job["batch"], dtype)
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
