"""Properties of crystals and ethanol through ASE with the shipped potentials, beside DFT and experiment: half a minute.

python benchmarks/properties.py [--keep]
"""

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
from ase import Atoms
from ase.build import bulk, make_supercell, molecule
from ase.calculators.calculator import Calculator
from ase.constraints import FixInternals
from ase.mep import NEB
from ase.optimize import BFGS

from eqpot import EqpotCalculator
from eqpot.properties import Phonons, elastic_constants, equation_of_state, phonons, relax, vacancy_energy, vibrations
from eqpot.shipped import shipped
from eqpot.units import GIGAPASCAL
from measured import Table

ROOT = Path(__file__).parents[1]
STRAINED = ROOT / "examples" / "data" / "silicon_strained.extxyz"
NEUTRONS_IN_SILICON = {
    "Γ": [0, 0, 0, 15.53, 15.53, 15.53],
    "X": [4.49, 4.49, 12.32, 12.32, 13.90, 13.90],
    "L": [3.43, 3.43, 11.35, 12.60, 14.68, 14.68],
}
"""Silicon at room temperature, THz: Dolling (1963); Nilsson and Nelin, Phys. Rev. B 6, 3777 (1972)."""
NEUTRONS_IN_COPPER = {"X": [5.13, 5.13, 7.25], "L": [3.42, 3.42, 7.30]}
"""Copper at 49 K, THz: Nicklow et al., Phys. Rev. 164, 922 (1967)."""
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


def relaxed_crystal(name: str) -> Atoms:
    """Return the primitive cell of one of CRYSTALS with cell and positions at the minimum."""
    return relaxed(CRYSTALS[name].start.copy(), calculator(name), 1e-5, "full")


def elastic_constants_of_the_data() -> dict[str, float]:
    """Return those of silicon's DFT data: central differences between frames stretched by 2 % or sheared by 4 %, atoms unrelaxed."""
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
NICKLOW = "neutrons at 49 K, Nicklow et al., Phys. Rev. 164, 922 (1967)"
DATA = "DFT data of the fit, PBE"
# At a lattice constant of 5.47 Å, with the four neighbours in pairs.
SEEBERGER = "DFT, cell of 432 sites, Seeberger and Vidal, EPJ Photovolt. 8, 85505 (2017), table 1"
WIEN2K = "PBE, WIEN2k, Lejaeghere et al., Science 351, aad3000 (2016), as in `ase.collections.dcdft`"
PACE = "DFT, Lysogorskiy et al., npj Computational Materials 7, 97 (2021), table 1"
DFT = "PBE/def2-SVP, `benchmarks/ethanol_dft.py`"

DIGITS = {"lattice constant, Å": 4, "vacancy, eV": 2} | dict.fromkeys(("phonons at Γ, THz", "phonons at X, THz", "phonons at L, THz"), 2)
"""Of the numbers of `measure`, where these are not GPa, of which one digit is shown."""


@dataclass(frozen=True)
class Crystal:
    """What a potential is measured on. start: the primitive cell; repeat: conventional cells along an edge of the cube with a vacancy.

    references: what to show of `measure`, in this order, each a name, a value, a text where the source has fewer
    digits, and the source.
    """

    start: Atoms
    repeat: int
    references: Callable[[], list[tuple[str, float | str | list[float], str]]]


def silicon_references() -> list[tuple[str, float | str | list[float], str]]:
    data = elastic_constants_of_the_data()
    return [
        ("lattice constant, Å", float(ase.io.read(STRAINED).cell[1, 1]) / 2, DATA),
        ("bulk modulus from energies, GPa", (data["C11"] + 2 * data["C12"]) / 3, DATA),
        *((f"{name}, GPa", value, DATA) for name, value in data.items()),
        ("C44, GPa", 79.5, HALL),
        ("vacancy, eV", 3.67, SEEBERGER),
        *((f"phonons at {name}, THz", values, NEUTRONS) for name, values in NEUTRONS_IN_SILICON.items()),
    ]


def copper_references() -> list[tuple[str, float | str | list[float], str]]:
    return [
        # Of 11.9511 Å^3 an atom.
        ("lattice constant, Å", (4 * 11.9511) ** (1 / 3), WIEN2K),
        ("bulk modulus from energies, GPa", 141.335, WIEN2K),
        ("C11, GPa", "177", PACE),
        ("C12, GPa", "132", PACE),
        ("C44, GPa", "82", PACE),
        ("vacancy, eV", 1.07, PACE),
        *((f"phonons at {name}, THz", values, NICKLOW) for name, values in NEUTRONS_IN_COPPER.items()),
    ]


CRYSTALS = {
    "silicon": Crystal(bulk("Si"), 3, silicon_references),
    "copper": Crystal(bulk("Cu"), 4, copper_references),
}
"""By the name of the potential; those that are not shipped are left out. All have the face-centred cubic lattice."""


def vacancy(atoms: Atoms, repeat: int) -> float:
    """Return the energy of a vacancy in a cube of conventional cells, of the primitive cell of a face-centred cubic lattice, eV."""
    cube = make_supercell(atoms, repeat * np.array([[-1, 1, 1], [1, -1, 1], [1, 1, -1]]))
    cube.calc = atoms.calc
    return vacancy_energy(cube)


def measure(name: str) -> dict[str, float | list[float]]:
    """Return the properties of one of CRYSTALS by the names that its references have."""
    atoms = relaxed_crystal(name)
    elastic, clamped = elastic_constants(atoms).cubic, elastic_constants(atoms, relaxation="none").cubic
    assert elastic is not None
    assert clamped is not None
    values: dict[str, float | list[float]] = {
        "lattice constant, Å": (4 * atoms.get_volume()) ** (1 / 3),
        "bulk modulus from energies, GPa": equation_of_state(atoms).bulk_modulus,
        "C11, GPa": elastic.c11,
        "C12, GPa": elastic.c12,
        "C44, GPa": elastic.c44,
        "C44, atoms unrelaxed, GPa": clamped.c44,
        "vacancy, eV": vacancy(atoms, CRYSTALS[name].repeat),
    }
    return values | {f"phonons at {point}, THz": list(bands) for point, bands in at_special_points(phonons(atoms)).items()}


def shown(own: float | list[float], reference: float | str | list[float], digits: int) -> tuple[str, str]:
    """Return a property and its reference as text; of frequencies each once that the reference has, without those at rest."""
    if isinstance(own, list) and isinstance(reference, list):
        pairs = {theirs: ours for theirs, ours in zip(reference, own, strict=True) if theirs}
        return ", ".join(f"{value:.{digits}f}" for value in pairs.values()), ", ".join(f"{value:.{digits}f}" for value in pairs)
    return f"{own:.{digits}f}", reference if isinstance(reference, str) else f"{reference:.{digits}f}"


def crystal_rows(name: str) -> list[tuple[str, str, str, str, str]]:
    values, crystal = measure(name), CRYSTALS[name]
    sites = crystal.repeat**3 * 4 * len(crystal.start)
    rows = []
    for label, reference, source in crystal.references():
        own, theirs = shown(values[label], reference, DIGITS.get(label, 1))
        text = label.replace("vacancy", f"vacancy in a cell of {sites} sites")
        rows.append((name, text, own, theirs, source))
    return rows


def ethanol_rows() -> list[tuple[str, str, str, str, str]]:
    trans = ethanol(calculator("ethanol"))
    values = vibrations(trans).wavenumbers
    difference = abs(values - WAVENUMBERS_OF_DFT)
    height = f"{barrier(methyl_band(trans)):.1f}"
    gauche = f"{gauche_minus_trans(trans):.1f}"
    rows = [
        ("harmonic O-H stretch, 1/cm", f"{values[-1]:.0f}", f"{WAVENUMBERS_OF_DFT[-1]:.0f}", DFT),
        ("C-H stretches, 1/cm", *(", ".join(f"{value:.0f}" for value in of[-6:-1]) for of in (values, WAVENUMBERS_OF_DFT)), DFT),
        ("all 21 wavenumbers, mean and largest difference, 1/cm", f"{difference.mean():.1f}, {difference.max():.1f}", "", DFT),
        ("barrier of the methyl torsion by NEB, meV", height, f"{BARRIER_OF_DFT:.1f}", DFT),
        ("barrier beside experiment, meV", height, "145.5", "experiment, Kakar and Quade, J. Chem. Phys. 72, 4300 (1980)"),
        ("gauche minus trans, meV", gauche, f"{GAUCHE_OF_DFT:.1f}", DFT),
        (
            "gauche minus trans beside experiment, meV",
            gauche,
            "4.9",
            "experiment, Pearson, Brauer, Drouin, J. Mol. Spectrosc. 251, 394 (2008)",
        ),
    ]
    return [("ethanol", *row) for row in rows]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="put the rows into docs/measured.jsonl")
    table = Table("properties", parser.parse_args().keep)
    crystals = [row for name in CRYSTALS if name in shipped() for row in crystal_rows(name)]
    for name, label, own, reference, source in [*crystals, *ethanol_rows()]:
        table.add({"system": name, "property": label}, {"eqpot": own, "reference": reference, "source": source})


if __name__ == "__main__":
    main()
