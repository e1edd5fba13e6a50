"""TorchScript; A40."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms, units

from eqpot import EqpotCalculator, load_potential
from eqpot.errors import EqpotError
from eqpot.export import torchscript
from eqpot.export.torchscript import export_torchscript
from eqpot.graph import collate
from eqpot.model_file import read_header
from eqpot.neighbors import build_graph
from helpers import crystal, ethanol

pytestmark = pytest.mark.filterwarnings("ignore:.*torch.jit.*")

RUN = """
import sys
sys.modules["eqpot"] = None  # any import of eqpot fails
import numpy as np, torch
module = torch.jit.load(sys.argv[1])
arrays = {name: torch.from_numpy(value) for name, value in np.load(sys.argv[2]).items()}
np.savez(sys.argv[3], cutoff=module.cutoff, **module(**arrays))
"""


@pytest.mark.parametrize("atoms", [ethanol(), crystal(), crystal(pbc=[True, False, True])], ids=["molecule", "crystal", "slab"])
def test_a_process_without_eqpot_gets_the_numbers_of_the_calculator(tmp_path, model_path, atoms):
    export_torchscript(load_potential(model_path), tmp_path / "p.pt")
    atoms.positions += 100.0
    np.savez(tmp_path / "in.npz", positions=atoms.positions, numbers=atoms.numbers.astype(np.int64), cell=atoms.cell.array, pbc=atoms.pbc)
    command = [sys.executable, "-W", "ignore", "-c", RUN, *(str(tmp_path / name) for name in ("p.pt", "in.npz", "out.npz"))]
    subprocess.run(command, check=True, cwd=tmp_path)
    result = np.load(tmp_path / "out.npz")
    atoms.calc = EqpotCalculator(model_path, dtype="float64")
    np.testing.assert_allclose(result["energies"], atoms.get_potential_energies(), rtol=1e-10)
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
    with pytest.raises(torch.jit.Error, match="it knows H, C, O"):
        module(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([79]), torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3).bool())


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), [[5.0, 0, 0], [0, 5, 0], [5, 5, 0]]])
def test_what_the_calculator_refuses_is_refused(tmp_path, model_path, cell):
    export_torchscript(load_potential(model_path), tmp_path / "p.pt")
    loaded, atoms = torch.jit.load(str(tmp_path / "p.pt")), ethanol()
    places, numbers = torch.tensor(atoms.positions), torch.tensor(atoms.numbers)
    with pytest.raises(torch.jit.Error, match="zero or linearly dependent"):
        loaded(places, numbers, torch.tensor(np.array(cell)), torch.tensor([True, True, True]))
    with pytest.raises(torch.jit.Error, match="NaN or infinity"):
        loaded(places * torch.nan, numbers, torch.zeros(3, 3), torch.tensor([False, False, False]))


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
def test_without_gradients_there_are_no_forces(tmp_path, model_path, mode):
    export_torchscript(load_potential(model_path), tmp_path / "p.pt")
    module = torch.jit.load(tmp_path / "p.pt")
    with mode(), pytest.raises(torch.jit.Error, match="cannot run under no_grad or inference_mode"):
        module(torch.zeros(1, 3, dtype=torch.float64), torch.tensor([6]), torch.zeros(3, 3, dtype=torch.float64), torch.zeros(3).bool())


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


@pytest.mark.parametrize(("way", "name"), [("own list", "forces"), ("given list", "stress")])
def test_a40_every_result_is_compared_whoever_finds_the_pairs(tmp_path, model_path, monkeypatch, way, name):
    honest = torch.jit.load

    def tampered(buffer):
        module = honest(buffer)

        def spoiled(function, this):
            return lambda *inputs: {key: 1.001 * value if (this, key) == (way, name) else value for key, value in function(*inputs).items()}

        forward = spoiled(module, "own list")
        forward.edges = spoiled(module.edges, "given list")
        return forward

    monkeypatch.setattr(torchscript.torch.jit, "load", tampered)
    with pytest.raises(EqpotError, match="nothing was written"):
        export_torchscript(load_potential(model_path, dtype="float64"), tmp_path / "p.pt")


def test_several_structures_at_once(tmp_path, model_path):
    potential = load_potential(model_path)
    export_torchscript(potential, tmp_path / "p.pt")
    structures = [ethanol(), crystal(), crystal(pbc=[True, False, True])]
    whole = collate([build_graph(atoms, potential.cutoff) for atoms in structures])
    pbc = torch.tensor(np.array([atoms.pbc for atoms in structures]))
    found = torch.jit.load(tmp_path / "p.pt").batch(whole.positions, whole.numbers, whole.cells, pbc, whole.batch)
    for name, expected in potential(*whole.tensors()).items():
        torch.testing.assert_close(found[name], expected, rtol=0, atol=1e-10 * float(expected.abs().max()))


def test_gromacs_gets_its_units(tmp_path, model_path):
    potential, atoms = load_potential(model_path), crystal()
    export_torchscript(potential, tmp_path / "p.pt", gromacs=True)
    inputs = (atoms.positions / 10, atoms.numbers, atoms.cell.array / 10)
    energy, forces = torch.jit.load(tmp_path / "p.pt")(*(torch.tensor(value) for value in inputs), torch.tensor(atoms.pbc))
    atoms.calc = EqpotCalculator(model_path, dtype="float64")
    assert energy.dtype == forces.dtype == torch.float32
    assert float(energy) == pytest.approx(atoms.get_potential_energy() / units.kJ * units.mol, rel=1e-6)
    expected = atoms.get_forces() / (units.kJ / units.mol / units.nm)
    np.testing.assert_allclose(forces, expected, atol=1e-6 * abs(expected).max())


def test_the_header_goes_along(tmp_path, model_path):
    header = read_header(model_path).model_dump_json()
    export_torchscript(load_potential(model_path), tmp_path / "p.pt", header)
    files = {"eqpot.json": ""}
    torch.jit.load(tmp_path / "p.pt", _extra_files=files)
    assert files["eqpot.json"].decode() == header


PROGRAM = """
#include <torch/script.h>
#include <iomanip>
#include <iostream>

int main(int, char **arguments) {
  auto module = torch::jit::load(arguments[1]);
  auto real = torch::kFloat64;
  auto positions = torch::tensor({0.1, 0.0, 0.0, 1.2, 1.3, 0.9}, real).view({2, 3});
  auto numbers = torch::tensor({6, 8}, torch::kInt64);
  auto cell = torch::tensor({3.1, 0.0, 0.0, 0.2, 3.0, 0.0, 0.0, 0.4, 3.3}, real).view({3, 3});
  auto pbc = torch::ones({3}, torch::kBool);
  auto results = module.forward({positions, numbers, cell, pbc}).toGenericDict();
  std::cout << std::setprecision(17) << results.at("energy").toTensor().item<double>();
  auto forces = results.at("forces").toTensor().contiguous();
  for (int n = 0; n < 6; n++) std::cout << " " << forces.data_ptr<double>()[n];
}
"""


@pytest.mark.slow
def test_a_program_in_cpp(tmp_path, model_path):
    export_torchscript(load_potential(model_path), tmp_path / "p.pt")
    (tmp_path / "program.cpp").write_text(PROGRAM)
    home = Path(torch.__file__).parent
    includes = ["-isystem", home / "include", "-isystem", home / "include/torch/csrc/api/include"]
    libraries = [f"-L{home / 'lib'}", "-ltorch", "-ltorch_cpu", "-lc10", f"-Wl,-rpath,{home / 'lib'}"]
    flags = ["-std=c++20", f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}"]
    subprocess.run(["g++", *flags, *includes, tmp_path / "program.cpp", *libraries, "-o", tmp_path / "program"], check=True)
    said = subprocess.run([tmp_path / "program", tmp_path / "p.pt"], check=True, capture_output=True, text=True).stdout
    atoms = Atoms("CO", [[0.1, 0, 0], [1.2, 1.3, 0.9]], cell=[[3.1, 0, 0], [0.2, 3.0, 0], [0, 0.4, 3.3]], pbc=True)
    atoms.calc = EqpotCalculator(model_path, dtype="float64")
    expected = [atoms.get_potential_energy(), *atoms.get_forces().ravel()]
    np.testing.assert_allclose(np.array(said.split(), float), expected, rtol=1e-10, atol=1e-10)
