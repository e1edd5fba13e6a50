"""The benchmark of neighbour lists runs, and what it promises holds; A9."""

import re

import pytest
import torch

from neighbors import _peak_kilobytes, builder_table, shares


def test_the_table_has_every_list(capsys):
    builder_table([21, 64], rounds=2)
    printed = capsys.readouterr().out
    for name in ("eqpot, auto", "eqpot, kept", "eqpot, vesin", "eqpot, matscipy", "eqpot, torch_cell_list", "matscipy", "pymatgen", "ASE"):
        assert re.search(rf"^\| {name}[^|]*\| [\d.]+ \([\d.]+ to [\d.]+\) \| [\d.]+ \(.*\) \|  \|$", printed, re.MULTILINE), name


@pytest.mark.slow
def test_memory_of_a_list():
    assert 1_000 < _peak_kilobytes("eqpot, auto", 4096) < 100_000


def test_a9_the_list_is_a_small_part_of_a_step():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        found = shares(edge=5, steps=10)
    finally:
        torch.set_num_threads(threads)
    assert found["skin"].part < 0.1
    assert found["from scratch"].part < 0.2
    assert found["skin"].builds < 5
    assert found["from scratch"].builds == 10
