"""What every process of test_distributed.py runs: structures by domains and alone, and the errors of some; prints one line a finding."""

import json
import sys
from pathlib import Path

import ase.io
import numpy as np
import torch.distributed as dist
from ase import Atoms, units
from ase.build import bulk
from ase.md.verlet import VelocityVerlet

from eqpot import EqpotCalculator
from eqpot.engines.distributed import DistributedCalculator
from eqpot.errors import EqpotError

POTENTIALS, DEEP = Path(sys.argv[1]), Path(sys.argv[2])
SILICON, ETHANOL = (POTENTIALS / name / "potential.safetensors" for name in ("silicon", "ethanol"))


def structures():
    crystal = bulk("Si", cubic=True) * (2, 2, 3)
    crystal.rattle(0.1, seed=1)
    sheared = crystal.copy()
    sheared.set_cell(sheared.cell.array @ [[1, 0.1, 0.1], [0, 1, 0.2], [0, 0, 1]], scale_atoms=True)
    sheared.positions += 37.0
    slab = crystal.copy()
    slab.pbc = [True, False, True]
    cell = bulk("Si")
    cell.positions[0] += 0.1
    return {
        "sheared": (SILICON, sheared),
        "slab": (SILICON, slab),
        "smaller than the cutoff": (SILICON, cell),
        "one atom": (SILICON, Atoms("Si", cell=[2.3, 2.4, 2.5], pbc=True)),
        "molecule": (ETHANOL, ase.io.read(POTENTIALS / "ethanol" / "structure.extxyz")),
        "apart": (ETHANOL, Atoms("CH", positions=[[0, 0, 0], [0, 0, 50.0]])),
        "three blocks": (DEEP, sheared),
    }


def say(**what):
    if dist.get_rank() == 0:
        print(json.dumps(what), flush=True)


def deviations(calculator, reference, atoms):
    """Return the largest deviation of every result, relative to the largest value but for forces, eV/Å."""
    here, there = atoms.copy(), atoms.copy()
    here.calc, there.calc = calculator, reference
    names = ["energy", "energies", "forces"] + (["stress"] if atoms.cell.rank == 3 else [])
    found = {}
    for name in names:
        mine, theirs = (np.asarray(one.calc.get_property(name, one)) for one in (here, there))
        found[name] = float(np.abs(mine - theirs).max() / (1 if name == "forces" else np.abs(theirs).max() or 1))
    return found


for name, (potential, atoms) in structures().items():
    distributed = DistributedCalculator(potential, dtype="float64")
    say(case=name, kernel=deviations(distributed, EqpotCalculator(potential, dtype="float64"), atoms))
    reference = EqpotCalculator(potential, dtype="float64")
    for loaded in (distributed.potential.potential, *reference.potentials):
        loaded.kernel_choice = None
    distributed.reset()
    say(case=name, eager=deviations(distributed, reference, atoms))

moving = structures()["sheared"][1]
moving.calc = DistributedCalculator(SILICON, dtype="float64")
VelocityVerlet(moving, 1 * units.fs).run(5)
everyone = [None] * dist.get_world_size()
dist.all_gather_object(everyone, moving.positions.tobytes())
say(same=all(positions == everyone[0] for positions in everyone))

for name, atoms in {
    "element": Atoms("Xe", cell=[5, 5, 5], pbc=True),
    "different": Atoms("Si2", positions=[[0, 0, 0], [0, 0, 2.3 + 0.1 * dist.get_rank()]]),
    "not finite": Atoms("Si2", positions=[[0, 0, 0], [0, 0, np.nan]]),
    "on top": Atoms("Si40", positions=[*np.arange(114).reshape(-1, 3), [0, 1, 2], [0, 1, 2]]),
}.items():
    atoms.calc = DistributedCalculator(SILICON)
    told = [None] * dist.get_world_size()
    try:
        atoms.get_potential_energy()
        answer = None
    except EqpotError as error:
        answer = str(error)
    dist.all_gather_object(told, answer)
    say(error=name, told=told)
try:
    moving.calc.set(dtype="float32")
except EqpotError as error:
    say(refused=str(error))
dist.destroy_process_group()
