"""MACE: the size of its rMD17 runs, the small one of MACE-MP-0, and the smallest equivariant one."""

from typing import Any

import numpy as np
import torch
from ase import Atoms
from e3nn import o3
from mace import data, modules
from mace.calculators import MACECalculator
from mace.modules.loss import WeightedEnergyForcesLoss
from mace.tools import AtomicNumberTable
from mace.tools.torch_geometric import Batch
from torch_ema import ExponentialMovingAverage

from structures import average_neighbors, make_structure
from workers.serve import Server, Step, endless_batches, labelled_frames, single_points

SIZES: dict[str, dict[str, Any]] = {
    "rmd17": {"hidden_irreps": o3.Irreps("256x0e+256x1o"), "r_max": 5.0, "num_bessel": 8},
    "64x0e+64x1o": {"hidden_irreps": o3.Irreps("64x0e+64x1o"), "r_max": 5.0, "num_bessel": 8},
    "mp-small": {"hidden_irreps": o3.Irreps("128x0e"), "r_max": 6.0, "num_bessel": 10, "elements": range(1, 90)},
}


def make_model(name: str, atoms: Atoms) -> torch.nn.Module:
    size = dict(SIZES[name])
    first = "RealAgnosticResidualInteractionBlock" if "elements" in size else "RealAgnosticInteractionBlock"
    elements = [int(number) for number in size.pop("elements", np.unique(atoms.numbers))]
    return modules.ScaleShiftMACE(
        **size,
        interaction_cls_first=modules.interaction_classes[first],
        interaction_cls=modules.interaction_classes["RealAgnosticResidualInteractionBlock"],
        num_interactions=2,
        max_ell=3,
        correlation=3,
        MLP_irreps=o3.Irreps("16x0e"),
        radial_MLP=[64, 64, 64],
        gate=torch.nn.functional.silu,
        num_polynomial_cutoff=5,
        num_elements=len(elements),
        atomic_numbers=elements,
        atomic_energies=np.zeros(len(elements)),
        avg_num_neighbors=average_neighbors(atoms, size["r_max"]),
        atomic_inter_scale=1.0,
        atomic_inter_shift=0.0,
        use_reduced_cg=False,
    )


def training_step(model: torch.nn.Module, atoms: Atoms, batch: int) -> Step:
    table, cutoff = AtomicNumberTable(model.atomic_numbers.tolist()), float(model.r_max)
    keys = data.KeySpecification(info_keys={"energy": "label_energy"}, arrays_keys={"forces": "label_forces"})
    frames = []
    for moved, energy, forces in labelled_frames(atoms):
        moved.info["label_energy"], moved.arrays["label_forces"] = energy, forces
        configuration = data.config_from_atoms(moved, key_specification=keys)
        frames.append(data.AtomicData.from_config(configuration, z_table=table, cutoff=cutoff))
    loss_function = WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=1000.0)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True)
    average = ExponentialMovingAverage(model.parameters(), decay=0.99)
    batches = endless_batches(len(frames), batch)

    def step() -> None:
        joined = Batch.from_data_list([frames[i] for i in next(batches)])
        optimizer.zero_grad(set_to_none=True)
        loss = loss_function(pred=model(joined.to_dict(), training=True, compute_force=True), ref=joined)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm=10.0)
        optimizer.step()
        average.update()

    return step


def main() -> None:
    server = Server()
    job = server.job
    torch.set_default_dtype(getattr(torch, job["dtype"]))
    atoms = make_structure(job["system"])
    model = make_model(job["model"], atoms)
    if "batch" in job:
        step = training_step(model, atoms, job["batch"])
    else:
        calculator = MACECalculator(models=[model], device="cpu", default_dtype=job["dtype"], compile_mode="default")
        step = single_points(atoms, calculator)
    server.run(step, atoms=len(atoms))


if __name__ == "__main__":
    main()
