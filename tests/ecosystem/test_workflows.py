"""quacc and janus-core with the calculator object."""

import numpy as np
import pytest
from ase.build import bulk

from eqpot import EqpotCalculator
from helpers import ROOT

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("ignore")]  # other packages' warnings are theirs
MODEL = ROOT / "potentials" / "silicon" / "potential.safetensors"


@pytest.fixture
def calculator():
    return EqpotCalculator(str(MODEL), dtype="float64")


@pytest.fixture
def rattled(calculator):
    atoms = bulk("Si", a=5.43)
    atoms.rattle(0.05, seed=1)
    atoms.calc = calculator
    return atoms


def test_quacc(calculator, rattled, tmp_path, monkeypatch):
    monkeypatch.setenv("QUACC_RESULTS_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    from quacc.recipes.mlip.core import relax_job, static_job

    results = static_job(rattled, "matcalc", name=calculator)["results"]
    assert results["energy"] == pytest.approx(rattled.get_potential_energy(), abs=1e-10)
    np.testing.assert_allclose(results["forces"], rattled.get_forces(), rtol=0, atol=1e-10)
    relaxed = relax_job(rattled, "matcalc", name=calculator, relax_cell=True, opt_params={"fmax": 1e-4})
    assert (4 * relaxed["atoms"].get_volume()) ** (1 / 3) == pytest.approx(5.4692, abs=1e-3)


def test_janus(rattled, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    from janus_core.calculations.geom_opt import GeomOpt
    from janus_core.calculations.single_point import SinglePoint

    energy, forces = rattled.get_potential_energy(), rattled.get_forces()
    results = SinglePoint(struct=rattled, properties=["energy", "forces"], write_results=False).run()
    assert results["energy"] == pytest.approx(energy, abs=1e-10)
    np.testing.assert_allclose(results["forces"], forces, rtol=0, atol=1e-10)
    GeomOpt(struct=rattled, fmax=1e-4, write_results=False).run()
    assert (4 * rattled.get_volume()) ** (1 / 3) == pytest.approx(5.4692, abs=1e-3)
