"""Several processes are one: gradients, a run under torchrun on two nodes, and one that goes on after a process was killed."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import ase.io
import pytest
import torch
from ase.calculators.singlepoint import SinglePointCalculator
from ase.stress import full_3x3_to_voigt_6_stress
from safetensors.torch import load_file, save_file

from eqpot.data import read_frames
from eqpot.errors import ConfigError
from eqpot.training import TrainConfig, Trainer
from eqpot.training.processes import Processes
from helpers import ETHANOL, SILICON
from training_runs import contents, settings, start, write_config

MIXED = {
    "dtype": "float64",
    "data": {"train": "../frames.extxyz", "n_train": 8, "n_valid": 4},
    "training": {
        "epochs": 3, "validate_every": 1, "batch_edges": 1500, "checkpoint_minutes": 0.0, "energy_weight": 3.0,
        "schedule": "plateau", "plateau_patience": 1, "stage_two": {"start": 0.6, "energy_weight": 30.0},
    },
}  # fmt: skip


def write_frames(folder: Path) -> None:
    """Write ethanol without stress and silicon with it."""
    structures = []
    for frames in (read_frames(ETHANOL)[:6], read_frames(SILICON)[:6]):
        for frame in frames:
            stress = {} if frame.stress is None else {"stress": full_3x3_to_voigt_6_stress(frame.stress)}
            # Both kinds near zero: no reference energies could be fitted to so few compositions.
            energy = frame.energy - frames[0].energy
            frame.atoms.calc = SinglePointCalculator(frame.atoms, energy=energy, forces=frame.forces, **stress)
            structures.append(frame.atoms)
    ase.io.write(folder / "frames.extxyz", structures)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("localhost", 0))
        return listener.getsockname()[1]


def write_gradients(folder: Path, rank: int, size: int, port: int) -> None:
    """Write loss and gradients of batches of 5, 2 and 1 structures as one of `size` processes computes them."""
    torch.set_num_threads(1)
    if size > 1:
        os.environ.update(TORCHELASTIC_RUN_ID="test", RANK=str(rank), WORLD_SIZE=str(size), MASTER_ADDR="localhost", MASTER_PORT=str(port))
    os.chdir(folder / "work")
    trainer = Trainer(TrainConfig.model_validate(settings(folder / f"run{size}", **MIXED)))
    # Structures of unequal size, and labels that are missing here and there.
    atoms = [len(sample.species) for sample in trainer.samples]
    assert len(set(atoms)) > 1
    missing = trainer.samples[0]
    missing.forces_weight.zero_()
    missing.n_labels[0, 1] = 0
    trainer.samples[2].energy_weight.mul_(2.5)
    step = trainer._choose_step()
    results = {}
    for members in ([0, 1, 2, 3, 4], [2, 6], [7]):
        loss, _, _, *gradients = trainer._gradients(step, members, 0.0)
        results[f"{len(members)}.loss"] = loss.view(1)
        results.update({f"{len(members)}.{name}": value for name, value in zip(trainer.names, gradients, strict=True)})
    save_file({name: value.contiguous() for name, value in results.items()}, folder / f"{rank}_of_{size}.safetensors")
    trainer.processes.close()


def test_gradients_of_two_processes_are_those_of_one(tmp_path):
    port = free_port()
    write_frames(tmp_path)
    (tmp_path / "work").mkdir()
    processes = [start(write_gradients, tmp_path, rank, size, port) for rank, size in ((0, 1), (0, 2), (1, 2))]
    for process in processes:
        process.join()
        assert process.exitcode == 0
    serial, first, second = (load_file(tmp_path / f"{name}.safetensors") for name in ("0_of_1", "0_of_2", "1_of_2"))
    for name, expected in serial.items():
        assert torch.equal(first[name], second[name])
        assert (first[name] - expected).abs().max() <= 1e-12 * max(1.0, float(expected.abs().max()))
        assert expected.abs().max() > 0


def torchrun(folder, *options):
    with (folder / "log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", *options, "-m", "eqpot", "train", "config.yaml", "--no-passport"],
            cwd=folder, stdout=log, stderr=log, env={**os.environ, "OMP_NUM_THREADS": "1"},
        )  # fmt: skip


def workers_of(process) -> list[int]:
    """Return the ids of the processes that torchrun started."""
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return [int(child) for child in children if b"eqpot" in Path(f"/proc/{child}/cmdline").read_bytes()]


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds torchrun's processes in /proc")
def test_a22_two_nodes_and_a_restarted_run_have_the_same_bits(tmp_path, monkeypatch):
    write_frames(tmp_path)
    nodes, restarted = tmp_path / "nodes", tmp_path / "restarted"
    for folder in (nodes, restarted):
        write_config(folder, **MIXED)
    endpoint = f"localhost:{free_port()}"
    options = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-endpoint", endpoint, "--rdzv-id", "1"]
    agents = [torchrun(nodes, *options) for _ in range(2)]
    assert [agent.wait(timeout=240) for agent in agents] == [0, 0], (nodes / "log").read_text()

    options = ["--nproc-per-node", "2", "--max-restarts", "1", "--master-port", str(free_port()), "--monitor-interval", "0.1"]
    agent = torchrun(restarted, *options)
    while agent.poll() is None and not (restarted / "run").exists():
        time.sleep(0.01)
    os.kill(workers_of(agent)[-1], signal.SIGKILL)
    assert agent.wait(timeout=240) == 0, (restarted / "log").read_text()
    assert (restarted / "log").read_text().count("8 training and 4 validation frames") == 2
    assert contents(restarted) == contents(nodes)

    monkeypatch.chdir(nodes)
    config = TrainConfig.model_validate(settings(tmp_path / "serial", **MIXED))
    Trainer(config).run()
    serial = load_file(tmp_path / "serial" / "checkpoint.safetensors")
    for name, value in load_file(nodes / "run" / "checkpoint.safetensors").items():
        if name.startswith(("parameter", "average")):
            assert (value - serial[name]).abs().max() < 1e-10 * max(1.0, float(value.abs().max()))


def test_one_gpu_for_several_processes_is_refused(monkeypatch):
    for name, value in {"TORCHELASTIC_RUN_ID": "test", "RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="The device is cuda:1 for 2 processes; write cuda"):
        Processes("cuda:1")
