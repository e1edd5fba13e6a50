"""Properties of silicon and ethanol through ASE with the shipped potentials, beside DFT and experiment: ten seconds.

python benchmarks/properties.py
"""

from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, molecule
from ase.calculators.calculator import Calculator
from ase.constraints import FixInternals
from ase.mep import NEB
from ase.optimize import BFGS

from eqpot import EqpotCalculator
from eqpot.properties import Phonons, equation_of_state, phonons, relax, vibrations
from eqpot.units import GIGAPASCAL

ROOT = Path(__file__).parents[1]
STRAINED = ROOT / "examples" / "data" / "silicon_strained.extxyz"
NEUTRON_FREQUENCIES = {
    "Γ": [0, 0, 0, 15.53, 15.53, 15.53],
    "X": [4.49, 4.49, 12.32, 12.32, 13.90, 13.90],
    "L": [3.43, 3.43, 11.35, 12.60, 14.68, 14.68],
}
"""Silicon at room temperature, THz: Dolling (1963); Nilsson and Nelin, Phys. Rev. B 6, 3777 (1972)."""
WAVENUMBERS_OF_DFT = np.array(
    [252, 293, 407, 795, 891, 1014, 1105, 1137, 1229, 1246, 1331, 1402, 1409, 1428, 1462, 2877, 2905, 2978, 3070, 3076, 3720]
)
BARRIER_OF_DFT, GAUCHE_OF_DFT = 154.9, -16.1
"""Ethanol in PBE/def2-SVP, printed by benchmarks/ethanol_dft.py: harmonic wavenumbers of trans (1/cm); barrier of the
methyl torsion, gauche minus trans (meV)."""
METHYLENE, METHYL, OXYGEN, HYDROXYL = 1, 0, 2, 3
"""Atoms of `ethanol`; those of the methyl group are METHYL_HYDROGENS, the first in the plane of the heavy atoms."""
METHYL_HYDROGENS = [4, 5, 6]


def calculator(name: str) -> EqpotCalculator:
    return EqpotCalculator(ROOT / "potentials" / name / "potential.safetensors", dtype="float64")


def relaxed(atoms: Atoms, calc: Calculator, fmax: float = 1e-4, cell: str = "none") -> Atoms:
    atoms.calc = calc
    if not relax(atoms, fmax, 500, cell).converged:
        raise RuntimeError(f"{atoms.symbols} has not relaxed in 500 steps")
    return atoms


def relaxed_silicon(calc: Calculator) -> Atoms:
    """Return the primitive cell with cell and positions at the minimum."""
    return relaxed(bulk("Si"), calc, 1e-5, "full")


def elastic_constants(atoms: Atoms, strain: float = 5e-3) -> dict[str, float]:
    """Return C11, C12, C44 and C44 with atoms that only follow the cell, in GPa, from central differences of the stress."""

    def stress(size: float, axes: tuple[int, int], relax: bool) -> np.ndarray:
        deformation = np.eye(3)
        deformation[axes] += size / 2
        deformation[axes[::-1]] += size / 2
        strained = atoms.copy()
        strained.set_cell(atoms.cell.array @ deformation, scale_atoms=True)
        strained.calc = atoms.calc
        return (relaxed(strained, atoms.calc, 1e-5) if relax else strained).get_stress() / GIGAPASCAL

    def slope(axes: tuple[int, int], relax: bool) -> np.ndarray:
        return (stress(strain, axes, relax) - stress(-strain, axes, relax)) / (2 * strain)

    stretch = slope((0, 0), True)
    return {"C11": stretch[0], "C12": stretch[1], "C44": slope((1, 2), True)[3], "C44, atoms unrelaxed": slope((1, 2), False)[3]}


def elastic_constants_of_the_data() -> dict[str, float]:
    """Return those of the DFT data of the fit: central differences between frames stretched by 2 % or sheared by 4 %, atoms unrelaxed."""
    compressed, stretched, *sheared = ase.io.read(STRAINED, ":")
    stretch = (stretched.get_stress() - compressed.get_stress()) / GIGAPASCAL
    stretch /= (stretched.cell[0, 0] - compressed.cell[0, 0]) * 2 / (stretched.cell[1, 1] + compressed.cell[1, 1])
    shear = (sheared[0].get_stress() - sheared[1].get_stress())[3] / GIGAPASCAL
    shear /= (sheared[0].cell[2, 1] - sheared[1].cell[2, 1]) / sheared[0].cell[2, 2]
    return {"C11": stretch[0], "C12": stretch[1], "C44, atoms unrelaxed": shear}


def at_special_points(of: Phonons) -> dict[str, np.ndarray]:
    """Return frequencies in THz [n_modes] by the name of the point."""
    return {name: of.bands[index] for _, name, index in of.ticks()}


def ethanol(calc: Calculator, fmax: float = 1e-4) -> Atoms:
    """Return trans-ethanol at its minimum, the atoms in the order that this file's names give."""
    atoms = molecule("CH3CH2OH")
    distances, symbols = atoms.get_all_distances(), np.array(atoms.get_chemical_symbols())
    oxygen = int(np.flatnonzero(symbols == "O")[0])
    methylene, methyl = sorted(np.flatnonzero(symbols == "C"), key=lambda index: distances[index, oxygen])
    hydrogens = np.flatnonzero(symbols == "H")
    hydroxyl = min(hydrogens, key=lambda index: distances[index, oxygen])
    of_methyl = sorted(hydrogens, key=lambda index: distances[index, methyl])[:3]
    of_methyl.sort(key=lambda index: abs(atoms.get_dihedral(oxygen, methylene, methyl, index) - 180))
    rest = sorted(set(hydrogens) - {hydroxyl, *of_methyl})
    return relaxed(atoms[[methyl, methylene, oxygen, hydroxyl, *of_methyl, *rest]], calc, fmax)


def with_methyl_turned(trans: Atoms, angle: float) -> Atoms:
    """Return a copy with the methyl group turned by `angle` degrees, rigidly."""
    turned = trans.copy()
    start = trans.get_dihedral(OXYGEN, METHYLENE, METHYL, METHYL_HYDROGENS[0])
    turned.set_dihedral(OXYGEN, METHYLENE, METHYL, METHYL_HYDROGENS[0], start + angle, indices=METHYL_HYDROGENS)
    return turned


def with_hydroxyl_turned(trans: Atoms, angle: float) -> Atoms:
    """Return a copy with C-C-O-H at `angle` degrees."""
    turned = trans.copy()
    turned.set_dihedral(METHYL, METHYLENE, OXYGEN, HYDROXYL, angle, indices=[HYDROXYL])
    return turned


def methyl_saddle(trans: Atoms, calc: Calculator, fmax: float = 1e-4) -> Atoms:
    """Return the eclipsed methyl group; the mirror plane lets a fixed angle find the saddle."""
    saddle = with_methyl_turned(trans, 180.0)
    saddle.set_constraint(FixInternals(dihedrals_deg=[[0.0, [OXYGEN, METHYLENE, METHYL, METHYL_HYDROGENS[0]]]]))
    return relaxed(saddle, calc, fmax)


def methyl_band(trans: Atoms, n_images: int = 7) -> list[Atoms]:
    """Return the images of a climbing NEB from one minimum of the methyl torsion to the next, ends included."""
    images = [with_methyl_turned(trans, angle) for angle in np.linspace(0, 120, n_images)]
    for image in images:
        image.calc = trans.calc
    relaxed(images[-1], trans.calc)
    band = NEB(images, climb=True, method="improvedtangent", remove_rotation_and_translation=True, allow_shared_calculator=True)
    if not BFGS(band, logfile=None).run(fmax=0.01, steps=200):
        raise RuntimeError("The band has not relaxed in 200 steps.")
    return images


def gauche_minus_trans(trans: Atoms) -> float:
    """Return the energy of the gauche minimum above that of trans, meV."""
    gauche = relaxed(with_hydroxyl_turned(trans, 60.0), trans.calc)
    return 1000 * (gauche.get_potential_energy() - trans.get_potential_energy())


def barrier(images: list[Atoms]) -> float:
    """Return the highest energy above the first image, meV."""
    energies = [image.get_potential_energy() for image in images]
    return 1000 * (max(energies) - energies[0])


HALL = "experiment, Hall, Phys. Rev. 161, 756 (1967)"
NEUTRONS = "neutrons, Dolling (1963), Nilsson and Nelin, Phys. Rev. B 6, 3777 (1972)"
DATA = "DFT data of the fit, PBE"
DFT = "PBE/def2-SVP, `benchmarks/ethanol_dft.py`"


def silicon_rows() -> list[tuple[str, str, str, str]]:
    atoms = relaxed_silicon(calculator("silicon"))
    measured, data = elastic_constants(atoms), elastic_constants_of_the_data()
    lattice = float(ase.io.read(STRAINED).cell[1, 1]) / 2
    rows = [
        ("silicon, lattice constant, Å", f"{(4 * atoms.get_volume()) ** (1 / 3):.4f}", f"{lattice:.4f}", DATA),
        (
            "bulk modulus from energies, GPa",
            f"{equation_of_state(atoms).bulk_modulus:.1f}",
            f"{(data['C11'] + 2 * data['C12']) / 3:.1f}",
            DATA,
        ),
    ]
    rows += [(f"{name}, GPa", f"{measured[name]:.1f}", f"{value:.1f}", DATA) for name, value in data.items()]
    rows.append(("C44, GPa", f"{measured['C44']:.1f}", "79.5", HALL))
    bands = at_special_points(phonons(atoms))
    for name, values in NEUTRON_FREQUENCIES.items():
        at_point = bands[name]
        shown = sorted({round(value, 2): f"{own:.2f}" for value, own in zip(values, at_point, strict=True) if value}.items())
        reference = ", ".join(f"{value:.2f}" for value, _ in shown)
        rows.append((f"phonons at {name}, THz", ", ".join(own for _, own in shown), reference, NEUTRONS))
    return rows


def ethanol_rows() -> list[tuple[str, str, str, str]]:
    trans = ethanol(calculator("ethanol"))
    values = vibrations(trans).wavenumbers
    difference = abs(values - WAVENUMBERS_OF_DFT)
    height = f"{barrier(methyl_band(trans)):.1f}"
    gauche = f"{gauche_minus_trans(trans):.1f}"
    return [
        ("ethanol, harmonic O-H stretch, 1/cm", f"{values[-1]:.0f}", f"{WAVENUMBERS_OF_DFT[-1]:.0f}", DFT),
        ("C-H stretches, 1/cm", *(", ".join(f"{value:.0f}" for value in of[-6:-1]) for of in (values, WAVENUMBERS_OF_DFT)), DFT),
        ("all 21 wavenumbers, mean and largest difference, 1/cm", f"{difference.mean():.1f}, {difference.max():.1f}", "", DFT),
        ("barrier of the methyl torsion by NEB, meV", height, f"{BARRIER_OF_DFT:.1f}", DFT),
        ("the same", height, "145.5", "experiment, Kakar and Quade, J. Chem. Phys. 72, 4300 (1980)"),
        ("gauche minus trans, meV", gauche, f"{GAUCHE_OF_DFT:.1f}", DFT),
        ("the same", gauche, "4.9", "experiment, Pearson, Brauer, Drouin, J. Mol. Spectrosc. 251, 394 (2008)"),
    ]


def main() -> None:
    print("| property | eqpot | reference | source |\n| --- | --- | --- | --- |")
    for row in [*silicon_rows(), *ethanol_rows()]:
        print("| {} | {} | {} | {} |".format(*row))


if __name__ == "__main__":
    main()
