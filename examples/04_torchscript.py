"""
TorchScript
===========

The silicon potential is exported and used with torch alone, as an engine would.
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from ase.build import bulk

from eqpot import load_potential
from eqpot.export.torchscript import export_torchscript


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("silicon.pt"))
    arguments = parser.parse_args()
    deviation = export_torchscript(load_potential("silicon", dtype="float64"), arguments.output)
    print(f"wrote {arguments.output}; largest relative deviation from eager {deviation:.0e}")

    module = torch.jit.load(arguments.output)  # needs no eqpot
    atoms = bulk("Si", cubic=True)
    results = module(
        torch.from_numpy(atoms.positions),
        torch.from_numpy(atoms.numbers.astype(np.int64)),
        torch.from_numpy(atoms.cell.array),
        torch.from_numpy(atoms.pbc),
    )
    print(f"energy {float(results['energy']):.4f} eV, largest force {float(results['forces'].abs().max()):.1e} eV/Å")
    print(f"pressure {-float(results['stress'].trace()) / 3:.4f} eV/Å^3")


if __name__ == "__main__":
    main()
