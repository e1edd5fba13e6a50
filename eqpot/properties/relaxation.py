"""Relaxation of positions and cells."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.filters import FrechetCellFilter
from ase.optimize import FIRE, LBFGS

from eqpot.errors import ConfigError, DataError, SimulationError
from eqpot.units import GIGAPASCAL

OPTIMIZERS = {"lbfgs": LBFGS, "fire": FIRE}
CELLS = ("none", "full", "isotropic", "shape")
_FLAT = 1e-6
"""Å: how far out of a Cartesian plane or line a slab's or wire's lattice vectors may lead."""


@dataclass(frozen=True)
class State:
    """A structure on its way: eV, eV/Å, Å^3, GPa. The enthalpy adds volume times pressure asked for; only crystals have the last two."""

    step: int
    energy: float
    enthalpy: float
    largest_force: float
    volume: float | None
    pressure: float | None


@dataclass(frozen=True)
class Relaxation:
    """How a relaxation ended: whether below `fmax`, after how many steps, and where."""

    converged: bool
    start: State
    end: State


def relax(
    atoms: Atoms,
    fmax: float = 0.01,
    steps: int = 500,
    cell: str = "none",
    pressure: float = 0.0,
    optimizer: str = "lbfgs",
    observe: Callable[[State], None] = lambda _: None,
) -> Relaxation:
    """Move `atoms`, which have a calculator, towards the minimum of energy, in place; constraints on atoms are kept to.

    fmax: largest force in eV/Å and, where the cell moves, largest stress times the volume of an atom in eV, as ASE's
    FrechetCellFilter scales it. cell: `none` keeps it, `full` moves all of it (of slabs and wires their periodic directions),
    `isotropic` its size alone, `shape` all but its volume. pressure: GPa, positive compresses; needs a crystal and a cell whose
    volume moves. observe: called with the state before the first step and after each.
    Raises ConfigError for settings without sense, DataError where the structure has not the cell they need, SimulationError where the
    calculator's results are not finite, and what the calculator raises.
    """
    _check(fmax, steps, cell, pressure, optimizer)
    states: list[State] = []
    moving: Any = atoms
    if cell != "none":
        moving = FrechetCellFilter(
            atoms,
            mask=_strain_mask(atoms, cell, pressure),
            hydrostatic_strain=cell == "isotropic",
            constant_volume=cell == "shape",
            scalar_pressure=pressure * GIGAPASCAL,
        )
    # ASE's annotations know nothing of filters and of no log.
    optimization = OPTIMIZERS[optimizer](moving, logfile=cast(Any, None))

    def record() -> None:
        states.append(_state(atoms, optimization.nsteps, pressure))
        observe(states[-1])

    optimization.attach(record)
    with warnings.catch_warnings():
        # scipy's, at every step of a large cell change, of errors of 1e-12.
        warnings.filterwarnings("ignore", message="logm result may be inaccurate", category=RuntimeWarning)
        converged = optimization.run(fmax=fmax, steps=steps)
    return Relaxation(bool(converged), states[0], states[-1])


def with_results(atoms: Atoms) -> Atoms:
    """Return a copy that holds energy and forces, without those of constraints, and the stress where the cell has a volume."""
    copy = atoms.copy()
    results = {"forces": atoms.get_forces(apply_constraint=False), "energy": atoms.get_potential_energy()}
    if atoms.cell.rank == 3:
        results["stress"] = atoms.get_stress(apply_constraint=False)
    copy.calc = SinglePointCalculator(copy, **results)
    return copy


def _check(fmax: float, steps: int, cell: str, pressure: float, optimizer: str) -> None:
    if not fmax > 0:
        raise ConfigError(f"The largest force left, fmax, is {fmax} eV/Å; it must be positive.")
    if steps < 1:
        raise ConfigError(f"{steps} steps are asked for; allow at least 1.")
    if cell not in CELLS:
        raise ConfigError(f"There is no way {cell!r} to relax a cell; choose one of {', '.join(CELLS)}.")
    if optimizer not in OPTIMIZERS:
        raise ConfigError(f"There is no optimizer {optimizer!r}; choose one of {', '.join(OPTIMIZERS)}.")
    if not math.isfinite(pressure):
        raise ConfigError(f"The pressure is {pressure} GPa; give a finite one.")
    if pressure and cell not in ("full", "isotropic"):
        raise ConfigError(f"A pressure of {pressure:g} GPa has no effect at constant volume; let the cell relax, full or isotropic.")


def _strain_mask(atoms: Atoms, cell: str, pressure: float) -> np.ndarray:
    """Return which strains move, [6] in Voigt order: those between periodic directions."""
    if not atoms.pbc.any():
        raise DataError("The structure is not periodic, so it has no cell to relax; relax its atoms alone (cell none).")
    if atoms.cell.rank < 3:
        raise DataError("The structure's cell has no volume; give slabs and wires vectors in their open directions too.")
    if not atoms.pbc.all() and (cell != "full" or pressure):
        what = f"a pressure of {pressure:g} GPa" if pressure else f"the cell relaxation {cell!r}"
        raise DataError(f"The structure is open in some directions, so {what} has no meaning; relax the cell in full, without pressure.")
    periodic = abs(atoms.cell.array[atoms.pbc]).max(axis=0) > _FLAT
    if periodic.sum() > atoms.pbc.sum():
        raise DataError("The periodic directions of the slab or wire are no Cartesian plane or axis; turn the structure so that they are.")
    return np.array([periodic[i] and periodic[j] for i, j in ((0, 0), (1, 1), (2, 2), (1, 2), (0, 2), (0, 1))])


def _state(atoms: Atoms, step: int, pressure: float) -> State:
    forces = np.linalg.norm(atoms.get_forces(), axis=1)
    energy = float(atoms.get_potential_energy())
    if not (np.isfinite(forces).all() and math.isfinite(energy)):
        raise SimulationError(f"Energy or forces are not finite at step {step}; start from a structure more like the potential's data.")
    crystal = bool(atoms.pbc.all())
    volume = float(atoms.get_volume()) if crystal else None
    inside = -float(atoms.get_stress(apply_constraint=False)[:3].mean()) / GIGAPASCAL if crystal else None
    return State(step, energy, energy + pressure * GIGAPASCAL * (volume or 0.0), float(forces.max()), volume, inside)
