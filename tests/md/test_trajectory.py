"""Trajectories and tables; A33-A35."""

import errno
import json
import os
import random
import resource
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import ase.io
import numpy as np
import pytest
from ase.build import bulk, molecule
from ase.calculators.singlepoint import SinglePointCalculator
from ase.units import fs, kJ, mol

from eqpot.errors import ConfigError, SimulationError
from eqpot.md.trajectory import Table, open_trajectory

h5py = pytest.importorskip("h5py")

FORMATS = (".extxyz", ".traj", ".h5md")
ROOM = 100
"""More than 42, where ASE's file makes a new table of its items."""


def frame(number, atoms=None):
    rng = np.random.default_rng(number)
    atoms = bulk("Si", cubic=True) if atoms is None else atoms.copy()
    atoms.positions += rng.normal(size=(len(atoms), 3))
    atoms.set_velocities(rng.normal(size=(len(atoms), 3)))
    atoms.set_cell(atoms.cell * (1 + 0.01 * number), scale_atoms=False)
    results = {"energy": float(rng.normal()), "forces": rng.normal(size=(len(atoms), 3))}
    if atoms.cell.rank == 3:
        results["stress"] = rng.normal(size=6)
    atoms.calc = SinglePointCalculator(atoms, **results)
    return atoms


def append(writer, numbers):
    for number in numbers:
        writer.append(frame(number), 10 * number, 5.0 * number)


def whole(path, n_frames=ROOM):
    with open_trajectory(path, frame(0), ROOM) as writer:
        append(writer, range(n_frames))
    return path.read_bytes()


def steps(path):
    """The steps in a trajectory, as a reader finds them."""
    if path.suffix == ".h5md":
        with h5py.File(path) as file:
            return file["particles/trajectory/position/step"][:].tolist()
    return [atoms.info["step"] for atoms in ase.io.iread(path)] if path.stat().st_size else []


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("marked", [0, 1, 2, 41, 42, 43, 60])
def test_a33_a_resumed_file_is_that_of_a_run_without_interruption(tmp_path, suffix, marked):
    expected = whole(tmp_path / f"whole{suffix}")
    path = tmp_path / f"resumed{suffix}"
    with open_trajectory(path, frame(0), ROOM) as writer:
        append(writer, range(marked))
        mark = json.loads(json.dumps(writer.mark()))
        append(writer, range(marked, marked + 20))
    with open_trajectory(path, frame(0), ROOM, mark) as writer:
        assert writer.mark() == mark
        assert steps(path) == [10 * number for number in range(marked)]
        append(writer, range(marked, ROOM))
    assert path.read_bytes() == expected


_WRITE_FOR_EVER = """
    import sys
    sys.path.insert(0, sys.argv[2])
    from pathlib import Path
    from test_trajectory import ROOM, append, frame
    from eqpot.md.trajectory import Table, open_trajectory
    import json
    folder = Path(sys.argv[1])
    writers = {s: open_trajectory(folder / f"a{s}", frame(0), ROOM) for s in (".extxyz", ".traj", ".h5md")}
    table = Table(folder / "thermo.csv")
    for number in range(ROOM):
        if number % 7 == 0:
            marks = {s: w.mark() for s, w in writers.items()} | {"table": table.mark()}
            print(json.dumps([number, marks]), flush=True)
        for writer in writers.values():
            append(writer, [number])
        table.append({"step": number, "x": number / 3})
"""


@pytest.mark.parametrize("seed", range(2))
def test_a33_a34_a_killed_run_loses_and_doubles_no_frame(tmp_path, seed):
    code = [sys.executable, "-c", textwrap.dedent(_WRITE_FOR_EVER), str(tmp_path), str(Path(__file__).parent)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(1 + seed):
            line = process.stdout.readline()
        time.sleep(random.Random(seed).uniform(0, 0.02))
        process.send_signal(signal.SIGKILL)
        line = [line, *process.stdout][-1]
    marked, marks = json.loads(line)
    for suffix in FORMATS:
        path = tmp_path / f"a{suffix}"
        mark = marks[suffix]
        with open_trajectory(path, frame(0), ROOM, mark) as writer:
            append(writer, range(marked, ROOM))
        assert path.read_bytes() == whole(tmp_path / f"whole{suffix}")
    with Table(tmp_path / "thermo.csv", marks["table"]) as table:
        for number in range(marked, ROOM):
            table.append({"step": number, "x": number / 3})
    assert (tmp_path / "thermo.csv").read_text().splitlines() == ["step,x", *(f"{n},{n / 3}" for n in range(ROOM))]


@pytest.mark.parametrize("suffix", FORMATS)
def test_a33_whatever_the_killed_run_left_behind_the_mark(tmp_path, suffix):
    """Any part of three frames after the mark may have reached the disk, headers included."""
    path, chance = tmp_path / f"a{suffix}", random.Random(0)
    with open_trajectory(path, frame(0), ROOM) as writer:
        append(writer, range(41))
        mark, before = writer.mark(), path.read_bytes()
        append(writer, range(41, 44))
    after = path.read_bytes()
    for _ in range(5):
        torn = bytearray(after[: chance.randint(len(before), len(after))])
        for place, old in enumerate(before):
            if torn[place] != old and chance.random() < 0.5:
                torn[place] = old
        path.write_bytes(torn)
        with open_trajectory(path, frame(0), ROOM, mark) as writer:
            assert steps(path) == [10 * number for number in range(41)]
            append(writer, range(41, 44))
        assert path.read_bytes() == after


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_reader_sees_whole_frames_at_any_moment(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with open_trajectory(path, frame(0), ROOM) as writer:
        for number in range(3):
            append(writer, [number])
            assert steps(path) == [10 * i for i in range(number + 1)]


@pytest.mark.parametrize(("suffix", "digits"), [(".extxyz", 1e-8), (".traj", 1e-14)])
@pytest.mark.parametrize("system", ["crystal", "slab", "molecule"])
def test_a35_ase_reads_what_was_written(tmp_path, suffix, digits, system):
    atoms = {"crystal": None, "slab": bulk("Si", cubic=True), "molecule": molecule("CH3CH2OH")}[system]
    if system == "slab":
        atoms.pbc = [True, True, False]
    written = [frame(number, atoms) for number in range(3)]
    path = tmp_path / f"a{suffix}"
    with open_trajectory(path, written[0], 3) as writer:
        for number, sample in enumerate(written):
            writer.append(sample, number, 0.5 * number)
    read = ase.io.read(path, ":")
    assert [(sample.info["step"], sample.info["time_fs"]) for sample in read] == [(0, 0.0), (1, 0.5), (2, 1.0)]
    for before, after in zip(written, read, strict=True):
        assert before.info == {}
        assert (after.numbers == before.numbers).all()
        assert (after.pbc == before.pbc).all()
        np.testing.assert_allclose(after.positions, before.positions, rtol=0, atol=digits)
        np.testing.assert_allclose(after.get_velocities(), before.get_velocities(), rtol=0, atol=digits)
        np.testing.assert_allclose(after.get_forces(), before.get_forces(), rtol=0, atol=digits)
        np.testing.assert_allclose(after.cell.array, before.cell.array, rtol=0, atol=digits)
        assert after.get_potential_energy() == before.get_potential_energy()
        if before.cell.rank == 3:
            np.testing.assert_allclose(after.get_stress(), before.get_stress(), rtol=0, atol=1e-14)


@pytest.mark.parametrize("pbc", [True, [True, True, False]])
def test_a35_h5md_follows_its_specification(tmp_path, pbc):
    atoms = bulk("Si", cubic=True)
    atoms.pbc = pbc
    written = [frame(number, atoms) for number in range(3)]
    with open_trajectory(tmp_path / "a.h5md", written[0], 5) as writer:
        for number, sample in enumerate(written):
            writer.append(sample, number, 0.5 * number)
    with h5py.File(tmp_path / "a.h5md") as file:
        assert file["h5md"].attrs["version"].tolist() == [1, 1]
        assert {"name", "version"} <= set(file["h5md/creator"].attrs)
        particles, observables = file["particles/trajectory"], file["observables"]
        assert particles["box"].attrs["dimension"] == 3
        assert list(particles["box"].attrs["boundary"]) == ["periodic" if periodic else "none" for periodic in atoms.pbc]
        assert particles["species"][:].tolist() == [14] * 8
        np.testing.assert_array_equal(particles["mass"][:], atoms.get_masses())
        elements = [particles[name] for name in ("velocity", "force", "box/edges")] + [observables[name] for name in observables]
        for element in elements:
            assert element["step"] == particles["position/step"]  # hard links
            assert element["time"] == particles["position/time"]
            assert element["value"].shape[0] == element["value"].maxshape[0] == 3
            assert element["value"].attrs["unit"]
        assert particles["position/step"][:].tolist() == [0, 1, 2]
        assert particles["position/time"][:].tolist() == [0.0, 0.5, 1.0]
        for number, sample in enumerate(written):
            np.testing.assert_array_equal(particles["position/value"][number], sample.positions.astype(np.float32))
            np.testing.assert_allclose(particles["velocity/value"][number], sample.get_velocities() * fs, rtol=1e-6)
            np.testing.assert_allclose(particles["force/value"][number], sample.get_forces() * mol / kJ, rtol=1e-6)
            np.testing.assert_array_equal(particles["box/edges/value"][number], sample.cell.array)
            assert observables["potential_energy/value"][number] == sample.get_potential_energy()
            np.testing.assert_array_equal(observables["stress/value"][number], sample.get_stress(voigt=False))


def test_a35_h5md_of_a_molecule_has_no_box(tmp_path):
    sample = frame(0, molecule("H2O"))
    with open_trajectory(tmp_path / "a.h5md", sample, 2) as writer:
        writer.append(sample, 0, 0.0)
    with h5py.File(tmp_path / "a.h5md") as file:
        assert "edges" not in file["particles/trajectory/box"]
        assert set(file["observables"]) == {"potential_energy"}


def test_a35_mdanalysis_reads_h5md(tmp_path):
    mdanalysis = pytest.importorskip("MDAnalysis")
    written = frame(3)
    with open_trajectory(tmp_path / "a.h5md", written, 5) as writer:
        append(writer, range(3, 5))
    universe = mdanalysis.Universe(str(tmp_path / "a.h5md"))
    assert len(universe.trajectory) == 2
    assert universe.trajectory[0].time == pytest.approx(0.015)  # ps
    np.testing.assert_allclose(universe.atoms.positions, written.positions, rtol=1e-6)
    np.testing.assert_allclose(universe.atoms.velocities, written.get_velocities() * 1000 * fs, rtol=1e-5)
    np.testing.assert_allclose(universe.atoms.forces, written.get_forces() * mol / kJ, rtol=1e-5)


def fill_the_disk(monkeypatch, path, more):
    """Let the file grow by a few bytes (H5MD: let a few writes through, up to the last of a frame)."""
    if path.suffix == ".h5md":
        pwrite, left = os.pwrite, [{1: 0, 100: 3, 600: 8}[more]]

        def refuse(*arguments):
            left[0] -= 1
            if left[0] < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return pwrite(*arguments)

        monkeypatch.setattr(os, "pwrite", refuse)
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + more, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("more", [1, 100, 600])
@pytest.mark.parametrize("suffix", FORMATS)
def test_on_a_full_disk_the_whole_frames_stay_and_the_run_can_go_on(tmp_path, monkeypatch, suffix, more):
    path, largest = tmp_path / f"a{suffix}", resource.getrlimit(resource.RLIMIT_FSIZE)
    with open_trajectory(path, frame(0), ROOM) as writer:
        append(writer, range(4))
        mark = writer.mark()
        with monkeypatch.context() as patch:
            try:
                fill_the_disk(patch, path, more)
                with pytest.raises(SimulationError, match=r"cannot be written \((No space|File too large).*resume the run"):
                    append(writer, range(4, 10))
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, largest)
        assert steps(path) == [0, 10, 20, 30]
        assert writer.mark() == mark
        append(writer, range(4, ROOM))
    assert path.read_bytes() == whole(tmp_path / f"whole{suffix}")


@pytest.mark.parametrize("suffix", [".extxyz", ".h5md"])
def test_what_the_system_writes_in_bites_is_written_whole(tmp_path, monkeypatch, suffix):
    expected, pwrite = whole(tmp_path / f"whole{suffix}", 3), os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, content, place: pwrite(handle, content[: 1 + len(content) // 2], place))
    assert whole(tmp_path / f"a{suffix}", 3) == expected


@pytest.mark.parametrize("limit", [100, 5000, 20_000, 80_000])
def test_a_disk_without_room_for_h5md_at_all_leaves_nothing(tmp_path, limit):
    largest = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, largest[1]))
        with pytest.raises(SimulationError, match="cannot be written"):
            open_trajectory(tmp_path / "a.h5md", frame(0), 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, largest)
    assert list(tmp_path.iterdir()) == []


def test_a_table_on_a_full_disk_keeps_its_rows(tmp_path):
    path, largest = tmp_path / "thermo.csv", resource.getrlimit(resource.RLIMIT_FSIZE)
    with Table(path) as table:
        table.append({"step": 0, "x": 0.5})
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (path.stat().st_size + 3, largest[1]))
            with pytest.raises(SimulationError, match=r"thermo.csv cannot be written"):
                table.append({"step": 1, "x": 0.25})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, largest)
        table.append({"step": 1, "x": 0.25})
    assert path.read_text() == "step,x\n0,0.5\n1,0.25\n"


def test_a_table_goes_on_with_its_columns_alone(tmp_path):
    with Table(tmp_path / "thermo.csv") as table:
        table.append({"step": 0, "x": 0.5})
        mark = table.mark()
    with Table(tmp_path / "thermo.csv", mark) as table, pytest.raises(SimulationError, match=r"thermo.csv was begun with other columns"):
        table.append({"step": 1})
    assert (tmp_path / "thermo.csv").read_text() == "step,x\n0,0.5\n"


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_mark_is_of_what_is_on_the_disk(tmp_path, monkeypatch, suffix):
    sizes = []
    with open_trajectory(tmp_path / f"a{suffix}", frame(0), ROOM) as writer:
        append(writer, range(3))
        monkeypatch.setattr(os, "fsync", lambda handle: sizes.append(os.fstat(handle).st_size))
        assert sizes == [writer.mark()["bytes"]]


@pytest.mark.parametrize("suffix", FORMATS)
def test_files_that_are_not_those_of_the_run_are_refused(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with open_trajectory(path, frame(0), ROOM) as writer:
        append(writer, range(3))
        mark = writer.mark()
    with pytest.raises(ConfigError, match="exists"):
        open_trajectory(path, frame(0), ROOM)
    content = path.read_bytes()
    path.write_bytes(content[:-100])
    with pytest.raises(ConfigError, match="bring"):
        open_trajectory(path, frame(0), ROOM, mark)
    assert path.read_bytes() == content[:-100]
    path.unlink()
    with pytest.raises(ConfigError, match="missing"):
        open_trajectory(path, frame(0), ROOM, mark)
    assert list(tmp_path.iterdir()) == []


def test_h5md_has_room_for_the_frames_that_were_announced(tmp_path):
    path = tmp_path / "a.h5md"
    with open_trajectory(path, frame(0), 3) as writer:
        append(writer, range(3))
        mark = writer.mark()
        with pytest.raises(SimulationError, match="full"):
            append(writer, [3])
    assert steps(path) == [0, 10, 20]
    with pytest.raises(ConfigError, match="room for 3 frames where 4"):
        open_trajectory(path, frame(0), 4, mark)
    with pytest.raises(ConfigError, match="not the one"):
        open_trajectory(path, frame(0, molecule("H2O")), 3, mark)


def test_room_that_is_not_used_takes_no_space(tmp_path):
    path, hole = tmp_path / "a.h5md", tmp_path / "hole"
    with hole.open("wb") as file:
        file.truncate(10**6)
    if hole.stat().st_blocks > 100:
        pytest.skip("this file system has no sparse files")
    with open_trajectory(path, frame(0), 100_000) as writer:
        append(writer, range(3))
    assert path.stat().st_size > 3e7
    assert path.stat().st_blocks * 512 < 2e5


def test_other_formats_and_h5md_without_h5py_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ConfigError, match="none of .extxyz, .traj, .h5md"):
        open_trajectory(tmp_path / "a.dcd", frame(0), 3)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ConfigError, match=r"install eqpot\[h5md\]"):
        open_trajectory(tmp_path / "a.h5md", frame(0), 3)


def test_a_folder_that_cannot_be_written_is_reported(tmp_path):
    for suffix in FORMATS:
        with pytest.raises((ConfigError, SimulationError), match="no folder|cannot be written"):
            open_trajectory(tmp_path / "missing" / f"a{suffix}", frame(0), 3)


@pytest.mark.parametrize("suffix", FORMATS)
def test_a_frame_without_results_is_a_frame(tmp_path, suffix):
    path = tmp_path / f"bare{suffix}"
    with open_trajectory(path, bulk("Si", cubic=True), 1) as trajectory:
        trajectory.append(bulk("Si", cubic=True), step=0, time_fs=0.0)
    if suffix != ".h5md":
        assert ase.io.read(path).calc is None
        return
    with h5py.File(path) as file:
        assert np.isnan(file["observables/potential_energy/value"][0])
        assert np.isnan(file["particles/trajectory/force/value"][0]).all()
        assert np.isfinite(file["particles/trajectory/position/value"][0]).all()
