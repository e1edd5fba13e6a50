"""
Attach and relax
================

A shipped potential is a calculator for ASE's atoms: the cell of silicon is relaxed, and energies at other volumes give its bulk modulus.
"""

import numpy as np
from ase.build import bulk
from ase.eos import EquationOfState
from ase.filters import FrechetCellFilter
from ase.optimize import BFGS

from eqpot import EqpotCalculator
from eqpot.units import GIGAPASCAL


def main() -> None:
    atoms = bulk("Si", cubic=True)
    atoms.calc = EqpotCalculator("silicon", dtype="float64")
    BFGS(FrechetCellFilter(atoms), logfile=None).run(fmax=1e-4, steps=50)
    print(f"lattice constant {atoms.cell.lengths().mean():.3f} Å, largest stress {abs(atoms.get_stress()).max() / GIGAPASCAL:.1e} GPa")

    volumes, energies = [], []
    for scale in np.linspace(0.98, 1.02, 7):
        strained = atoms.copy()
        strained.set_cell(atoms.cell * scale, scale_atoms=True)
        strained.calc = atoms.calc
        volumes.append(strained.get_volume())
        energies.append(strained.get_potential_energy())
    modulus = EquationOfState(volumes, energies).fit()[2]
    print(f"bulk modulus {modulus / GIGAPASCAL:.0f} GPa")


if __name__ == "__main__":
    main()
