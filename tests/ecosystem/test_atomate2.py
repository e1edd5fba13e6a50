"""atomate2 and jobflow with the calculator by its name."""

import pytest
from pymatgen.core import Lattice, Structure

import eqpot
from eqpot.interop import to_atoms
from helpers import ROOT

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("ignore")]  # other packages' warnings are theirs
PARAMETERS = {"model": str(ROOT / "potentials" / "silicon" / "potential.safetensors"), "dtype": "float64"}
FORCE_FIELD = {"force_field_name": {"@module": "eqpot", "@callable": "EqpotCalculator"}, "calculator_kwargs": PARAMETERS}


@pytest.fixture
def silicon():
    structure = Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]).get_primitive_structure()
    structure.perturb(0.05, seed=0)
    return structure


def run(job, folder):
    from jobflow import run_locally

    return run_locally(job, ensure_success=True, root_dir=folder)[job.uuid][1].output


def test_static(silicon, tmp_path):
    from atomate2.forcefields.jobs import ForceFieldStaticMaker

    output = run(ForceFieldStaticMaker(**FORCE_FIELD).make(silicon), tmp_path).output
    atoms = to_atoms(silicon)
    atoms.calc = eqpot.EqpotCalculator(**PARAMETERS)
    assert output.energy == pytest.approx(atoms.get_potential_energy(), abs=1e-10)
    assert output.forces == pytest.approx(atoms.get_forces(), abs=1e-9)


def test_relaxation(silicon, tmp_path):
    from atomate2.forcefields.jobs import ForceFieldRelaxMaker

    document = run(ForceFieldRelaxMaker(relax_kwargs={"fmax": 1e-4}, **FORCE_FIELD).make(silicon), tmp_path)
    assert (4 * document.output.structure.volume) ** (1 / 3) == pytest.approx(5.4692, abs=1e-3)
    assert document.is_force_converged
    assert document.forcefield_name == "EqpotCalculator"
    assert document.forcefield_version is not None
