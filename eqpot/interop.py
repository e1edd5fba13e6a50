"""pymatgen objects in and out: energies as ComputedStructureEntry, relaxed structures with their site properties."""

from typing import TYPE_CHECKING

from ase import Atoms
from ase.calculators.calculator import Calculator
from ase.stress import voigt_6_to_full_3x3_stress

from eqpot.errors import DataError, SimulationError
from eqpot.properties.relaxation import relax as relax_atoms
from eqpot.units import GIGAPASCAL

if TYPE_CHECKING:
    from pymatgen.core.structure import Molecule, Structure
    from pymatgen.entries.computed_entries import ComputedStructureEntry


def to_atoms(structure: "Structure | Molecule") -> Atoms:
    """Return ASE atoms of a pymatgen structure (cell in Å, periodic as its lattice is) or molecule (no cell).

    Selective dynamics becomes constraints; other site properties are nothing that a potential sees and stay behind.
    Raises DataError, naming the sites, where a site is partly occupied, shared by several elements, or holds none.
    """
    from pymatgen.core.periodic_table import DummySpecies
    from pymatgen.io.ase import AseAtomsAdaptor

    disordered = [f"{number} ({site.species_string})" for number, site in enumerate(structure) if not site.is_ordered]
    if disordered:
        shown = ", ".join(disordered[:5]) + (f" and {len(disordered) - 5} more" if len(disordered) > 5 else "")
        raise DataError(
            f"The structure {structure.formula} is disordered at site {shown}; make it ordered first, "
            "for example by pymatgen's OrderDisorderedStructureTransformation."
        )
    for number, site in enumerate(structure):
        if isinstance(site.specie, DummySpecies):
            raise DataError(f"Site {number} of {structure.formula} holds {site.species_string}, which is no element; replace or remove it.")
    atoms = AseAtomsAdaptor.get_atoms(structure)
    return Atoms(numbers=atoms.numbers, positions=atoms.positions, cell=atoms.cell, pbc=atoms.pbc, constraint=atoms.constraints)


def computed_entry(structure: "Structure", calculator: Calculator) -> "ComputedStructureEntry":
    """Evaluate a structure as it is and return pymatgen's entry of it, ready for phase diagrams.

    The entry's energy is that of the whole structure in eV. Its data are lists: `forces` [n_atoms][3] (eV/Å), `stress` [3][3] (GPa,
    tension positive as in ASE; VASP's and matcalc's signs and units differ), `energies` [n_atoms] (eV). Its parameters are those of the
    calculator. The entry holds a copy of the structure with its labels and site properties.
    Raises DataError as `to_atoms` does.
    """
    from pymatgen.entries.computed_entries import ComputedStructureEntry

    atoms = to_atoms(structure)
    atoms.calc = calculator
    data = {
        "forces": atoms.get_forces(apply_constraint=False).tolist(),
        "stress": (voigt_6_to_full_3x3_stress(atoms.get_stress(apply_constraint=False)) / GIGAPASCAL).tolist(),
        "energies": atoms.get_potential_energies().tolist(),
    }
    return ComputedStructureEntry(structure.copy(), atoms.get_potential_energy(), parameters=calculator.todict(), data=data)


def relax(
    structure: "Structure | Molecule", calculator: Calculator, fmax: float = 0.01, steps: int = 500, cell: bool = True
) -> "Structure | Molecule":
    """Return the structure at its minimum of energy: same sites in the same order, with their labels and site properties.

    fmax: largest force in eV/Å; where the `cell` of a periodic structure relaxes too, also the largest stress times the volume of an
    atom, in eV (ASE's FrechetCellFilter). Selective dynamics is kept to.
    Raises DataError as `to_atoms` does, SimulationError where `steps` do not suffice, and what `eqpot.properties.relax` raises.
    """
    from pymatgen.core.lattice import Lattice
    from pymatgen.core.structure import Structure

    atoms = to_atoms(structure)
    atoms.calc = calculator
    if not relax_atoms(atoms, fmax, steps, "full" if isinstance(structure, Structure) and cell else "none").converged:
        raise SimulationError(
            f"{structure.formula} has not relaxed to {fmax} eV/Å in {steps} steps; allow more steps or start nearer a minimum."
        )
    relaxed = structure.copy()
    if isinstance(relaxed, Structure):
        relaxed.lattice = Lattice(atoms.cell.array, pbc=relaxed.lattice.pbc)
    for site, position in zip(relaxed, atoms.positions, strict=True):
        site.coords = position
    return relaxed
