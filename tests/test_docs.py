"""The pages build without a warning: no broken link, no name that is gone."""

import subprocess
import sys

import pytest

from helpers import ROOT


def test_the_pages_build(tmp_path):
    pytest.importorskip("furo", reason="the theme is not installed; pip install 'eqpot[docs]'")
    # The examples run in a test of their own.
    options = ["--quiet", "--fail-on-warning", "-D", "plot_gallery=0", "-d", tmp_path / "cache", "-b", "html"]
    command = [sys.executable, "-m", "sphinx", *options, ROOT / "docs", tmp_path / "html"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]
    commands = (tmp_path / "html" / "commands.html").read_text(encoding="utf-8")
    assert "Such as training.epochs=100" in commands
    assert "active learning" in (tmp_path / "html" / "examples" / "index.html").read_text(encoding="utf-8")
    assert "annihilate" in (tmp_path / "html" / "protocols.html").read_text(encoding="utf-8")
