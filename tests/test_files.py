"""Files are whole and on the disk before anything says so."""

import os

import pytest

from eqpot.files import AppendedFile, whole_folder, write_atomically
from eqpot.training.logs import append_row


@pytest.fixture
def synced(monkeypatch):
    """The sizes that files had when they were brought to the disk."""
    sizes = []
    monkeypatch.setattr(os, "fsync", lambda handle: sizes.append(os.fstat(handle).st_size))
    return sizes


def test_a_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch, synced):
    (tmp_path / "a").write_bytes(b"old")
    replace = type(tmp_path).replace
    monkeypatch.setattr(type(tmp_path), "replace", lambda *paths: (synced.append("renamed"), replace(*paths)))
    write_atomically(tmp_path / "a", b"content")
    assert synced == [7, "renamed"]
    assert (tmp_path / "a").read_bytes() == b"content"


def test_what_was_appended_is_on_the_disk_when_its_length_is_told(tmp_path, synced):
    file = AppendedFile(tmp_path / "a")
    file.append(b"content")
    file.sync()
    file.close()
    assert synced == [file.length] == [7]
    assert append_row(tmp_path / "b.csv", {"epoch": 1}) == synced[1] == len("epoch\n1\n")


def test_others_may_read_what_is_written(tmp_path):
    """Temporary files and folders are their owner's alone."""
    (tmp_path / "file").touch()
    (tmp_path / "folder").mkdir()
    write_atomically(tmp_path / "whole file", b"")
    with whole_folder(tmp_path / "whole folder"):
        pass
    for kind in ("file", "folder"):
        assert (tmp_path / f"whole {kind}").stat().st_mode == (tmp_path / kind).stat().st_mode
