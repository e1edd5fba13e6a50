"""Domains of one structure under torch.distributed: equal to the whole structure, whatever the cell and however many processes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from eqpot.engines.distributed import DistributedCalculator
from eqpot.engines.domains import DomainPotential, owners
from eqpot.errors import ConfigError, EqpotError
from eqpot.ghosts import Ghosts
from eqpot.model_file import save_potential
from eqpot.network.config import NetworkConfig
from helpers import NETWORKS, random_potential

POTENTIALS = Path(__file__).parents[2] / "potentials"


def run(n_processes, folder):
    config = NetworkConfig(cutoff=4.0, n_blocks=3, n_channels=16, n_orientations=12, feature_degree=1, kernel_degree=2)
    save_potential(random_potential([14], config), folder / "deep.safetensors")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(n_processes), "--rdzv-backend", "c10d"]
    command += ["--rdzv-endpoint", "localhost:0", str(Path(__file__).with_name("domains_script.py")), str(POTENTIALS)]
    command += [str(folder / "deep.safetensors")]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("n_processes", [2, 3])
def test_a41_domains_equal_the_whole(n_processes, tmp_path):
    findings = run(n_processes, tmp_path)
    cases = [one for one in findings if "case" in one]
    assert len(cases) == 14
    for case in cases:
        for deviations in (case[path] for path in ("kernel", "eager") if path in case):
            assert max(deviations.values()) < 1e-11, case
    assert [one["same"] for one in findings if "same" in one] == [True]
    expected = {"element": "Xe", "different": "different structures", "not finite": "not finite", "on top": "Atoms 0 and 38 lie on top"}
    for finding in (one for one in findings if "error" in one):
        assert all(answer and expected.pop(finding["error"], answer) in answer for answer in finding["told"]), finding
    assert not expected
    assert [one["refused"] for one in findings if "refused" in one] == ["dtype cannot change in a DistributedCalculator; make another one."]


def test_outside_of_torchrun_it_says_how():
    with pytest.raises(ConfigError, match="torchrun --nproc-per-node"):
        DistributedCalculator(POTENTIALS / "silicon" / "potential.safetensors")


def test_a_process_group_that_knows_no_cpu_is_refused(monkeypatch):
    monkeypatch.setattr("torch.distributed.is_initialized", lambda: True)
    monkeypatch.setattr("torch.distributed.get_backend", lambda: "nccl")
    with pytest.raises(ConfigError, match="initialize it with cpu:gloo,cuda:nccl"):
        DistributedCalculator(POTENTIALS / "silicon" / "potential.safetensors")


def test_ghosts_without_owners_are_an_error():
    exchange = Ghosts()
    features = torch.randn(4, 3, 2, requires_grad=True)
    assert torch.equal(exchange(features, 4), features)
    exchange(features, 4).sum().backward()
    assert torch.equal(features.grad, torch.ones_like(features))
    with pytest.raises(EqpotError, match="2 ghosts have no owners"):
        exchange(features, 6)


def test_networks_that_cannot_be_cut_say_so():
    with pytest.raises(ConfigError, match="point_cloud cannot be cut into domains"):
        DomainPotential(random_potential(config=NETWORKS["point cloud"]))


def test_weights_are_held_once():
    potential = random_potential()
    own = {id(weight) for weight in potential.network.parameters()}
    assert {id(weight) for weight in DomainPotential(potential)._network.parameters()} == own


def test_domains_have_equally_many_atoms():
    positions = torch.rand(101, 3, generator=torch.Generator().manual_seed(0)).numpy() * [30, 10, 10]
    counts = torch.bincount(torch.from_numpy(owners(positions, 6)))
    assert counts.tolist() == [16, 17, 17, 17, 17, 17]
    assert owners(positions[:1], 3).max() < 3
