"""The examples and the README's snippets run, each in a process and a folder of its own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from helpers import ROOT

ARGUMENTS = {"01_fit": ["--output", "run"], "02_dynamics": ["--output", "run", "--steps", "40"], "04_torchscript": ["--output", "si.pt"]}
SHORTER = {
    "06_spectrum": ("STEPS, REPLICAS = 8000, 4", "STEPS, REPLICAS = 2500, 2"),
    "07_silicon": ("EPOCHS = 10", "EPOCHS = 1"),
    "08_active_learning": ("EPOCHS = 40", "EPOCHS = 2"),
    "10_own_block": ("STEPS = 100", "STEPS = 2"),
}
"""Examples that take a minute, with a number that the test makes smaller; `make docs` runs them as they are."""
EXAMPLES = sorted((ROOT / "examples").glob("[0-9]*.py"))
ECOSYSTEM = ("matcalc", "atomate2", "quacc", "janus_core")


def snippets(page):
    """The Python and shell blocks of a page, but for `make`; those that need other packages carry their mark."""
    blocks = re.findall(r"^```(python|bash)\n(.*?)^```", (ROOT / page).read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    return [
        pytest.param(
            language, code,
            id=f"{Path(page).stem}-{number}-{language}",
            marks=[pytest.mark.ecosystem] if any(f"from {name}" in code for name in ECOSYSTEM) else [],
        )
        for number, (language, code) in enumerate(blocks, 1)
        if "make " not in code
    ]  # fmt: skip


def run(command, cwd):
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=environment, check=False, timeout=600)
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(tmp_path, path):
    code = path.read_text(encoding="utf-8")
    assert len(code.splitlines()) <= 60
    if path.stem in SHORTER:
        long, short = SHORTER[path.stem]
        assert long in code
        (tmp_path / "potentials").symlink_to(ROOT / "potentials")
        (tmp_path / "examples").mkdir()
        (tmp_path / "examples" / "data").symlink_to(ROOT / "examples" / "data")
        path = tmp_path / "examples" / path.name
        path.write_text(code.replace(long, short), encoding="utf-8")
    printed = run([sys.executable, str(path), *ARGUMENTS.get(path.stem, [])], tmp_path)
    assert printed
    if path.stem == "02_dynamics":
        assert (tmp_path / "run" / "dynamics.png").stat().st_size > 20_000


def test_the_readme_has_the_four_uses():
    assert len(snippets("README.md")) >= 4


PAGES = ("README.md", "docs/ase.md", "docs/dynamics.md", "docs/howto.md", "docs/neighbors.md", "docs/observables.md", "docs/properties.md")


@pytest.mark.parametrize(("language", "code"), [snippet for page in PAGES for snippet in snippets(page)])
def test_snippet(tmp_path, language, code):
    """Snippets are run in a folder that sees the repository's folders, with the training cut short."""
    for name in ("potentials", "examples", "benchmarks", "md"):
        (tmp_path / name).symlink_to(ROOT / name)
    if language == "python":
        run([sys.executable, "-c", code], tmp_path)
    else:
        run(["bash", "-euc", code.replace("dynamics.temperature=350", "dynamics.temperature=350 dynamics.steps=20")], tmp_path)
