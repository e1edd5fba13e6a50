"""Time eqpot beside its peers, interleaved in one run; print tables, and with --keep put them into docs/measured.jsonl.

python benchmarks/speed.py                 energy and forces, and stress in bulk, through each package's ASE calculator
python benchmarks/speed.py --training      a training step on aspirin, batches of 5
python benchmarks/speed.py --scaling       cost and memory of an atom as silicon grows; eqpot alone
python benchmarks/speed.py --two-threads   two threads against one; eqpot alone

Peers come from `make peers`; those that are not installed are left out.
"""

import argparse
import statistics
import sys
from collections.abc import Sequence
from contextlib import ExitStack

from contest import Contestant, Worker, WorkerError, interleave, ratios, start
from measured import Table, quartiles, several

SYSTEMS = {"aspirin": "aspirin, 21 atoms", "water64": "64 H2O", "si512": "512 Si", "cu1000": "1,000 Cu"}
LARGEST = "si200000"
BATCH = 5

EQPOT = Contestant("eqpot, default", "eqpot")
NEIGHBOR_LIST = Contestant("neighbour list", "eqpot", job={"list_only": True})
MATMUL = Contestant("matrix product", "matmul")


def _peer(name: str, worker: str, model: str) -> Contestant:
    return Contestant(name, worker, peer=worker, job={"model": model})


SCHNET = _peer("SchNet, 128, 3 layers", "schnetpack", "schnet")
PAINN = _peer("PaiNN, 128, 3 layers", "schnetpack", "painn")
ALLEGRO = _peer("Allegro tutorial: l 1, 2 layers, 64/32", "nequip", "allegro-tutorial")
NEQUIP = _peer("NequIP tutorial: l 1, 4 layers, 32", "nequip", "nequip-tutorial")
NEQUIP_L2 = _peer("NequIP: l 2, 4 layers, 32", "nequip", "nequip-l2")
NEQUIP_RMD17 = _peer("NequIP rMD17: l 3, 5 layers, 64, 4 Å, uncompiled", "nequip", "nequip-rmd17")
MACE_64 = _peer("MACE 64x0e+64x1o", "mace", "64x0e+64x1o")
MACE_RMD17 = _peer("MACE rMD17: 256x0e+256x1o", "mace", "rmd17")
MACE_MP = _peer("MACE-MP small: 128x0e, 6 Å", "mace", "mp-small")

SMALL = (SCHNET, PAINN, ALLEGRO, NEQUIP, NEQUIP_L2, MACE_64)


def single_point_tables(systems: Sequence[str], rounds: int, dtype: str, threads: int, keep: bool = False) -> None:
    """Print one table a system, and then how eqpot uses the machine."""
    conditions = {"rounds": rounds, "dtype": dtype, "threads": threads}
    arithmetic = []
    for system in systems:
        peers = (*SMALL, NEQUIP_RMD17, MACE_RMD17) if system == "aspirin" else (*SMALL, MACE_MP)
        with ExitStack() as stack:
            job = {"system": system, "dtype": dtype, "threads": threads}
            fixed = [stack.enter_context(Worker(one, **job)) for one in (MATMUL, NEIGHBOR_LIST, EQPOT)]
            workers = [*fixed, *start(stack, peers, **job)]
            product, listing, *times = interleave(workers, rounds)
        facts, eqpot = fixed[-1].facts, times[0]
        table = Table(f"speed {system}", keep, **conditions)
        for worker, values in zip(workers[2:], times, strict=True):
            cells = {
                "ms": [1e3 * value for value in values],
                "µs/atom": [1e6 * value / facts["atoms"] for value in values],
                "times eqpot": ratios(values, eqpot),
            }
            table.add({f"{SYSTEMS[system]}: package, size": worker.name}, {name: quartiles(cell) for name, cell in cells.items()})
        shares = [100 * facts["flops"] / fixed[0].facts["flops"] * value for value in ratios(product, eqpot)]
        arithmetic.append(
            (
                {"eqpot": SYSTEMS[system]},
                {
                    "MFLOP an atom": facts["flops"] / facts["atoms"] / 1e6,
                    "of the rate of a product of matrices, %": quartiles(shares),
                    "that rate, GFLOP/s": fixed[0].facts["flops"] / statistics.median(product) / 1e9,
                    "neighbour list, % of the step": quartiles([100 * value for value in ratios(listing, eqpot)]),
                },
            )
        )
    table = Table("speed arithmetic", keep, **conditions)
    for row in arithmetic:
        table.add(*row)


def training_table(rounds: int, dtype: str, threads: int, keep: bool = False, compiled: bool = True) -> None:
    """Print training frames a second; `compiled` is eqpot's own."""
    with ExitStack() as stack:
        job = {"system": "aspirin", "batch": BATCH, "dtype": dtype, "threads": threads}
        workers = [stack.enter_context(Worker(EQPOT, **job, compiled=compiled)), *start(stack, (*SMALL, MACE_RMD17), **job)]
        times = interleave(workers, rounds)
    table = Table("speed training", keep, rounds=rounds, dtype=dtype, threads=threads)
    for worker, values in zip(workers, times, strict=True):
        cells = {"frames/s": [BATCH / value for value in values], "times eqpot's time": ratios(values, times[0])}
        table.add({f"aspirin, batches of {BATCH}: package, size": worker.name}, {name: quartiles(cell) for name, cell in cells.items()})


def scaling_table(systems: Sequence[str], rounds: int, dtype: str, threads: int, keep: bool = False, largest: str | None = LARGEST) -> None:
    """Print cost and memory of an atom, interleaved; then one single point of the largest system, alone."""
    with ExitStack() as stack:
        workers = [worker for system in systems for worker in start(stack, [EQPOT], system=system, dtype=dtype, threads=threads)]
        times = interleave(workers, rounds)
    table = Table("speed scaling", keep, rounds=rounds, dtype=dtype, threads=threads)
    costs = [[1e6 * value / worker.facts["atoms"] for value in values] for worker, values in zip(workers, times, strict=True)]
    for worker, cost in zip(workers, costs, strict=True):
        values = {"µs/atom": quartiles(cost), "times the first": quartiles(ratios(cost, costs[0]))}
        table.add({"silicon, atoms": worker.facts["atoms"]}, {**values, **_memory(worker)})
    if largest:
        try:
            with Worker(EQPOT, system=largest, dtype=dtype, threads=threads) as worker:
                seconds, atoms = worker.facts["seconds"], worker.facts["atoms"]
                table.add(
                    {"silicon, atoms": f"{atoms:,}, first call"},
                    {"µs/atom": 1e6 * seconds / atoms, "times the first": None, **_memory(worker)},
                )
        except WorkerError as error:
            print(f"{largest} failed: {error}", file=sys.stderr)


def _memory(worker: Worker) -> dict[str, float]:
    peak, before, atoms = (worker.facts[name] for name in ("memory", "memory_before", "atoms"))
    return {"peak memory, MB": round(peak / 1e6), "above that of the imports, kB/atom": (peak - before) / 1e3 / atoms}


def thread_table(systems: Sequence[str], rounds: int, dtype: str, keep: bool = False) -> None:
    """Print how much faster two threads are than one."""
    with ExitStack() as stack:
        jobs = [{"system": system, "threads": threads, "dtype": dtype} for system in systems for threads in (1, 2)]
        workers = [stack.enter_context(Worker(EQPOT, **job)) for job in jobs]
        times = interleave(workers, rounds)
    table = Table("speed threads", keep, rounds=rounds, dtype=dtype)
    for worker, one, two in zip(workers[::2], times[::2], times[1::2], strict=True):
        atoms = worker.facts["atoms"]
        costs = [quartiles([1e6 * value / atoms for value in values]) for values in (one, two)]
        values = {"µs/atom, one thread": costs[0], "two threads": costs[1], "one against two": quartiles(ratios(one, two))}
        table.add({"silicon, atoms": atoms}, values)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    mode = parser.add_mutually_exclusive_group()
    for name in ("training", "scaling", "two-threads"):
        mode.add_argument(f"--{name}", action="store_true")
    parser.add_argument(
        "--systems", nargs="+", help="aspirin, water64, si512, cu1000; with --scaling and --two-threads si512, si4096, si32768"
    )
    parser.add_argument("--rounds", type=several, default=15, help="turns of every contestant")
    parser.add_argument("--dtype", choices=("float32", "float64"), default="float32")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--keep", action="store_true", help="put the rows into docs/measured.jsonl")
    arguments = parser.parse_args()
    rounds, dtype, threads, keep = arguments.rounds, arguments.dtype, arguments.threads, arguments.keep
    if arguments.training:
        training_table(rounds, dtype, threads, keep)
    elif arguments.scaling:
        scaling_table(arguments.systems or ("si512", "si4096", "si32768"), rounds, dtype, threads, keep)
    elif arguments.two_threads:
        thread_table(arguments.systems or ("si512", "si4096"), rounds, dtype, keep)
    else:
        single_point_tables(arguments.systems or tuple(SYSTEMS), rounds, dtype, threads, keep)


if __name__ == "__main__":
    main()
