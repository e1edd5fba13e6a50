"""Ethanol in PBE/def2-SVP, the level of rMD17: what benchmarks/properties.py compares the potential with. Half an hour to an hour.

python -m pip install pyscf && python benchmarks/ethanol_dft.py
"""

import numpy as np
from ase import Atoms
from ase.calculators.calculator import Calculator, all_changes
from ase.units import Bohr, Hartree
from pyscf import dft, gto
from pyscf.hessian import thermo

from properties import ethanol, methyl_saddle, relaxed, with_hydroxyl_turned


class PySCF(Calculator):
    """PBE/def2-SVP energy and forces of a closed-shell molecule."""

    implemented_properties = ["energy", "forces"]  # noqa: RUF012 (ASE's contract)

    def field(self, atoms: Atoms) -> dft.rks.RKS:
        geometry = list(zip(atoms.get_chemical_symbols(), atoms.positions, strict=True))
        field = dft.RKS(gto.M(atom=geometry, basis="def2-svp", verbose=0), xc="PBE")
        field.grids.level = 5
        field.conv_tol = 1e-11
        return field.run()

    def calculate(self, atoms=None, properties=None, system_changes=all_changes) -> None:
        super().calculate(atoms, properties, system_changes)
        field = self.field(self.atoms)
        gradient = field.nuc_grad_method()
        gradient.grid_response = True
        self.results = {"energy": field.e_tot * Hartree, "forces": -gradient.kernel() * Hartree / Bohr}


def main() -> None:
    trans = ethanol(PySCF(), fmax=2e-3)
    energy = trans.get_potential_energy()
    saddle = methyl_saddle(trans, PySCF(), fmax=2e-3)
    print(f"barrier of the methyl torsion: {1000 * (saddle.get_potential_energy() - energy):.1f} meV", flush=True)
    gauche = relaxed(with_hydroxyl_turned(trans, 60.0), PySCF(), fmax=2e-3)
    print(f"gauche minus trans: {1000 * (gauche.get_potential_energy() - energy):.1f} meV", flush=True)
    field = trans.calc.field(trans)
    values = thermo.harmonic_analysis(field.mol, field.Hessian().kernel())["freq_wavenumber"]
    print("harmonic wavenumbers of trans, 1/cm:", *np.round(np.real(values)).astype(int))


if __name__ == "__main__":
    main()
