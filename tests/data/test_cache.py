"""The memory-mapped cache, and batches by size."""

import logging
from dataclasses import replace

import ase.io
import numpy as np
import pytest
import torch

import eqpot.data.batches
import eqpot.data.read
from eqpot.data import LabelKeys, Source, Units, batches_by_size, label_graphs, read_frames
from helpers import ETHANOL, SILICON


@pytest.fixture
def mixed(tmp_path):
    frames = ase.io.read(SILICON, ":3")
    for atoms, drop in zip(frames, ("stress", "forces", "energy"), strict=True):
        del atoms.calc.results[drop]
    ase.io.write(tmp_path / "mixed.extxyz", frames, format="extxyz")
    return tmp_path / "mixed.extxyz"


def assert_same(a, b):
    assert a.energy == b.energy
    assert (a.origin, a.weight) == (b.origin, b.weight)
    for name in ("forces", "stress"):
        assert (getattr(a, name) is None) == (getattr(b, name) is None)
        if getattr(a, name) is not None:
            np.testing.assert_array_equal(getattr(a, name), getattr(b, name))
    for name in ("numbers", "positions", "cell", "pbc"):
        np.testing.assert_array_equal(getattr(a.atoms, name), getattr(b.atoms, name))


@pytest.mark.parametrize("name", ["silicon", "ethanol", "mixed"])
def test_a_second_start_reads_the_same_frames_from_the_cache(tmp_path, monkeypatch, caplog, mixed, name):
    path = {"silicon": SILICON, "ethanol": ETHANOL, "mixed": mixed}[name]
    source = Source(path, weight=2.0)
    first = read_frames(source, cache=tmp_path / "cache")
    monkeypatch.setattr(eqpot.data.read, "read_contents", lambda *_: pytest.fail("the file was parsed again"))
    with caplog.at_level(logging.INFO):
        second = read_frames(source, cache=tmp_path / "cache")
    assert "energy from " in caplog.text  # A16 holds for the cache too
    for a, b in zip(first, second, strict=True):
        assert_same(a, b)


def test_other_keys_or_content_are_read_anew(tmp_path, mixed):
    cache = tmp_path / "cache"
    assert read_frames(mixed, cache=cache)[0].forces is not None
    ase.io.write(mixed, ase.io.read(SILICON, ":2"), format="extxyz")
    assert read_frames(mixed, LabelKeys(forces=None), cache=cache)[0].forces is None
    assert read_frames(mixed, cache=cache)[0].forces is not None
    ase.io.write(mixed, ase.io.read(SILICON, ":5"), format="extxyz")
    assert len(read_frames(mixed, cache=cache)) == 5
    assert len(list(cache.iterdir())) == 4
    energy = read_frames(mixed, cache=cache)[0].energy
    assert read_frames(mixed, LabelKeys(units=Units(energy="meV")), cache=cache)[0].energy == pytest.approx(1e-3 * energy)


def test_neighbours_across_the_walls_are_those_of_the_boundaries(tmp_path):
    frames = read_frames(SILICON)[:2]
    opened = [replace(frame, atoms=frame.atoms.copy()) for frame in frames]
    for frame in opened:
        frame.atoms.pbc = False
    assert label_graphs(frames, 4.0, tmp_path)[0].graph.shifts.any()
    assert not label_graphs(opened, 4.0, tmp_path)[0].graph.shifts.any()


def test_neighbours_are_kept_too(tmp_path, monkeypatch):
    frames = read_frames(SILICON)
    plain = label_graphs(frames, 4.0)
    label_graphs(frames, 4.0, tmp_path)
    monkeypatch.setattr(eqpot.data.batches, "build_graph", lambda *_: pytest.fail("neighbours were sought again"))
    mapped = label_graphs(frames, 4.0, tmp_path)
    assert len(mapped) == len(plain)
    for a, b in zip(plain, mapped, strict=True):
        for left, right in zip(a.graph.tensors(), b.graph.tensors(), strict=True):
            assert left.dtype == right.dtype
            assert torch.equal(left, right)
        assert torch.equal(a.forces, b.forces)
    assert torch.equal(mapped[-1].forces, plain[-1].forces)
    assert len(mapped[2:5]) == 3
    with pytest.raises(IndexError):
        mapped[12]
    with pytest.raises(pytest.fail.Exception, match="again"):
        label_graphs(frames, 4.1, tmp_path)


def test_a_damaged_or_unwritable_cache_costs_time_alone(tmp_path, caplog):
    cache = tmp_path / "cache"
    first = read_frames(SILICON, cache=cache)
    label_graphs(first, 4.0, cache)
    for file in cache.iterdir():
        file.write_bytes(file.read_bytes()[:100])
    again = read_frames(SILICON, cache=cache)
    assert "is damaged and is made again" in caplog.text
    assert_same(first[3], again[3])
    assert len(label_graphs(again, 4.0, cache)) == 12
    (tmp_path / "file").touch()
    assert len(label_graphs(read_frames(SILICON, cache=tmp_path / "file"), 4.0, tmp_path / "file")) == 12
    assert "cannot be written" in caplog.text


def test_batches_by_size_keep_the_order_and_the_limit():
    random = np.random.default_rng(0)
    for limit in (1, 10, 57):
        counts = random.integers(1, 30, size=100).tolist()
        batches = batches_by_size(counts, limit)
        assert [i for batch in batches for i in batch] == list(range(100))
        for batch, after in zip(batches, [*batches[1:], None], strict=True):
            total = sum(counts[i] for i in batch)
            assert total <= limit or len(batch) == 1
            # No batch could have taken the next structure.
            assert after is None or total + counts[after[0]] > limit
    assert batches_by_size([], 5) == []
