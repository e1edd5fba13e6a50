"""NequIP and Allegro, compiled by AOTInductor once for every size, and NequIP in its rMD17 size, uncompiled."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from allegro.model import AllegroModel
from ase import Atoms
from nequip.data import AtomicDataDict, from_ase
from nequip.data.transforms import ChemicalSpeciesToAtomTypeMapper, NeighborListTransform
from nequip.integrations.ase import NequIPCalculator
from nequip.model import NequIPGNNModel
from nequip.scripts._compile_utils import AOTI_ASE_TARGET, COMPILE_TARGET_DICT
from nequip.utils.aot import aot_export_model
from nequip.utils.aoti_metadata import NEQUIP_AOTI_INPUTS_KEY, NEQUIP_AOTI_OUTPUTS_KEY, serialize_aoti_keys
from nequip.utils.global_state import get_latest_global_state, set_global_state

from structures import average_neighbors, make_structure
from workers.learner import Labelled, Learner, fit_job, statistics_of, training_step
from workers.serve import Server, job_of_process, single_points

ELEMENTS = ["C", "Cu", "H", "O", "Si"]
"""All that occur: elements are embedded, so their number does not change the cost, and one compilation serves every system."""

CUTOFF = {"nequip-tutorial": 5.0, "nequip-l2": 5.0, "nequip-rmd17": 4.0, "allegro-tutorial": 5.0}
UNCOMPILED = ("nequip-rmd17",)
"""Takes tens of minutes to compile."""

_RADIAL = {"radial_mlp_depth": 2, "radial_mlp_width": 64}
NEQUIP: dict[str, dict[str, Any]] = {
    "nequip-tutorial": {"num_layers": 4, "l_max": 1, "parity": True, "num_features": 32, **_RADIAL},
    "nequip-l2": {"num_layers": 4, "l_max": 2, "parity": False, "num_features": 32, **_RADIAL},
    # As in revmd17/revmd17-ethanol-n950-l3.yaml of github.com/mir-group/nequip-input-files; its self-connections see the three elements.
    "nequip-rmd17": {
        "num_layers": 5,
        "l_max": 3,
        "parity": True,
        "num_features": 64,
        "radial_mlp_depth": 3,
        "radial_mlp_width": 64,
        "type_embed_num_features": 3,
        "bessel_trainable": True,
        "per_type_energy_scales_trainable": True,
        "per_type_energy_shifts_trainable": True,
    },
}
ALLEGRO: dict[str, Any] = {
    "num_layers": 2,
    "l_max": 1,
    "parity": True,
    "num_scalar_features": 64,
    "num_tensor_features": 32,
    "radial_chemical_embed_dim": 64,
    "radial_chemical_embed": {
        "_target_": "allegro.nn.TwoBodyBesselScalarEmbed",
        "num_bessels": 8,
        "bessel_trainable": False,
        "polynomial_cutoff_p": 6,
    },
    "tp_path_channel_coupling": True,
    **{f"{part}_hidden_layers_depth": 1 for part in ("scalar_embed_mlp", "allegro_mlp", "readout_mlp")},
    **{f"{part}_hidden_layers_width": 64 for part in ("scalar_embed_mlp", "allegro_mlp", "readout_mlp")},
    **{f"{part}_nonlinearity": "silu" for part in ("scalar_embed_mlp", "allegro_mlp", "readout_mlp")},
}


def make_model(name: str, dtype: str, mean_energy: float = 0.0, scale: float = 1.0, neighbors: float = 30.0) -> torch.nn.Module:
    common = {
        "seed": 1,
        "model_dtype": dtype,
        "type_names": ELEMENTS,
        "r_max": CUTOFF[name],
        "avg_num_neighbors": neighbors,
        "per_type_energy_scales": scale,
        "per_type_energy_shifts": mean_energy,
    }
    if name in NEQUIP:
        return NequIPGNNModel(**common, num_bessels=8, polynomial_cutoff_p=6, **NEQUIP[name])
    return AllegroModel(**common, **ALLEGRO)


def to_data(atoms: Atoms, cutoff: float) -> AtomicDataDict.Type:
    mapper = ChemicalSpeciesToAtomTypeMapper(model_type_names=ELEMENTS)
    return NeighborListTransform(r_max=cutoff)(mapper(from_ase(atoms)))


def compiled_model(name: str, dtype: str) -> Path:
    """Return the compiled model, made by what `nequip-compile --mode aotinductor --target ase` calls, from random weights."""
    path = Path(os.environ["EQPOT_PEERS"]) / "compiled" / f"{name}-{dtype}.nequip.pt2"
    if path.exists():
        return path
    path.parent.mkdir(exist_ok=True)
    model = make_model(name, dtype).eval()
    target = COMPILE_TARGET_DICT[AOTI_ASE_TARGET]
    bounds = {kind: torch.export.dynamic_shapes.Dim(f"num_{kind}s", min=2) for kind in ("graph", "node", "edge")}
    metadata = {**model.metadata, **get_latest_global_state(only_metadata_related=True)}
    metadata = {key: str(int(value)) if isinstance(value, bool) else str(value) for key, value in metadata.items()}
    metadata[NEQUIP_AOTI_INPUTS_KEY] = serialize_aoti_keys(target["input"])
    metadata[NEQUIP_AOTI_OUTPUTS_KEY] = serialize_aoti_keys(target["output"])
    unfinished = path.with_name(f"{os.getpid()}-{path.name}")
    aot_export_model(
        model=model,
        device="cpu",
        input_fields=target["input"],
        output_fields=target["output"],
        data=target["data_settings"](to_data(make_structure("si64"), CUTOFF[name])),
        batch_map=target["batch_map_settings"](bounds),
        output_path=str(unfinished),
        inductor_configs={"aot_inductor.metadata": metadata},
    )
    return unfinished.rename(path)


def calculator(name: str, dtype: str) -> NequIPCalculator:
    if name in UNCOMPILED:
        model = make_model(name, dtype).eval().requires_grad_(False)
        transforms = [ChemicalSpeciesToAtomTypeMapper(model_type_names=ELEMENTS), NeighborListTransform(r_max=CUTOFF[name])]
        return NequIPCalculator(model, "cpu", transforms=transforms)
    return NequIPCalculator.from_compiled_model(compiled_model(name, dtype), device="cpu")


class NequipLearner(Learner):
    """The settings of NequIP's rMD17 inputs (named above): batches of 5, AMSGrad at 0.01, EMA 0.99, energies to forces 1 : 1000."""

    ema_decay = 0.99

    def __init__(self, model: torch.nn.Module, cutoff: float) -> None:
        self.model, self.cutoff = model.train(), cutoff
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True)

    def prepare(self, frames: Sequence[Labelled]) -> list[Any]:
        dtype = torch.get_default_dtype()
        return [
            (
                to_data(frame.atoms, self.cutoff),
                torch.tensor([[frame.energy / len(frame.atoms)]], dtype=torch.float64),
                torch.tensor(frame.forces, dtype=dtype),
            )
            for frame in frames
        ]

    def predict(self, items: Sequence[Any]) -> tuple[torch.Tensor, torch.Tensor]:
        result = self.model(AtomicDataDict.batched_from_list([item[0] for item in items]))
        return result[AtomicDataDict.TOTAL_ENERGY_KEY].view(-1), result[AtomicDataDict.FORCE_KEY]

    def loss(self, items: Sequence[Any]) -> torch.Tensor:
        energies, forces = self.predict(items)
        counts = torch.tensor([len(item[2]) for item in items])
        targets = torch.cat([item[1] for item in items]).view(-1)
        energy_loss = (energies - counts * targets).square().mean()
        return energy_loss + 1000 * (forces - torch.cat([item[2] for item in items])).square().mean()


def learner(job: dict[str, Any], frames: Sequence[Labelled]) -> NequipLearner:
    mean, scale = statistics_of(frames)
    cutoff = CUTOFF[job["model"]]
    neighbors = average_neighbors(frames[0].atoms, cutoff)
    return NequipLearner(make_model(job["model"], job["dtype"], mean, scale, neighbors), cutoff)


def main() -> None:
    set_global_state(allow_tf32=False)
    if "fit" in job_of_process():
        fit_job(learner)
        return
    server = Server()
    job = server.job
    atoms = make_structure(job["system"])
    if "batch" in job:
        model = make_model(job["model"], job["dtype"])
        step = training_step(NequipLearner(model, CUTOFF[job["model"]]), atoms, job["batch"])
    else:
        step = single_points(atoms, calculator(job["model"], job["dtype"]))
    server.run(step, atoms=len(atoms))


if __name__ == "__main__":
    main()
