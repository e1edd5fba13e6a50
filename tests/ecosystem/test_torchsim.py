"""torch-sim with a potential; its own check of models, results against the calculator, and a batched run."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from ase.build import bulk

from eqpot import EqpotCalculator, load_potential
from helpers import ROOT, random_potential

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("ignore")]  # other packages' warnings are theirs
SILICON = ROOT / "potentials" / "silicon" / "potential.safetensors"


@pytest.fixture(autouse=True)
def _installed():
    pytest.importorskip("torch_sim", reason="torch-sim 0.3 is for Python 3.11")


def test_the_interface():
    from torch_sim.models.interface import validate_model_outputs

    from eqpot.engines.torchsim import EqpotModel

    validate_model_outputs(EqpotModel(random_potential([14, 26])), torch.device("cpu"), torch.float64)


def test_a41_equals_the_calculator_and_conserves_energy():
    from torch_sim import io
    from torch_sim.integrators import nve
    from torch_sim.units import MetalUnits

    from eqpot.engines.torchsim import EqpotModel

    structures = [bulk("Si", cubic=True), bulk("Si") * (2, 2, 2)]
    for number, atoms in enumerate(structures):
        atoms.rattle(0.05, seed=number)
    start, update = nve(
        EqpotModel(load_potential(SILICON, dtype="float64")),
        dt=torch.tensor(1e-3 * MetalUnits.time, dtype=torch.float64),
        kT=torch.tensor(300 * MetalUnits.temperature, dtype=torch.float64),
    )
    state = start(io.atoms_to_state(structures, torch.device("cpu"), torch.float64))
    for number, atoms in enumerate(structures):
        atoms.calc = EqpotCalculator(SILICON, dtype="float64")
        assert float(state.energy[number]) == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
        forces = state.forces[state.system_idx == number].numpy()
        np.testing.assert_allclose(forces, atoms.get_forces(), rtol=0, atol=1e-10)
    totals = []
    for _ in range(50):
        state = update(state)
        totals.append(float(state.energy.sum() + (state.momenta.square().sum(dim=1) / (2 * state.masses)).sum()))
    assert np.ptp(totals) / len(state.positions) < 2e-4


def test_float32_states_without_a_kernel():
    from torch_sim import io

    from eqpot.engines.torchsim import EqpotModel

    model = EqpotModel(random_potential([14]))
    assert model.potential.fused_kernel() is None
    energies = [model(io.atoms_to_state([bulk("Si")], torch.device("cpu"), dtype))["energy"] for dtype in (torch.float32, torch.float64)]
    torch.testing.assert_close(*energies, rtol=1e-5, atol=1e-5)


def test_the_deck(tmp_path):
    command = [sys.executable, ROOT / "md" / "engines" / "torchsim" / "silicon_nvt.py", "--steps", "20"]
    said = subprocess.run(command, check=True, cwd=tmp_path, capture_output=True, text=True, timeout=300).stdout
    assert said.startswith("20 steps")
