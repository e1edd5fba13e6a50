"""Sphinx: these pages, the protocols, the cards of the potentials, the commands, and the reference from docstrings."""

import builtins
import re
import tempfile
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
from docutils import nodes
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from typer.testing import CliRunner

from eqpot.cli.main import app as command_line
from eqpot.network.orientations import spherical_design

ROOT = Path(__file__).parents[1]

project = "eqpot"
author = "the developers of eqpot"
html_show_copyright = False
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.viewcode", "sphinx_copybutton", "sphinx_gallery.gen_gallery"]
exclude_patterns = ["_build", "examples/GALLERY_HEADER.rst"]
myst_heading_anchors = 3
myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
html_theme = "furo"
html_title = "eqpot"
html_static_path = ["_static"]
html_css_files = ["wide.css"]
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
python_use_unqualified_type_names = True
nitpicky = False
suppress_warnings = ["config.cache"]  # the gallery's settings hold a function


def _arguments(_: dict[str, Any], script: dict[str, Any]) -> list[str]:
    """Examples write into a fresh folder, which those with options name by --output and others as their only argument."""
    # The gallery leaves out __file__, by which a script finds the data beside it.
    builtins.__file__ = script["src_file"]  # type: ignore[attr-defined]
    folder = str(Path(tempfile.mkdtemp()) / "run")
    code = Path(script["src_file"]).read_text(encoding="utf-8")
    return ["--output", folder] if "--output" in code else [folder] if "sys.argv[1]" in code else []


def _draw_grid() -> Path:
    """The 24 orientations of the default network: the picture of examples that draw nothing."""
    points = spherical_design(24).numpy()
    figure, axes = plt.subplots(figsize=(4, 4))
    axes.add_patch(plt.Circle((0, 0), 1, color="#eef3f8"))
    axes.scatter(points[:, 0], points[:, 1], s=60 + 40 * points[:, 2], c=points[:, 2], cmap="Blues", vmin=-2, vmax=1)
    axes.set(aspect="equal", xlim=(-1.15, 1.15), ylim=(-1.15, 1.15))
    axes.axis("off")
    path = Path(tempfile.mkdtemp()) / "grid.png"
    figure.savefig(path, dpi=100)
    plt.close(figure)
    return path


sphinx_gallery_conf = {
    "examples_dirs": str(ROOT / "examples"),
    "gallery_dirs": "examples",
    "filename_pattern": r"/\d\d_",
    "within_subsection_order": "FileNameSortKey",
    "reset_argv": _arguments,
    "show_memory": False,
    "show_signature": False,
    "remove_config_comments": True,
    "download_all_examples": False,
    "min_reported_time": 3600,
    "default_thumb_file": str(_draw_grid()),
    "plot_gallery": "True",
}


def _card(path: Path) -> str:
    return re.sub(r"^#", "##", path.read_text(encoding="utf-8"), flags=re.MULTILINE).replace("](../../docs/", "](")


def _commands() -> str:
    """The help of every command, as it is printed."""

    def said(*words: str) -> str:
        text = CliRunner().invoke(command_line, [*words, "--help"], env={"COLUMNS": "92", "NO_COLOR": "1", "TERM": "dumb"}).output
        return f"```text\n{text.strip()}\n```"

    names = [command.name or command.callback.__name__.replace("_", "-") for command in command_line.registered_commands]
    groups = [
        (group.name, [command.name or command.callback.__name__ for command in group.typer_instance.registered_commands])
        for group in command_line.registered_groups
    ]
    parts = ["# Commands", said()]
    parts += [f"## eqpot {name}\n\n{said(name)}" for name in names]
    parts += [f"## eqpot {group} {name}\n\n{said(group, name)}" for group, members in groups for name in members]
    return "\n\n".join(parts)


def _protocols() -> str:
    return (ROOT / "md" / "README.md").read_text(encoding="utf-8").replace("](../docs/", "](")


def _potentials() -> str:
    return "\n\n".join(["# Shipped potentials", *(_card(path) for path in sorted((ROOT / "potentials").glob("*/card.md")))])


GENERATED = {"protocols": _protocols, "potentials": _potentials, "commands": _commands}


def _write_pages(_: Sphinx, page: str, source: list[str]) -> None:
    if page in GENERATED:
        source[0] = GENERATED[page]()
    source[0] = source[0].replace("](../md/README.md", "](protocols.md").replace("](../potentials)", "](potentials.md)")


def _outdated(*_: Any) -> list[str]:
    """Generated pages are read anew at every build: Sphinx does not see what they are made of."""
    return list(GENERATED)


def _inline_math(translator: Any, node: nodes.math) -> None:
    """Formulas are MathML, which browsers draw without a script from elsewhere."""
    translator.body.append(convert(node.astext()))
    raise nodes.SkipNode


def _display_math(translator: Any, node: nodes.math_block) -> None:
    translator.body.append(convert(node.astext(), display="block"))
    raise nodes.SkipNode


def _plain(_: Sphinx, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Docstrings are plain text with `code`, and tables of names and shapes, which keep their columns."""
    paragraphs = re.split(r"\n\s*\n", "\n".join(lines))
    lines[:] = "\n\n".join(_literal(text) if _is_table(text) else _text(text) for text in paragraphs).split("\n")


def _skipped(_: Sphinx, what: str, name: str, *rest: Any) -> bool | None:
    """What pydantic puts into every class is of no use to a reader."""
    return True if name == "model_config" else None


def _is_table(text: str) -> bool:
    return len(re.findall(r"^(?:\||\w+ +\[|\w+ {2,}\S)", text, flags=re.MULTILINE)) > 1


def _literal(text: str) -> str:
    return "::\n\n" + "\n".join(f"   {line}" for line in text.split("\n"))


def _text(text: str) -> str:
    for character in "\\*|":
        text = text.replace(character, f"\\{character}")
    return re.sub(r"(?<!`)`([^`]+)`(?!`)", r"``\1``", text)


def setup(app: Sphinx) -> None:
    app.connect("source-read", _write_pages)
    app.connect("env-get-outdated", _outdated)
    app.add_html_math_renderer("mathml", (_inline_math, None), (_display_math, None))
    app.connect("autodoc-process-docstring", _plain)
    app.connect("autodoc-skip-member", _skipped)
