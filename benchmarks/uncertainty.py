"""How well potentials know their errors: on test frames, along a scan that leaves the training data, and as atoms are displaced.

python benchmarks/uncertainty.py test.npz calibrated.safetensors [--scan scan.extxyz]
python benchmarks/uncertainty.py test.extxyz a.safetensors b.safetensors c.safetensors --valid valid.extxyz

The scan may have energies alone; its lowest frame is the zero of DFT and of the potential. A committee's deviations are multiplied by the
factors that the validation frames ask for, on the test frames; elsewhere they are as they come.
"""

import argparse
import time

import ase.io
import numpy as np

from eqpot import EqpotCalculator
from eqpot.calibration import UNITS, Reliability, reliability
from eqpot.data import read_frames
from eqpot.model_file import read_header


def on_test_frames(calculator: EqpotCalculator, path: str, valid: str | None) -> None:
    """Print how well deviations hold; of a committee those that are scaled on the validation frames."""
    frames = read_frames(path)
    if len(calculator.potentials) > 1:
        held_out = reliability(calculator, read_frames(valid))
        rmse, factors = ({name: number(pairs) for name, pairs in held_out.items()} for number in (Reliability.rmse, Reliability.scale))
        print("factors:", ", ".join(f"{name} {factor:.2f}" for name, factor in factors.items()))
    else:
        rmse, factors = calculator.uncertainty.record.rmse, {}
    print(f"{len(frames)} test frames: RMSE; within 1 and 2 sigma; negative log likelihood, and with the validation RMSE for all;")
    print("rank correlation of sigma and error; RMSE of the surer half over that of all; miscalibration area")
    for name, unscaled in reliability(calculator, frames).items():
        pairs = unscaled.scaled(factors.get(name, 1.0))
        unit, size = UNITS[name]
        print(
            f"{name:7s} {pairs.rmse() / size:8.3f} {unit}  {100 * pairs.coverage(1):.1f} %  {100 * pairs.coverage(2):.1f} %  "
            f"{pairs.negative_log_likelihood():.2f} {pairs.constant(rmse[name]).negative_log_likelihood():.2f}  "
            f"{pairs.rank_correlation():.2f}  {pairs.rmse_of_most_certain(0.5):.2f}  {pairs.miscalibration_area():.3f}"
        )


def along_a_scan(calculator: EqpotCalculator, path: str) -> None:
    structures = ase.io.read(path, ":")
    labels = np.array([atoms.get_potential_energy() for atoms in structures])
    energies = np.array([calculator.get_potential_energy(atoms) for atoms in structures])
    deviations = np.array([calculator.get_property("energy_std", atoms) for atoms in structures])
    lowest = labels.argmin()
    labels, errors = labels - labels[lowest], abs(energies - energies[lowest] - labels + labels[lowest])
    print(f"{path}: DFT energy, eV; sigma and error of the energy, meV")
    for index in np.argsort(labels, kind="stable"):
        print(f"{labels[index]:6.3f} {1000 * deviations[index]:9.2f} {1000 * errors[index]:9.2f}")
    outside = labels > 0
    print(f"within 1 and 2 sigma: {np.mean((errors <= deviations)[outside]):.2f} {np.mean((errors <= 2 * deviations)[outside]):.2f}")


def as_atoms_move(calculator: EqpotCalculator, path: str) -> None:
    start = read_frames(path)[0].atoms
    print(f"atoms of the first test frame ({len(start)}) displaced by Gaussians, five times each: median sigma of energy and force")
    for width in (0.0, 0.02, 0.05, 0.1, 0.2, 0.3):
        energy, forces = [], []
        for seed in range(5):
            atoms = start.copy()
            atoms.rattle(width, seed=seed)
            forces.append(np.median(calculator.get_property("forces_std", atoms)))
            energy.append(calculator.results["energy_std"] / len(atoms))
        print(f"{width:.2f} Å {1000 * np.median(energy):9.3f} meV/atom {1000 * np.median(forces):9.2f} meV/Å")


def cost(calculator: EqpotCalculator, path: str) -> None:
    atoms = read_frames(path)[0].atoms
    print(f"milliseconds of processor time of a call, {len(atoms)} atoms, best of five:")
    for name in ("energy", "energy_std", "forces", "forces_std"):
        times = []
        for _ in range(6):
            start = time.process_time()
            calculator.calculate(atoms, [name])
            times.append(time.process_time() - start)
        print(f"{name:10s} {1000 * min(times[1:]):8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("test")
    parser.add_argument("models", nargs="+", help="a calibrated potential, or those of a committee")
    parser.add_argument("--valid", help="the validation frames of a committee")
    parser.add_argument("--scan")
    arguments = parser.parse_args()
    if len(arguments.models) > 1 and not arguments.valid:
        parser.error("a committee needs --valid, the frames that scale its deviations")
    calculator = EqpotCalculator(arguments.models, dtype=read_header(arguments.models[0]).dtype)
    on_test_frames(calculator, arguments.test, arguments.valid)
    if arguments.scan:
        along_a_scan(calculator, arguments.scan)
    as_atoms_move(calculator, arguments.test)
    cost(calculator, arguments.test)


if __name__ == "__main__":
    main()
