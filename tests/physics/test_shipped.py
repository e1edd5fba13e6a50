"""The shipped potentials, in float64 where rounding is what is asked about; A11, A13, A20, A26."""

import ase.io
import numpy as np
import pytest
import torch
from ase.build import bulk
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS
from scipy.spatial.transform import Rotation

from eqpot import EqpotCalculator, load_potential
from eqpot.config_file import load_config
from eqpot.data import file_hash, label_graphs, read_frames
from eqpot.exactness import cutoff_jump, energy_of, extensivity_error, force_deviation, result_of, rotation_error, stress_deviation
from eqpot.export.torchscript import export_torchscript
from eqpot.md import Settings, Simulation
from eqpot.model_file import read_header
from eqpot.passport import read_passport, rows
from eqpot.training import TrainConfig, evaluate
from eqpot.units import GIGAPASCAL
from helpers import ASPIRIN, ETHANOL, ROOT, SILICON

FOLDERS = {path.name: path for path in sorted((ROOT / "potentials").iterdir()) if path.is_dir()}
EACH = pytest.mark.parametrize("name", FOLDERS)


def model(name):
    return FOLDERS[name] / "potential.safetensors"


def rattled(name):
    atoms = ase.io.read(FOLDERS[name] / "structure.extxyz")
    atoms.rattle(0.05, seed=0)
    return atoms


def test_all_are_there():
    assert set(FOLDERS) == {"MoNbTaW", "acetylacetone", "aspirin", "copper", "ethanol", "rmd17", "silicon", "water"}


@EACH
def test_folder_is_complete_and_its_recipe_is_a_valid_configuration(name):
    files = {"potential.safetensors", "recipe.yaml", "card.md", "passport.json", "structure.extxyz"}
    assert {path.name for path in FOLDERS[name].iterdir()} == files
    assert model(name).stat().st_size < 5_000_000
    header, recipe = read_header(model(name)), load_config(TrainConfig, FOLDERS[name] / "recipe.yaml")
    assert header.network == recipe.network
    assert header.training["training_frames"] == recipe.data.n_train
    assert header.dtype == "float32"


@pytest.mark.parametrize(
    ("name", "data", "energy", "forces"),
    [
        ("aspirin", ASPIRIN, 0.2, 6.0),
        ("ethanol", ETHANOL, 0.17, 4.0),
        ("rmd17", ASPIRIN, 0.25, 8.0),
        ("rmd17", ETHANOL, 0.13, 5.5),
        ("silicon", SILICON, 6.0, 116.0),
    ],
)
def test_errors_on_the_excerpts(name, data, energy, forces):
    """Training frames, a quarter of silicon's surfaces: this finds a broken file. The accuracy is on the card."""
    potential = load_potential(model(name))
    errors = evaluate(potential, label_graphs(read_frames(data), potential.cutoff))
    assert errors["energy_mae_mev_per_atom"] < energy
    assert errors["force_mae_mev_per_ang"] < forces
    if name == "silicon":
        assert errors["stress_mae_mev_per_ang3"] < 270 * GIGAPASCAL


@EACH
def test_a13_rotation_error(name):
    for dtype, energy_bound, force_bound in (("float64", 1e-10, 1e-9), ("float32", 1e-5, 1e-3)):
        atoms = rattled(name)
        energy_error, force_error = rotation_error(load_potential(model(name), dtype=dtype), atoms, n_rotations=5)
        assert energy_error / len(atoms) < energy_bound
        assert force_error < force_bound


@EACH
def test_a11_forces_and_stress_are_derivatives(name):
    potential, atoms = load_potential(model(name), dtype="float64"), rattled(name)
    if name == "silicon":
        atoms = bulk("Si", cubic=True, a=5.4)
        atoms.rattle(0.1, seed=1)
        atoms.set_cell(atoms.cell.array @ [[1.01, 0.03, 0], [0, 0.98, 0.02], [0, 0, 1.03]], scale_atoms=True)
        assert stress_deviation(potential, atoms) < 1e-6
    assert force_deviation(potential, atoms) < 1e-6


@EACH
def test_a20_float32_against_float64(name):
    atoms = rattled(name)
    single, double = (result_of(load_potential(model(name), dtype=dtype), atoms) for dtype in ("float32", "float64"))
    assert abs(single["energy"] - double["energy"])[0] / len(atoms) < 1e-5
    assert abs(single["forces"] - double["forces"]).max() < 1e-3


@EACH
@pytest.mark.filterwarnings("ignore:.*torch.jit.*")
def test_export_equals_eager(name, tmp_path):
    assert export_torchscript(load_potential(model(name), dtype="float64"), tmp_path / "p.pt") < 1e-10


def passport(name):
    return read_passport(FOLDERS[name] / "passport.json")


@EACH
def test_the_passport_is_of_this_file_and_the_card_shows_it(name):
    assert passport(name).model_sha256 == file_hash([model(name)])
    card = (FOLDERS[name] / "card.md").read_text()
    assert all(f"| {row} | {value} |" in card for row, value in rows(passport(name)))


@EACH
def test_smooth_at_the_cutoff_and_extensive(name):
    potential, atoms = load_potential(model(name), dtype="float64"), rattled(name)
    # Rounding differs between processors.
    assert 1000 * cutoff_jump(potential, atoms) < max(1e-5, 2 * passport(name).cutoff_jump_mev_per_ang)
    assert extensivity_error(potential, atoms) < 1e-12


@EACH
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a13_the_calculators_error_under_every_symmetry_is_that_of_the_passport(name, dtype):
    """Rotated, reflected, translated, wrapped and permuted at once; twice the passport's number for other processors' rounding."""
    atoms, calculator = rattled(name), EqpotCalculator(model(name), dtype=dtype)
    energy, forces = calculator.get_potential_energy(atoms), calculator.get_forces(atoms)
    bound = getattr(passport(name), f"rotation_{dtype}")
    for seed in range(10):
        random = np.random.default_rng(seed)
        matrix, order = Rotation.random(rng=random).as_matrix() * (-1) ** seed, random.permutation(len(atoms))
        turned = atoms[order]
        turned.set_cell(atoms.cell.array @ matrix.T)
        turned.positions = turned.positions @ matrix.T + random.uniform(-5, 5, 3)
        turned.wrap()
        # The sum of the energies rounds in another order, and translated positions do: 1e-15 Å times the stiffness of a bond.
        energy_error = abs(calculator.get_potential_energy(turned) - energy) - 8 * np.spacing(abs(energy))
        force_error = abs(calculator.get_forces(turned) - forces[order] @ matrix.T).max() - 1e-12
        assert 1000 * energy_error / len(atoms) < 2 * bound.energy_mev_per_atom
        assert 1000 * force_error < 2 * bound.force_mev_per_ang


@EACH
def test_a20_the_calculators_float32_differs_by_what_the_passport_says(name):
    atoms = rattled(name)
    single, double = (EqpotCalculator(model(name), dtype=dtype) for dtype in ("float32", "float64"))
    bound = passport(name).float32_against_float64
    energy_error = single.get_potential_energy(atoms) - double.get_potential_energy(atoms)
    assert 1000 * abs(energy_error) / len(atoms) < 2 * bound.energy_mev_per_atom
    assert 0 < 1000 * abs(single.get_forces(atoms) - double.get_forces(atoms)).max() < 2 * bound.force_mev_per_ang


def nve_drift(n_steps):
    """Drift in meV/atom/ps of ethanol at 300 K and 0.5 fs, and the relative change of the angular momentum."""
    atoms = ase.io.read(FOLDERS["ethanol"] / "structure.extxyz")
    potential = load_potential(model("ethanol"), dtype="float64")
    atoms = Simulation(atoms, potential, Settings(temperature=300.0)).current_atoms()
    atoms.set_velocities(atoms.get_velocities() + np.cross([0.002, 0.003, 0.001], atoms.positions - atoms.get_center_of_mass()))
    simulation = Simulation(atoms, potential, Settings(timestep=0.5))
    before = simulation.state.angular_momentum()
    energies = [float(simulation.step().total_energy) for _ in range(n_steps)]
    change = torch.linalg.norm(simulation.state.angular_momentum() - before) / torch.linalg.norm(before)
    return np.polyfit(0.0005 * np.arange(n_steps), energies, 1)[0] * 1000 / len(atoms), float(change)


def test_a26_energy_and_angular_momentum_are_conserved():
    drift, change = nve_drift(2000)
    assert abs(drift) < 0.05
    assert change < 1e-8


@pytest.mark.slow
def test_a26_energy_and_angular_momentum_are_conserved_over_20_ps():
    drift, change = nve_drift(40_000)
    assert abs(drift) < 0.05
    assert change < 1e-8


def test_silicon_has_the_lattice_constant_and_bulk_modulus_of_pbe():
    """PBE: 5.47 Å and 89 GPa (Haas, Tran, Blaha, Phys. Rev. B 79, 085104 (2009))."""
    atoms = bulk("Si", cubic=True)
    atoms.calc = EqpotCalculator(model("silicon"), dtype="float64")
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=50)
    assert atoms.cell.lengths().mean() == pytest.approx(5.47, rel=0.005)
    volumes, energies = [], []
    for scale in np.linspace(0.98, 1.02, 7):
        strained = atoms.copy()
        strained.set_cell(atoms.cell * scale, scale_atoms=True)
        volumes.append(strained.get_volume())
        energies.append(energy_of(atoms.calc.potentials[0], strained))
    assert EquationOfState(volumes, energies).fit()[2] / GIGAPASCAL == pytest.approx(89, rel=0.15)
