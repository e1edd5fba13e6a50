"""One self-contained HTML page: figures inside, no script, readable on a phone."""

import html
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from eqpot.files import write_atomically

COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")
"""Okabe and Ito's, which people with any colour vision tell apart."""

_STYLE = """
:root { color-scheme: light; --ink: #1b1f24; --soft: #5c6670; --line: #e3e7eb; --back: #f6f7f9; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--back); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 1.5rem 1rem 4rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0; overflow-wrap: anywhere; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
p { margin: .3rem 0 .8rem; color: var(--soft); max-width: 48rem; }
.tiles { display: flex; flex-wrap: wrap; gap: .8rem; margin: 1.2rem 0; }
.tile { flex: 1 1 auto; min-width: 10.5rem; max-width: 24rem; }
.tile { background: #fff; border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; }
.tile b { display: block; font-size: clamp(1.05rem, 1.6vw, 1.25rem); font-weight: 600; line-height: 1.2; white-space: nowrap; }
.tile b small { font-size: .7em; font-weight: 400; }
.tile span { display: block; width: 0; min-width: 100%; color: var(--soft); font-size: .85rem; }
.figures { display: grid; gap: .8rem; grid-template-columns: repeat(auto-fit, minmax(min(21rem, 100%), 1fr)); }
figure { margin: 0; background: #fff; border: 1px solid var(--line); border-radius: .6rem; padding: .6rem; }
figure:only-child { max-width: 36rem; }
figure svg { width: 100%; height: auto; display: block; }
figcaption { color: var(--soft); font-size: .85rem; padding: .2rem .4rem; }
.scroll { overflow-x: auto; background: #fff; border: 1px solid var(--line); border-radius: .6rem; }
.figures + .scroll { margin-top: .8rem; }
table { border-collapse: collapse; width: 100%; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .4rem .8rem; border-bottom: 1px solid var(--line); white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 9rem; }
tr:last-child td { border-bottom: 0; }
th { color: var(--soft); font-weight: 600; }
pre { background: #fff; border: 1px solid var(--line); border-radius: .6rem; padding: .8rem 1rem; overflow-x: auto; font-size: .85rem; }
"""


class Page:
    """A page that grows from top to bottom. Everything given as text is escaped."""

    def __init__(self, title: str, subtitle: str) -> None:
        self.title = title
        self._parts = [f"<h1>{html.escape(title)}</h1>", f"<p>{html.escape(subtitle)}</p>"]

    def heading(self, text: str, remark: str = "") -> None:
        """Begin a section."""
        self._parts.append(f"<h2>{html.escape(text)}</h2>")
        if remark:
            self._parts.append(f"<p>{html.escape(remark)}</p>")

    def tiles(self, values: Iterable[tuple[str, str, str]]) -> None:
        """Show a few large numbers: (value, unit, what it is)."""
        escaped = [[html.escape(text) for text in texts] for texts in values]
        tiles = "".join(f'<div class="tile"><b>{value} <small>{unit}</small></b><span>{name}</span></div>' for value, unit, name in escaped)
        self._parts.append(f'<div class="tiles">{tiles}</div>')

    def figures(self, figures: Iterable[tuple[Figure, str]]) -> None:
        """Show figures with captions side by side, below each other where the page is narrow."""
        drawn = "".join(f"<figure>{_svg(figure)}<figcaption>{html.escape(caption)}</figcaption></figure>" for figure, caption in figures)
        self._parts.append(f'<div class="figures">{drawn}</div>')

    def table(self, headings: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
        """Show a table; numbers are given as text already."""
        head = "".join(f"<th>{html.escape(heading)}</th>" for heading in headings)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
        self._parts.append(f'<div class="scroll"><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>')

    def text(self, text: str) -> None:
        """Show text as it is, such as a configuration."""
        self._parts.append(f"<pre>{html.escape(text)}</pre>")

    def write(self, path: str | Path) -> None:
        """Write the page, atomically."""
        viewport = '<meta name="viewport" content="width=device-width, initial-scale=1">'
        head = f'<meta charset="utf-8">{viewport}<title>{html.escape(self.title)}</title><style>{_STYLE}</style>'
        body = f"<main>{''.join(self._parts)}</main>"
        content = f'<!doctype html><html lang="en"><head>{head}</head><body>{body}</body></html>\n'
        write_atomically(Path(path), content.encode())


def panel(xlabel: str, ylabel: str) -> tuple[Figure, Axes]:
    """Return a figure of one panel, of the size that stands in a page."""
    figure = Figure(figsize=(4.6, 3.5), layout="constrained")
    axes = figure.subplots()
    axes.set_xlabel(xlabel)
    axes.set_ylabel(ylabel)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, color="#e3e7eb", linewidth=0.6)
    axes.set_axisbelow(True)
    return figure, axes


def _svg(figure: Figure) -> str:
    buffer = io.StringIO()
    # A fixed salt: the same run gives the same bytes.
    with rc_context({"svg.hashsalt": "eqpot"}):
        figure.savefig(buffer, format="svg", dpi=200, metadata={"Date": None})
    text = buffer.getvalue()
    return text[text.index("<svg") :]
