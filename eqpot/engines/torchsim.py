"""torch-sim: a potential as its ModelInterface."""

from typing import Any

import torch
from torch_sim.models.interface import ModelInterface

from eqpot.graph import AtomGraph
from eqpot.neighbors import VerletList
from eqpot.potential import Potential


class EqpotModel(ModelInterface):  # type: ignore[misc]
    """Energies [n_systems], forces [n_atoms, 3] and stresses [n_systems, 3, 3] of a batch; float64, the network in its own dtype.

    Written for torch-sim 0.3. Pairs are kept from step to step (`VerletList`).
    """

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.neighbors = VerletList(potential.cutoff)
        self._device, self._dtype = potential.device, torch.float64
        self._compute_stress = self._compute_forces = True
        self._memory_scales_with = "n_atoms_x_density"

    def forward(self, state: Any, **_: Any) -> dict[str, torch.Tensor]:
        """Evaluate a SimState, or a dictionary of its fields."""
        fields = state if isinstance(state, dict) else vars(state)
        positions, numbers, systems = fields["positions"].double(), fields["atomic_numbers"], fields.get("system_idx")
        # Cells have lattice vectors as columns there, and one boundary condition for all.
        cells = fields["cell"].double().transpose(-2, -1).contiguous().view(-1, 3, 3)
        if systems is None:
            systems = torch.zeros_like(numbers)
        pbc = torch.full((len(cells), 3), bool(fields["pbc"]), device=positions.device)
        edge_index, shifts = self.neighbors.candidates(positions, cells, pbc, systems)
        result = self.potential.evaluate(AtomGraph(positions, numbers, cells, edge_index, shifts, systems))
        return {name: result[name] for name in ("energy", "forces", "stress")}
