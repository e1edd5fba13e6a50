"""Put the measured tables and figures into the pages that show them.

python benchmarks/pages.py            # rewrites the pages
python benchmarks/pages.py --check    # says which pages are not what the measurements give; exit code 1 if there are any

A page marks the place of a table by lines <!-- table NAME --> and <!-- end -->. Passports of the shipped potentials (`eqpot passport`),
docs/accuracy.json (`accuracy.py`), docs/candidates.json (`candidates.py`) and docs/measured.jsonl (all other benchmarks, with --keep) are
what tables are made of.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable
from pathlib import Path

import figures
from accuracy_tables import budget_table, recipe_table
from candidates import table as candidates_table
from eqpot.passport import Passport, read_passport, rows
from eqpot.shipped import shipped
from measured import markdown

ROOT = Path(__file__).parents[1]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted((ROOT / "potentials").glob("*/card.md")))
_PLACE = re.compile(r"(<!-- table (.*?) -->\n).*?(<!-- end -->)", re.DOTALL)


def passport_table(name: str) -> str:
    found = rows(read_passport(shipped()[name].path.with_name("passport.json")))
    return "\n".join(["| measured | value |", "| --- | --- |", *(f"| {row} | {value} |" for row, value in found)])


def shipped_table(_: str) -> str:
    """Return a row for each shipped potential: its data and the errors of its passport."""
    lines = ["| potential | data | energy, MAE | force, MAE | stress, MAE |", "| --- | --- | --- | --- | --- |"]
    for name, entry in shipped().items():
        errors = _errors(read_passport(entry.path.with_name("passport.json")))
        lines.append(f"| [`{name}`](potentials/{name}/card.md) | {entry.data} | {' | '.join(errors)} |")
    return "\n".join(lines)


def _errors(passport: Passport) -> list[str]:
    errors = passport.errors
    assert errors is not None
    # Of crystals nobody asks for the energy of a cell.
    energy = f"{errors.energy_mae_mev_per_atom:#.3g} meV/atom" if "periodic" in passport.structure else f"{errors.energy_mae_mev:#.3g} meV"
    stress = "" if errors.stress_mae_gpa is None else f"{errors.stress_mae_gpa:#.3g} GPa"
    return [energy, f"{errors.force_mae_mev_per_ang:#.3g} meV/Å", stress]


def _results(name: str) -> dict:
    return json.loads((ROOT / "docs" / f"{name}.json").read_text(encoding="utf-8"))


TABLES: dict[str, Callable[[str], str]] = {
    "passport": passport_table,
    "shipped": shipped_table,
    "budget": lambda task: budget_table(_results("accuracy"), task),
    "recipes": lambda kind: recipe_table(_results("accuracy"), kind),
    "measured": markdown,
    "candidates": lambda task: candidates_table(task, _results("candidates")[task]),
}
"""First word of a table's name -> what makes it of the rest."""


def rendered(page: str) -> str:
    """Return the text of a page with its tables as they are measured."""

    def fill(place: re.Match[str]) -> str:
        kind, _, rest = place[2].partition(" ")
        return f"{place[1]}{TABLES[kind](rest)}\n{place[3]}"

    return _PLACE.sub(fill, page)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing, and name the pages that would change")
    arguments = parser.parse_args()
    texts = {page: page.read_text(encoding="utf-8") for page in PAGES}
    changed = {page: new for page, text in texts.items() if (new := rendered(text)) != text}
    for page, text in changed.items():
        print(page.relative_to(ROOT))
        if not arguments.check:
            page.write_text(text, encoding="utf-8")
    old = [name for name in figures.FIGURES if figures.stale(name)]
    for name in old:
        print(name)
        if not arguments.check:
            figures.draw(name)
    sys.exit(1 if arguments.check and (changed or old) else 0)


if __name__ == "__main__":
    main()
