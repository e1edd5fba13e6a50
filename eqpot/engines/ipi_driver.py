"""The driver of i-PI: all beads that i-PI sends at once are one batch of the potential.

In an input of i-PI, with the path that `eqpot ipi-driver-path` prints:

    <ffdirect name='eqpot'> <pes>custom</pes> <pes_path>PATH</pes_path> <batch_size>8</batch_size>
      <parameters>{template: start.xyz, model: potential.safetensors}</parameters> </ffdirect>

or behind a socket: i-pi-py_driver -m custom -P PATH -o template=start.xyz,model=potential.safetensors -u -a NAME.
"""

from typing import Any

import ase.io
import numpy as np
import torch
from ase import Atoms
from ipi.pes.dummy import Dummy_driver
from ipi.utils.units import unit_to_internal, unit_to_user

from eqpot import load_potential
from eqpot.errors import SimulationError
from eqpot.graph import AtomGraph
from eqpot.neighbors import VerletList

__DRIVER_NAME__ = "eqpot"
__DRIVER_CLASS__ = "EqpotDriver"


class EqpotDriver(Dummy_driver):  # type: ignore[misc]
    """Energies, forces and virials of a potential; `template` is a file that ASE reads, with elements and boundary conditions."""

    def __init__(self, template: str, model: str, dtype: str = "float64", *args: Any, **kwargs: Any) -> None:
        self.template, self.model, self.dtype = template, model, dtype
        super().__init__(*args, **kwargs)

    def check_parameters(self) -> None:
        """Load the potential and the template; called by i-PI. Raises what `load_potential` raises, and for elements it does not know."""
        self.potential = load_potential(self.model, dtype=self.dtype)
        atoms: Atoms = ase.io.read(self.template)  # type: ignore[assignment]
        self.numbers = torch.tensor(atoms.numbers, dtype=torch.int64)
        self.potential.check_elements(self.numbers)
        self.pbc = torch.tensor(atoms.pbc)
        self.neighbors = VerletList(self.potential.cutoff)

    def compute(self, cell: Any, pos: Any) -> Any:
        """Return energy, forces [n_atoms, 3], virial [3, 3] and extras of a structure, or a list of them for a list; atomic units."""
        several = isinstance(pos, list)
        cells, places = (cell, pos) if several else ([cell], [pos])
        # i-PI has lattice vectors as columns.
        rows = torch.tensor(np.array([unit_to_user("length", "angstrom", one.T) for one in cells]))
        positions = torch.tensor(np.concatenate([unit_to_user("length", "angstrom", one.reshape(-1, 3)) for one in places]))
        count = len(places)
        if len(positions) != count * len(self.numbers):
            raise SimulationError(
                f"i-PI sends {len(positions) // count} atoms, and the template {self.template} has {len(self.numbers)}; start the driver "
                "with the structure that i-PI was started with."
            )
        batch = torch.arange(count).repeat_interleave(len(self.numbers))
        edge_index, shifts = self.neighbors.candidates(positions, rows, self.pbc.expand(count, 3), batch)
        found = self.potential.evaluate(AtomGraph(positions, self.numbers.repeat(count), rows, edge_index, shifts, batch))
        virials = -found["stress"] * torch.linalg.det(rows).abs().view(-1, 1, 1)
        forces = found["forces"].view(count, -1, 3)
        results = [
            (
                unit_to_internal("energy", "electronvolt", float(found["energy"][number])),
                unit_to_internal("force", "ev/ang", forces[number].numpy()),
                unit_to_internal("energy", "electronvolt", virials[number].numpy()),
                "",
            )
            for number in range(count)
        ]
        return results if several else results[0]
