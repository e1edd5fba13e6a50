"""Measure a shipped potential: the numbers of its card.

python benchmarks/measure.py potentials/ethanol --test rmd17_ethanol_test_01.npz
python benchmarks/measure.py potentials/silicon --test Si_test.extxyz.gz --nve-ps 5
"""

import argparse
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from scipy.spatial.transform import Rotation

from eqpot import load_potential
from eqpot.data import label_graphs, read_frames
from eqpot.md import Settings, Simulation
from eqpot.neighbors import build_graph
from eqpot.potential import Potential
from eqpot.training import evaluate
from eqpot.units import GIGAPASCAL


def result_of(potential: Potential, atoms: Atoms) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in potential.evaluate(build_graph(atoms, potential.cutoff)).items()}


def energy_of(potential: Potential, atoms: Atoms) -> float:
    return float(result_of(potential, atoms)["energy"][0])


def rotation_error(potential: Potential, atoms: Atoms, n_rotations: int = 20) -> tuple[float, float]:
    """Return the largest changes of the energy (eV) and of a force component (eV/Å) under rotations and reflections."""
    reference = result_of(potential, atoms)
    energy_error = force_error = 0.0
    for seed in range(n_rotations):
        matrix = Rotation.random(rng=np.random.default_rng(seed)).as_matrix() * (-1) ** seed
        turned = Atoms(atoms.numbers, atoms.positions @ matrix.T, cell=atoms.cell.array @ matrix.T, pbc=atoms.pbc)
        result = result_of(potential, turned)
        energy_error = max(energy_error, abs(float(result["energy"][0] - reference["energy"][0])))
        force_error = max(force_error, float(abs(result["forces"] - reference["forces"] @ matrix.T).max()))
    return energy_error, force_error


def force_deviation(potential: Potential, atoms: Atoms, step: float = 1e-4) -> float:
    """Return the largest difference from central differences, relative to the largest force."""
    forces = result_of(potential, atoms)["forces"]
    numerical = np.zeros_like(forces)
    for index in np.ndindex(*forces.shape):
        energies = []
        for sign in (1, -1):
            moved = atoms.copy()
            moved.positions[index] += sign * step
            energies.append(energy_of(potential, moved))
        numerical[index] = (energies[1] - energies[0]) / (2 * step)
    return float(abs(numerical - forces).max() / abs(forces).max())


def stress_deviation(potential: Potential, atoms: Atoms, step: float = 1e-5) -> float:
    """Return the largest difference from central differences of strain, relative to the largest component."""
    stress = result_of(potential, atoms)["stress"][0]
    numerical = np.zeros((3, 3))
    for i, j in np.ndindex(3, 3):
        energies = []
        for sign in (1, -1):
            strain = np.eye(3)
            strain[i, j] += sign * step / 2
            strain[j, i] += sign * step / 2
            strained = Atoms(atoms.numbers, atoms.positions @ strain, cell=atoms.cell.array @ strain, pbc=atoms.pbc)
            energies.append(energy_of(potential, strained))
        numerical[i, j] = (energies[0] - energies[1]) / (2 * step) / atoms.get_volume()
    return float(abs(numerical - stress).max() / abs(stress).max())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder of a potential: potential.safetensors and structure.extxyz")
    parser.add_argument("--test", type=Path, help="labelled test frames")
    parser.add_argument("--nve-ps", type=float, default=20.0, help="length of the NVE run, ps")
    arguments = parser.parse_args()

    model = arguments.folder / "potential.safetensors"
    single, double = (load_potential(model, dtype=dtype) for dtype in ("float32", "float64"))
    atoms = ase.io.read(arguments.folder / "structure.extxyz")
    atoms.rattle(0.05, seed=0)
    rows = []
    if arguments.test:
        errors = evaluate(single, label_graphs(read_frames(arguments.test), single.cutoff))
        rows += [
            ("energy, MAE / RMSE", "{energy_mae_mev:.2f} / {energy_rmse_mev:.2f} meV".format(**errors)),
            ("energy per atom, MAE / RMSE", "{energy_mae_mev_per_atom:.3f} / {energy_rmse_mev_per_atom:.3f} meV".format(**errors)),
            ("force component, MAE / RMSE", "{force_mae_mev_per_ang:.2f} / {force_rmse_mev_per_ang:.2f} meV/Å".format(**errors)),
        ]
        if "stress_mae_mev_per_ang3" in errors:
            in_gpa = [errors[f"stress_{kind}_mev_per_ang3"] / 1000 / GIGAPASCAL for kind in ("mae", "rmse")]
            rows.append(("stress component, MAE / RMSE", "{:.3f} / {:.3f} GPa".format(*in_gpa)))
    for name, potential in (("float32", single), ("float64", double)):
        energy_error, force_error = rotation_error(potential, atoms)
        rows.append((f"rotation error, {name}", f"{1000 * energy_error / len(atoms):.1e} meV/atom, {1000 * force_error:.1e} meV/Å"))
    a, b = result_of(single, atoms), result_of(double, atoms)
    energy_error = 1000 * abs(float(a["energy"][0] - b["energy"][0])) / len(atoms)
    rows.append(("float32 against float64", f"{energy_error:.1e} meV/atom, {1000 * abs(a['forces'] - b['forces']).max():.1e} meV/Å"))
    rows.append(("forces against central differences, float64", f"{force_deviation(double, atoms):.1e} relative"))
    if atoms.pbc.all():
        rows.append(("stress against central differences, float64", f"{stress_deviation(double, atoms):.1e} relative"))
    settings = Settings(timestep=0.5, temperature=300.0, interval=20)
    simulation = Simulation(ase.io.read(arguments.folder / "structure.extxyz"), double, settings)
    # A rotation about the centre of mass, so that there is angular momentum to conserve.
    velocities = simulation.current_atoms().get_velocities()
    if not atoms.pbc.any():
        centre = simulation.current_atoms().get_center_of_mass()
        spinning = simulation.current_atoms()
        spinning.set_velocities(velocities + np.cross([0.002, 0.003, 0.001], spinning.positions - centre))
        simulation = Simulation(spinning, double, settings)
    before = simulation.state.angular_momentum()
    times, energies = [], []
    for step in range(round(arguments.nve_ps * 1000 / settings.timestep)):
        if step % settings.interval == 0:
            times.append(step * settings.timestep / 1000)
            energies.append(1000 * float(simulation.state.total_energy) / len(atoms))
        simulation.step()
    drift = np.polyfit(times, energies, 1)[0]
    label = f"NVE, {arguments.nve_ps:g} ps at 0.5 fs from 300 K, float64"
    rows.append((f"{label}: drift / fluctuation", f"{drift:.1e} meV/atom/ps / {np.std(energies):.1e} meV/atom"))
    if not atoms.pbc.any():
        change = float((simulation.state.angular_momentum() - before).norm() / before.norm())
        rows.append((f"{label}: change of angular momentum", f"{change:.1e} relative"))
    print("| measured | value |\n| --- | --- |")
    for row in rows:
        print("| {} | {} |".format(*row))


if __name__ == "__main__":
    main()
