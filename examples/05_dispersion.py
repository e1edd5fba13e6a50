"""
Dispersion on top
=================

Silicon in PBE and in PBE + D3(BJ): the shipped potential alone, and with the dispersion of simple-dftd3 added by ASE.
"""

import numpy as np
from ase import Atoms
from ase.build import bulk
from ase.calculators.calculator import Calculator
from ase.calculators.mixing import SumCalculator
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from eqpot import EqpotCalculator
from eqpot.units import GIGAPASCAL

try:
    from dftd3.ase import DFTD3
except ModuleNotFoundError:
    raise SystemExit("The D3 correction is in the package dftd3; install it by: python -m pip install dftd3") from None


def bulk_modulus(atoms: Atoms) -> float:
    """Return the bulk modulus in GPa from energies at seven volumes."""
    volumes, energies = [], []
    for scale in np.linspace(0.98, 1.02, 7):
        strained = atoms.copy()
        strained.set_cell(atoms.cell * scale, scale_atoms=True)
        strained.calc = atoms.calc
        volumes.append(strained.get_volume())
        energies.append(strained.get_potential_energy())
    return EquationOfState(volumes, energies).fit()[2] / GIGAPASCAL


def main() -> None:
    # The potential learned PBE, so the correction is the one fitted for PBE.
    pbe = EqpotCalculator("silicon", dtype="float64")
    corrected = SumCalculator([pbe, DFTD3(method="PBE", damping="d3bj")])
    calculators: dict[str, Calculator] = {"PBE": pbe, "PBE + D3(BJ)": corrected}
    for name, calculator in calculators.items():
        atoms = bulk("Si", cubic=True)
        atoms.calc = calculator
        BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=50)
        print(f"{name}: lattice constant {atoms.cell.lengths().mean():.3f} Å, bulk modulus {bulk_modulus(atoms):.1f} GPa")
    print("experiment: lattice constant 5.431 Å, bulk modulus 98 GPa")


if __name__ == "__main__":
    main()
