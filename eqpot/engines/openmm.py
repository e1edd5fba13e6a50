"""OpenMM: a potential as a PythonForce."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import openmm
from ase import Atoms
from ase.units import kJ, mol, nm
from openmm import unit

from eqpot.calculator import EqpotCalculator


class _Evaluation:
    """What a PythonForce calls at every step; pickled with the potential when a system is serialised."""

    def __init__(self, model: str | Path, numbers: Sequence[int], periodic: bool, dtype: Literal["float32", "float64"]) -> None:
        self.atoms = Atoms(numbers=numbers, positions=np.zeros((len(numbers), 3)), pbc=periodic)
        self.atoms.calc = EqpotCalculator(model, dtype=dtype)

    def __call__(self, state: openmm.State) -> tuple[float, np.ndarray]:
        """Return energy, kJ/mol, and forces [n_atoms, 3], kJ/(mol nm)."""
        self.atoms.positions = state.getPositions(asNumpy=True).value_in_unit(unit.angstrom)
        if self.atoms.pbc.any():
            self.atoms.cell = state.getPeriodicBoxVectors(asNumpy=True).value_in_unit(unit.angstrom)
        forces = self.atoms.get_forces()
        return self.atoms.get_potential_energy() / (kJ / mol), forces / (kJ / mol / nm)


def make_force(
    model: str | Path, numbers: Sequence[int], periodic: bool, dtype: Literal["float32", "float64"] = "float32"
) -> openmm.PythonForce:
    """Return the force of a potential on atoms of the elements `numbers`, for `openmm.System.addForce`.

    periodic: whether to use the periodic box of the system. For some of a system's particles call `setParticles` on the result. OpenMM
    takes no virial from Python, so the pressure is kept by its Monte Carlo barostat. Raises what `EqpotCalculator` raises.
    """
    force = openmm.PythonForce(_Evaluation(model, numbers, periodic, dtype))
    force.setUsesPeriodicBoundaryConditions(periodic)
    return force
