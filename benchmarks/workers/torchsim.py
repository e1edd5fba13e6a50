"""torch-sim's NVE with one of eqpot's shipped potentials: the same network, kernel and kept neighbour list behind another integrator."""

import torch
from torch_sim import io
from torch_sim.integrators import nve
from torch_sim.units import MetalUnits

from dynamics import STRUCTURES, WARM_UP, model
from eqpot import load_potential
from eqpot.engines.torchsim import EqpotModel
from eqpot.md import Settings, Simulation
from workers.serve import Server


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
