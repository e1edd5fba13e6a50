"""The examples and the README's snippets run, each in a process and a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT

ARGUMENTS = {"01_fit": ["--output", "run"], "02_dynamics": ["--output", "run", "--steps", "40"], "04_torchscript": ["--output", "si.pt"]}
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
SNIPPETS = re.findall(r"^```(python|bash)\n(.*?)^```", (ROOT / "README.md").read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
RUNNABLE = [(language, code) for language, code in SNIPPETS if "make" not in code]


def run(command, cwd):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(tmp_path, path):
    assert len(path.read_text().splitlines()) <= 60
    printed = run([sys.executable, str(path), *ARGUMENTS.get(path.stem, [])], tmp_path)
    assert printed
    if path.stem == "02_dynamics":
        assert (tmp_path / "run" / "dynamics.png").stat().st_size > 20_000


@pytest.mark.parametrize("path", sorted((ROOT / "md" / "protocols").glob("*.sh")), ids=lambda path: path.stem)
def test_protocol(tmp_path, path):
    assert "drifts by" in run(["bash", str(path), "20"], tmp_path).replace("\n", " ")


def test_the_readme_has_the_three_uses():
    assert len(RUNNABLE) >= 3


@pytest.mark.parametrize("snippet", RUNNABLE, ids=[f"{number}-{language}" for number, (language, _) in enumerate(RUNNABLE, 1)])
def test_readme_snippet(tmp_path, snippet):
    """Snippets are run in a folder that sees the repository's folders, with the training cut short."""
    language, code = snippet
    for name in ("potentials", "examples", "benchmarks"):
        (tmp_path / name).symlink_to(ROOT / name)
    if language == "python":
        run([sys.executable, "-c", code], tmp_path)
    else:
        run(["bash", "-euc", code.replace("--steps 2000", "--steps 20")], tmp_path)
