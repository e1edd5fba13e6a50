"""Copies, pickles, processes, threads, and what a calculator leaves alone; A20, A25."""

import copy
import multiprocessing
import operator
import os
import pickle
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from eqpot import EqpotCalculator
from helpers import ROOT, crystal, ethanol

DUPLICATES = {"pickle": lambda x: pickle.loads(pickle.dumps(x)), "deepcopy": copy.deepcopy, "copy": copy.copy}


@pytest.fixture(params=["float32", "float64", "committee"])
def calculator(request, model_path):
    if request.param == "committee":
        return EqpotCalculator([model_path, model_path], dtype="float64")
    return EqpotCalculator(model_path, dtype=request.param)


def results_of(calculator, atoms):
    calculator.get_property("stresses", atoms)
    return calculator.results


def assert_same_bits(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


@pytest.mark.parametrize("duplicate", DUPLICATES.values(), ids=DUPLICATES)
def test_copies_give_the_same_bits(calculator, duplicate):
    before = duplicate(calculator)
    expected = results_of(calculator, crystal())
    after = duplicate(calculator)
    assert_same_bits(after.results, expected)
    assert not after.calculation_required(crystal(), ["stresses"])
    assert_same_bits(results_of(before, crystal()), expected)
    after.reset()
    assert_same_bits(results_of(after, crystal()), expected)
    assert after.todict() == calculator.todict()


@pytest.mark.parametrize("duplicate", DUPLICATES.values(), ids=DUPLICATES)
def test_copies_have_a_life_of_their_own(calculator, duplicate):
    expected, parameters = results_of(calculator, crystal()), calculator.todict()
    twin = duplicate(calculator)
    twin.get_forces(ethanol())
    twin.set(dtype="float64" if parameters["dtype"] == "float32" else "float32")
    assert calculator.todict() == parameters
    assert twin.todict() != parameters
    assert_same_bits(calculator.results, expected)
    assert not calculator.calculation_required(crystal(), ["stresses"])


def test_a_pickle_holds_the_weights_once_and_needs_no_file(tmp_path):
    path = tmp_path / "potential.safetensors"
    path.write_bytes((ROOT / "potentials" / "silicon" / "potential.safetensors").read_bytes())
    calculator = EqpotCalculator(path)
    atoms = crystal("Si2")
    forces = calculator.get_forces(atoms)
    pickled = pickle.dumps(calculator)
    assert len(pickled) < 1.1 * path.stat().st_size
    path.unlink()
    twin = pickle.loads(pickled)
    twin.reset()
    np.testing.assert_array_equal(twin.get_forces(atoms), forces)


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
@pytest.mark.parametrize("method", sorted({"spawn", "fork"} & set(multiprocessing.get_all_start_methods())))
def test_other_processes_compute_the_same_bits(calculator, method):
    structures = [crystal(), ethanol(), crystal(pbc=[True, True, False])]
    for atoms in structures:
        atoms.calc = calculator
    expected = [atoms.get_forces() for atoms in structures]
    calculator.reset()
    with multiprocessing.get_context(method).Pool(1) as pool:
        found = pool.map_async(operator.methodcaller("get_forces"), structures).get(timeout=60)
    for forces, forces_here in zip(found, expected, strict=True):
        np.testing.assert_array_equal(forces, forces_here)


FORKED = """
import multiprocessing, operator, sys
import numpy, torch
from ase.build import bulk
from eqpot import EqpotCalculator

assert torch.get_num_threads() == 2
atoms = bulk("Si", cubic=True).repeat(3)
atoms.rattle(0.05, seed=0)
atoms.calc = EqpotCalculator(sys.argv[1], dtype="float64")

def forces_elsewhere():
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map_async(operator.methodcaller("get_forces"), [atoms]).get(timeout=60)[0]

before = forces_elsewhere()
forces = atoms.get_forces()
atoms.calc.reset()
assert torch.get_num_threads() == 2
for found in (before, forces_elsewhere()):
    assert abs(found - forces).max() < 1e-12
"""


FORKED_POTENTIAL = """
import os, sys
import torch
from ase.build import bulk
from eqpot import load_potential
from eqpot.neighbors import build_graph

potential = load_potential(sys.argv[1])
graph = build_graph(bulk("Si", cubic=True).repeat(6), potential.cutoff)
potential.evaluate(graph)
torch.ones(1_000_000).exp().sum()
if child := os.fork():
    sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
potential.evaluate(build_graph(bulk("Si", cubic=True).repeat(8), potential.cutoff))
os._exit(0)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("script", [FORKED, FORKED_POTENTIAL])
def test_a_fork_does_not_wait_for_the_threads_of_its_parent(script):
    """Where torch has several threads a forked process would hang in its first parallel loop."""
    command = [sys.executable, "-c", script, str(ROOT / "potentials" / "silicon" / "potential.safetensors")]
    subprocess.run(command, check=True, timeout=150, env=os.environ | {"OMP_NUM_THREADS": "2"})


def test_a25_calculators_of_two_dtypes_do_not_meet(model_path):
    """One after the other in turns, and each in a thread: the bits are those of a calculator that is alone."""
    structures = [ethanol(), crystal(), crystal().repeat((2, 2, 2))]
    alone = {}
    for dtype in ("float32", "float64"):
        calculator = EqpotCalculator(model_path, dtype=dtype)
        alone[dtype] = [calculator.get_forces(atoms) for atoms in structures]
    assert not np.array_equal(alone["float32"][0], alone["float64"][0])
    together = {dtype: EqpotCalculator(model_path, dtype=dtype) for dtype in alone}
    for index, atoms in enumerate(structures):
        for dtype, calculator in together.items():
            np.testing.assert_array_equal(calculator.get_forces(atoms), alone[dtype][index])

    def repeat(dtype):
        return [together[dtype].get_forces(structures[index % 3]) for index in range(30)]

    with ThreadPoolExecutor(2) as pool:
        for dtype, found in zip(together, pool.map(repeat, together), strict=True):
            for index, forces in enumerate(found):
                np.testing.assert_array_equal(forces, alone[dtype][index % 3])
    for dtype, calculator in together.items():
        assert calculator.potentials[0].dtype == getattr(torch, dtype)


GLOBALS = """
import logging, os, random, sys, warnings
import numpy, torch
import ase.io, matscipy.neighbours, scipy.linalg
import sympy  # torch imports it where it batches derivatives, and it adds a filter of warnings

def state():
    return {
        "dtype": torch.get_default_dtype(), "device": str(torch.get_default_device()),
        "threads": (torch.get_num_threads(), torch.get_num_interop_threads()),
        "torch seed": torch.random.get_rng_state().numpy().tobytes(),
        "numpy seed": str(numpy.random.get_state()), "seed": random.getstate(),
        "gradients": (torch.is_grad_enabled(), torch.is_inference_mode_enabled(), torch.is_anomaly_enabled()),
        "deterministic": (torch.are_deterministic_algorithms_enabled(), torch.get_float32_matmul_precision()),
        "logging": (logging.root.level, list(logging.root.handlers), logging.root.manager.disable, logging.lastResort.level),
        "warnings": list(warnings.filters), "numpy errors": numpy.geterr(), "environment": dict(os.environ), "folder": os.getcwd(),
        "hooks": (sys.excepthook, sys.displayhook),
    }

def check(what, before):
    changed = [name for name, value in state().items() if value != before[name]]
    assert not changed, f"{what} changed {changed}"

before = state()
import eqpot
check("import eqpot", before)
from eqpot import EqpotCalculator
import eqpot.calculator, eqpot.model_file, eqpot.neighbors, eqpot.potential
assert not [handler for name in logging.root.manager.loggerDict if name.startswith("eqpot") for handler in logging.getLogger(name).handlers]
check("import of the calculator", before)
from ase.build import molecule
for dtype in ("float32", "float64"):
    calculator = EqpotCalculator(sys.argv[1], dtype=dtype)
    check(f"a calculator in {dtype}", before)
    calculator.get_forces(molecule("CH3CH2OH"))
    calculator.get_hessian(molecule("H2O"))
    check(f"a calculation in {dtype}", before)
"""


def test_a20_import_construction_and_calculation_change_no_global_state():
    """In a fresh process; the shipped potential has a fused kernel in both dtypes."""
    command = [sys.executable, "-W", "error", "-c", GLOBALS, str(ROOT / "potentials" / "ethanol" / "potential.safetensors")]
    subprocess.run(command, check=True, timeout=120)
