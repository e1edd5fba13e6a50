"""metatomic with a potential, through its own ASE calculator; A40, A41."""

import json

import numpy as np
import pytest
import torch
from ase.build import bulk, molecule
from typer.testing import CliRunner

from eqpot import EqpotCalculator, load_potential
from eqpot.cli.main import app
from eqpot.errors import EqpotError
from eqpot.model_file import read_header

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("ignore")]  # other packages' warnings are theirs


def structure(name):
    atoms = bulk("Si", cubic=True) * (1, 1, 2) if name == "silicon" else molecule("CH3CH2OH")
    atoms.rattle(0.05, seed=1)
    if name == "silicon":
        atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.1, 1, 0], [0.05, 0.12, 1]], scale_atoms=True)
    return atoms


@pytest.mark.parametrize("name", ["silicon", "ethanol"])
def test_a41_equals_the_calculator(tmp_path, name):
    from metatomic.torch import load_atomistic_model
    from metatomic_ase import MetatomicCalculator

    path = tmp_path / "model.pt"
    said = CliRunner().invoke(app, ["export", name, "--format", "metatomic", "--dtype", "float64", "-o", str(path)])
    assert said.exit_code == 0, said.output
    assert [file.name for file in tmp_path.iterdir()] == ["model.pt"]
    model = load_atomistic_model(str(path))
    header = read_header(name)
    assert json.loads(model.metadata().extra["eqpot"])["elements"] == header.elements
    assert model.capabilities().interaction_range == header.cutoff * header.network.n_blocks
    found, expected = structure(name), structure(name)
    found.calc, expected.calc = MetatomicCalculator(str(path)), EqpotCalculator(name, dtype="float64")
    assert found.get_potential_energy() == pytest.approx(expected.get_potential_energy(), rel=1e-10)
    np.testing.assert_allclose(found.get_forces(), expected.get_forces(), rtol=0, atol=1e-10)
    if name == "silicon":
        stress = expected.get_stress()
        np.testing.assert_allclose(found.get_stress(), stress, rtol=0, atol=1e-10 * abs(stress).max())


def test_a40_what_deviates_is_not_written(tmp_path, monkeypatch):
    from eqpot.engines import metatomic

    potential = load_potential("silicon", dtype="float64")
    honest = metatomic.load_atomistic_model

    def spoilt(path):
        model = honest(path)
        model.module.potential.scale.mul_(1 + 1e-6)
        return model

    monkeypatch.setattr(metatomic, "load_atomistic_model", spoilt)
    with pytest.raises(EqpotError, match="deviates from eager"):
        metatomic.export_metatomic(potential, tmp_path / "model.pt")
    assert not list(tmp_path.iterdir())
    assert torch.is_grad_enabled()
