"""metatomic: a potential as its AtomisticModel, which engines with a metatomic interface load."""

import math
import tempfile
import warnings
from pathlib import Path
from typing import Dict, List, Optional

import numpy as np
import torch
from ase import Atoms
from metatensor.torch import Labels, TensorBlock, TensorMap
from metatomic.torch import (
    AtomisticModel,
    ModelCapabilities,
    ModelEvaluationOptions,
    ModelMetadata,
    ModelOutput,
    NeighborListOptions,
    System,
    load_atomistic_model,
)

from eqpot.elements import symbols_of
from eqpot.errors import ConfigError, EqpotError
from eqpot.export.torchscript import TOLERANCE, check_structures
from eqpot.graph import edge_vectors
from eqpot.neighbors import build_graph
from eqpot.network.config import NetworkConfig
from eqpot.potential import Potential


class MetatomicModel(torch.nn.Module):
    """Energies of systems or of their atoms, eV, from the pairs that the engine gives; it takes the derivatives itself.

    Everything but the network is float64. Written for metatomic-torch 0.1.19.
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.neighbors = NeighborListOptions(cutoff=potential.cutoff, full_list=True, strict=True)

    def requested_neighbor_lists(self) -> List[NeighborListOptions]:
        """Return what the engine is to find: all pairs within the cutoff, in both directions."""
        return [self.neighbors]

    def forward(
        self,
        systems: List[System],
        outputs: Dict[str, ModelOutput],
        selected_atoms: Optional[Labels],
    ) -> Dict[str, TensorMap]:
        """Return the energies that are asked for, of all atoms or of those that are selected."""
        results: Dict[str, TensorMap] = {}
        if "energy" not in outputs:
            return results
        per_atom = outputs["energy"].sample_kind == "atom"
        values: List[torch.Tensor] = []
        samples: List[torch.Tensor] = []
        for number, system in enumerate(systems):
            pairs = system.get_neighbor_list(self.neighbors)
            # Vectors go from the first atom of a pair to the second: here from the target to the source.
            source_target = torch.stack([pairs.samples.column("second_atom"), pairs.samples.column("first_atom")]).to(torch.int64)
            energies = self.potential.atomic_energies(pairs.values.view(-1, 3), system.types.to(torch.int64), source_target)
            atoms = torch.arange(len(system), device=energies.device)
            if selected_atoms is not None:
                chosen = selected_atoms.column("system") == number
                atoms = selected_atoms.column("atom")[chosen].to(torch.int64)
            energies = energies.index_select(0, atoms)
            system_index = torch.full_like(atoms, number)
            if per_atom:
                values.append(energies.unsqueeze(1))
                samples.append(torch.stack([system_index, atoms], dim=1))
            else:
                values.append(energies.sum().view(1, 1))
                samples.append(torch.full([1, 1], number, dtype=torch.int64, device=energies.device))
        names = ["system", "atom"] if per_atom else ["system"]
        device = values[0].device
        block = TensorBlock(
            values=torch.cat(values),
            samples=Labels(names, torch.cat(samples).to(torch.int32)),
            components=torch.jit.annotate(List[Labels], []),
            properties=Labels(["energy"], torch.zeros([1, 1], dtype=torch.int32, device=device)),
        )
        results["energy"] = TensorMap(keys=Labels(["_"], torch.zeros([1, 1], dtype=torch.int32, device=device)), blocks=[block])
        return results


def export_metatomic(potential: Potential, path: str | Path, header: str = "{}") -> float:
    """Write a potential as a metatomic model and return its largest relative deviation from eager on the check structures.

    The file is loaded again and compared before it gets its name; EqpotError, and no file, if it deviates. header: of the model file,
    kept in the metadata. ConfigError for a potential without cutoff. An engine that divides space among processes takes a shell of
    ghosts as thick as the cutoff times the number of blocks.
    """
    if math.isinf(potential.cutoff):
        raise ConfigError("This potential has no cutoff, which engines with a metatomic interface ask for; export it to TorchScript.")
    config = potential.network.config
    layers = config.n_blocks if isinstance(config, NetworkConfig) else config.num_layers
    capabilities = ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="atom")},
        atomic_types=potential.elements,
        interaction_range=potential.cutoff * layers,
        length_unit="angstrom",
        supported_devices=["cpu", "cuda"],
        dtype="float64",
    )
    description = f"An eqpot potential of {', '.join(symbols_of(potential.elements))}"
    metadata = ModelMetadata(name="eqpot", description=description, extra={"eqpot": header})
    with warnings.catch_warnings(), tempfile.TemporaryDirectory(dir=Path(path).absolute().parent) as folder:
        # It is made of TorchScript, which is deprecated in recent torch.
        warnings.simplefilter("ignore")
        written = Path(folder) / "model.pt"
        AtomisticModel(MetatomicModel(potential).eval(), metadata, capabilities).save(str(written))
        model = load_atomistic_model(str(written))
        # np.max and not max: a NaN must come out.
        deviation = float(np.max([_deviation(potential, model, atoms) for atoms in check_structures(potential)]))
        if not deviation <= TOLERANCE[potential.dtype]:
            raise EqpotError(
                f"The exported model deviates from eager by {deviation:.1e} relative; nothing was written. Please report this."
            )
        written.replace(path)
    return deviation


def _deviation(potential: Potential, model: AtomisticModel, atoms: Atoms) -> float:
    graph = build_graph(atoms, potential.cutoff)
    vectors = edge_vectors(graph.positions, graph.cells, graph.edge_index, graph.shifts, graph.batch)
    expected = potential.energies_and_gradient(vectors.detach(), graph.numbers, graph.edge_index)
    vectors.requires_grad_(True)
    pairs = torch.cat([graph.edge_index.flip(0).t(), graph.shifts], dim=1).to(torch.int32)
    pbc = torch.tensor(atoms.pbc)
    # Lattice vectors that mean nothing are zero there.
    system = System(graph.numbers.to(torch.int32), graph.positions, torch.where(pbc.unsqueeze(1), graph.cells[0], 0.0), pbc)
    neighbors = TensorBlock(
        values=vectors.unsqueeze(2),
        samples=Labels(["first_atom", "second_atom", "cell_shift_a", "cell_shift_b", "cell_shift_c"], pairs),
        components=[Labels.range("xyz", 3)],
        properties=Labels.range("distance", 1),
    )
    system.add_neighbor_list(model.requested_neighbor_lists()[0], neighbors)
    asked = ModelEvaluationOptions(length_unit="angstrom", outputs={"energy": ModelOutput(unit="eV", sample_kind="atom")})
    energies = model([system], asked, check_consistency=True)["energy"].block().values[:, 0]
    (gradient,) = torch.autograd.grad(energies.sum(), vectors)
    found = ((energies, expected[0]), (gradient, expected[1]))
    return float(np.max([float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) if b.numel() else 0.0 for a, b in found]))
