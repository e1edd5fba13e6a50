"""MACE: the size of its rMD17 runs, the small one of MACE-MP-0, and the smallest equivariant one."""

from collections.abc import Sequence
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

from structures import average_neighbors, make_structure
from workers.learner import Labelled, Learner, fit_job, statistics_of, training_step
from workers.serve import Server, job_of_process, single_points

SIZES: dict[str, dict[str, Any]] = {
    "rmd17": {"hidden_irreps": o3.Irreps("256x0e+256x1o"), "r_max": 5.0, "num_bessel": 8},
    "64x0e+64x1o": {"hidden_irreps": o3.Irreps("64x0e+64x1o"), "r_max": 5.0, "num_bessel": 8},
    "mp-small": {"hidden_irreps": o3.Irreps("128x0e"), "r_max": 6.0, "num_bessel": 10, "elements": range(1, 90)},
}


def make_model(name: str, atoms: Atoms, mean_energy: float = 0.0, scale: float = 1.0) -> torch.nn.Module:
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
        atomic_energies=np.full(len(elements), mean_energy),
        avg_num_neighbors=average_neighbors(atoms, size["r_max"]),
        atomic_inter_scale=scale,
        atomic_inter_shift=0.0,
        use_reduced_cg=False,
    )


class MaceLearner(Learner):
    """The settings of MACE's rMD17 runs (Batatia et al. 2022): batches of 5, AMSGrad at 0.01, EMA 0.99, energy to force 1 : 1000."""

    gradient_clip = 10.0
    ema_decay = 0.99

    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model
        self.table = AtomicNumberTable(model.atomic_numbers.tolist())
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True)
        self.loss_function = WeightedEnergyForcesLoss(energy_weight=1.0, forces_weight=1000.0)

    def prepare(self, frames: Sequence[Labelled]) -> list[Any]:
        keys = data.KeySpecification(info_keys={"energy": "label_energy"}, arrays_keys={"forces": "label_forces"})
        items = []
        for frame in frames:
            atoms = frame.atoms.copy()
            atoms.info["label_energy"], atoms.arrays["label_forces"] = frame.energy, frame.forces
            configuration = data.config_from_atoms(atoms, key_specification=keys)
            items.append(data.AtomicData.from_config(configuration, z_table=self.table, cutoff=float(self.model.r_max)))
        return items

    def loss(self, items: Sequence[Any]) -> torch.Tensor:
        batch = Batch.from_data_list(items)
        return self.loss_function(pred=self.model(batch.to_dict(), training=True, compute_force=True), ref=batch)

    def predict(self, items: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        result = self.model(Batch.from_data_list(items).to_dict(), compute_force=True)
        return result["energy"], result["forces"]


def learner(job: dict[str, Any], frames: Sequence[Labelled]) -> MaceLearner:
    mean, scale = statistics_of(frames)
    atoms = frames[0].atoms
    model = make_model(job["model"], atoms, mean, scale)
    return MaceLearner(model)


def main() -> None:
    torch.set_default_dtype(getattr(torch, job_of_process()["dtype"]))
    if "fit" in job_of_process():
        fit_job(learner)
        return
    server = Server()
    job = server.job
    atoms = make_structure(job["system"])
    model = make_model(job["model"], atoms)
    if "batch" in job:
        step = training_step(MaceLearner(model), atoms, job["batch"])
    else:
        calculator = MACECalculator(models=[model], device="cpu", default_dtype=job["dtype"], compile_mode="default")
        step = single_points(atoms, calculator)
    server.run(step, atoms=len(atoms))


if __name__ == "__main__":
    main()
