"""torch-sim's NVE with one of eqpot's shipped potentials: the same network, kernel and kept neighbour list behind another integrator."""

from typing import Any

import torch
from torch_sim import io
from torch_sim.integrators import nve
from torch_sim.models.interface import ModelInterface
from torch_sim.units import MetalUnits

from dynamics import STRUCTURES, WARM_UP, model
from eqpot import load_potential
from eqpot.graph import AtomGraph
from eqpot.md import Settings, Simulation
from eqpot.neighbors import VerletList
from eqpot.potential import Potential
from workers.serve import Server


class EqpotModel(ModelInterface):
    """A potential as torch-sim wants it; the stress comes along, as in eqpot's dynamics."""

    def __init__(self, potential: Potential) -> None:
        super().__init__()
        self.potential = potential
        self.neighbors = VerletList(potential.cutoff)
        self._device, self._dtype = potential.device, torch.float64
        self._compute_stress = self._compute_forces = True

    def forward(self, state: Any, **_: Any) -> dict[str, torch.Tensor]:
        # Cells have lattice vectors as columns there, and one boundary condition for all.
        cells = state.cell.transpose(1, 2).contiguous()
        pbc = torch.full((len(cells), 3), bool(state.pbc), device=self._device)
        edge_index, shifts = self.neighbors.update(state.positions, cells, pbc, state.system_idx)
        graph = AtomGraph(state.positions, state.atomic_numbers, cells, edge_index, shifts, state.system_idx)
        result = self.potential.evaluate(graph)
        return {name: result[name] for name in ("energy", "forces", "stress")}


def main() -> None:
    server = Server()
    job = server.job
    timestep = torch.tensor(1e-3 * job["timestep"] * MetalUnits.time, dtype=torch.float64)
    potential = load_potential(model(job["system"]))
    # Masses and velocities are those of eqpot's own run.
    simulation = Simulation([STRUCTURES[job["system"]]()] * job["replicas"], potential, Settings(temperature=300.0, seed=0))
    systems = [simulation.current_atoms(system) for system in range(job["replicas"])]
    start, update = nve(EqpotModel(potential), dt=timestep, kT=torch.tensor(0.0, dtype=torch.float64))
    state = start(io.atoms_to_state(systems, potential.device, torch.float64))
    state.masses = simulation.state.masses.squeeze(1)
    state.momenta = simulation.state.masses * simulation.state.velocities
    for _ in range(WARM_UP):
        state = update(state)
    server.run(lambda: update(state), energy=float(state.energy.sum()))


if __name__ == "__main__":
    main()
