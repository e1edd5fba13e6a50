"""Units: eV, Å, amu and eV/Å^3 inside; fs, K and GPa at the edges. Constants are ASE's (CODATA 2014)."""

from ase import units as _ase

FEMTOSECOND: float = _ase.fs
"""1 fs in the internal unit of time, Å sqrt(amu / eV)."""

BOLTZMANN: float = _ase.kB
"""Boltzmann's constant in eV/K."""

GIGAPASCAL: float = _ase.GPa
"""1 GPa in eV/Å^3."""

GRAM_PER_CM3: float = 1e-27 / _ase._amu
"""1 g/cm^3 in amu/Å^3."""

KCAL_PER_MOL: float = _ase.kcal / _ase.mol
"""1 kcal/mol in eV."""

FREQUENCY: float = _ase._hbar * 1e10 / (_ase._e * _ase._amu) ** 0.5
"""The energy in eV of a quantum whose squared angular frequency is 1 eV/(Å^2 amu)."""
