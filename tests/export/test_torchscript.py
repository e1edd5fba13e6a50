"""TorchScript; A40."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from eqpot import EqpotCalculator, load_potential
from eqpot.errors import EqpotError
from eqpot.export import torchscript
from eqpot.export.torchscript import export_torchscript
from eqpot.neighbors import neighbor_list
from helpers import crystal, ethanol

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*")

RUN = """
import sys
sys.modules["eqpot"] = None  # any import of eqpot fails
import numpy as np, torch
module = torch.jit.load(sys.argv[1])
arrays = {name: torch.from_numpy(value) for name, value in np.load(sys.argv[2]).items()}
energy, forces, stress = module(**arrays)
np.savez(sys.argv[3], energy=energy, forces=forces, stress=stress, cutoff=module.cutoff)
"""


@pytest.mark.parametrize("atoms", [ethanol(), crystal(), crystal(pbc=[True, False, True])], ids=["molecule", "crystal", "slab"])
def test_a_process_without_eqpot_gets_the_numbers_of_the_calculator(tmp_path, model_path, atoms):
    export_torchscript(load_potential(model_path), tmp_path / "p.pt")
    edge_index, shifts = neighbor_list(atoms, 4.0)
    np.savez(
        tmp_path / "in.npz",
        positions=atoms.positions,
        numbers=atoms.numbers.astype(np.int64),
        cell=atoms.cell.array,
        edge_index=edge_index,
        shifts=shifts,
    )
    command = [sys.executable, "-W", "ignore", "-c", RUN, *(str(tmp_path / name) for name in ("p.pt", "in.npz", "out.npz"))]
    subprocess.run(command, check=True, cwd=tmp_path)
    result = np.load(tmp_path / "out.npz")
    atoms.calc = EqpotCalculator(model_path, dtype="float64")
    assert float(result["energy"]) == pytest.approx(atoms.get_potential_energy(), rel=1e-10)
    np.testing.assert_allclose(result["forces"], atoms.get_forces(), atol=1e-10 * abs(atoms.get_forces()).max())
    if atoms.cell.rank == 3:
        stress = atoms.get_stress(voigt=False)
        np.testing.assert_allclose(result["stress"], stress, atol=1e-10 * abs(stress).max())
    assert result["cutoff"] == 4.0


def test_float32_is_exported_as_float32(tmp_path, model_path):
    assert export_torchscript(load_potential(model_path, dtype="float32"), tmp_path / "p.pt") < 1e-4
    assert {parameter.dtype for parameter in torch.jit.load(tmp_path / "p.pt").parameters()} == {torch.float32}


def test_an_unknown_element_is_refused_by_the_exported_module(tmp_path, model_path):
    export_torchscript(load_potential(model_path), tmp_path / "p.pt")
    module = torch.jit.load(tmp_path / "p.pt")
    empty = torch.zeros((2, 0), dtype=torch.int64), torch.zeros((0, 3), dtype=torch.int64)
    with pytest.raises(torch.jit.Error, match="it knows H, C, O"):
        module(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([79]), torch.zeros(3, 3, dtype=torch.float64), *empty)


@pytest.mark.parametrize("factor", [1 + 1e-6, float("nan")])
def test_a40_an_export_that_differs_is_not_written(tmp_path, model_path, monkeypatch, factor):
    potential = load_potential(model_path)
    honest = torch.jit.load

    def tampered(buffer):
        module = honest(buffer)
        with torch.no_grad():
            next(module.parameters()).mul_(factor)
        return module

    monkeypatch.setattr(torchscript.torch.jit, "load", tampered)
    with pytest.raises(EqpotError, match="nothing was written"):
        export_torchscript(potential, tmp_path / "p.pt")
    assert not list(tmp_path.iterdir())
