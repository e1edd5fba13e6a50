"""matcalc with the calculator object."""

import numpy as np
import pytest
from pymatgen.core import Lattice, Structure

from eqpot import EqpotCalculator
from eqpot.units import GIGAPASCAL
from helpers import ROOT

pytestmark = [pytest.mark.ecosystem, pytest.mark.filterwarnings("ignore")]  # other packages' warnings are theirs
MODEL = ROOT / "potentials" / "silicon" / "potential.safetensors"


@pytest.fixture
def calculator():
    return EqpotCalculator(str(MODEL), dtype="float64")


@pytest.fixture
def silicon():
    return Structure.from_spacegroup("Fd-3m", Lattice.cubic(5.43), ["Si"], [[0, 0, 0]]).get_primitive_structure()


def test_relaxation(calculator, silicon):
    import matcalc

    assert matcalc.load_fp(calculator) is calculator
    result = matcalc.RelaxCalc(calculator, fmax=1e-4).calc(silicon)
    assert (4 * result["volume"]) ** (1 / 3) == pytest.approx(5.4692, abs=5e-4)


def test_elasticity(calculator, silicon):
    """What eqpot's own script gets from the same potential: C11 148.2, C12 54.2, C44 75.3, bulk modulus 85.5 GPa."""
    from matcalc import ElasticityCalc

    strains = np.array([-5e-3, -2.5e-3, 2.5e-3, 5e-3])
    calculation = ElasticityCalc(
        calculator, fmax=1e-4, norm_strains=strains, shear_strains=strains, relax_structure=True, relax_deformed_structures=True
    )
    result = calculation.calc(silicon)
    tensor = result["elastic_tensor"].convert_to_ieee(silicon).voigt / GIGAPASCAL
    assert result["bulk_modulus_vrh"] / GIGAPASCAL == pytest.approx(85.5, rel=0.01)
    assert tensor[0, 0] == pytest.approx(148.2, rel=0.02)
    assert tensor[0, 1] == pytest.approx(54.2, rel=0.03)
    assert tensor[3, 3] == pytest.approx(75.3, rel=0.02)
