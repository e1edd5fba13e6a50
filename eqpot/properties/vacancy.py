"""The energy that a vacancy costs."""

import numpy as np
from ase import Atoms

from eqpot.errors import ConfigError, DataError, SimulationError
from eqpot.properties.relaxation import relax

FMAX = 1e-3
"""eV/Å: the energy misses its minimum by the square of this over a force constant, for every atom: µeV."""
_RATTLE = 0.05


def vacancy_energy(atoms: Atoms, index: int = 0) -> float:
    """Return the formation energy of a vacancy in eV: of `atoms`, a supercell at rest with a calculator, less its atom `index`.

    E(N - 1) - E(N) (N - 1) / N of a crystal of one element whose sites are all alike; the cell stays, the other atoms relax to FMAX, from
    places displaced by hundredths of an Å (the same at every call), since a vacancy may have less symmetry than its site. The structure
    given is left as it is. Raises DataError where the structure is no crystal of one element, ConfigError for an
    atom that it does not have, SimulationError where it does not relax.
    """
    if not atoms.pbc.all() or len(set(atoms.numbers)) != 1 or len(atoms) < 2:
        raise DataError("The energy of a vacancy needs a supercell of a crystal of one element, periodic in all three directions.")
    if not -len(atoms) <= index < len(atoms):
        raise ConfigError(f"There is no atom {index} to leave out; the supercell's are 0 to {len(atoms) - 1}.")
    defect = atoms.copy()
    defect.set_constraint()
    del defect[index]
    bulk_energy = atoms.get_potential_energy() * len(defect) / len(atoms)
    defect.positions += np.random.default_rng(0).normal(0, _RATTLE, (len(defect), 3))
    defect.calc = atoms.calc
    # L-BFGS may end at the saddle that the site's symmetry makes; FIRE only goes down.
    result = relax(defect, FMAX, optimizer="fire")
    if not result.converged:
        raise SimulationError(f"The supercell with a vacancy has not relaxed to {FMAX} eV/Å in {result.end.step} steps; try another size.")
    return result.end.energy - float(bulk_energy)
