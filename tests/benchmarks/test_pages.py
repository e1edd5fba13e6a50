"""The pages show what was measured."""

import json
import sys

import pytest

import figures
import measured
import pages
from eqpot.shipped import shipped


def test_the_pages_are_up_to_date(capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["pages.py", "--check"])
    with pytest.raises(SystemExit) as ended:
        pages.main()
    assert ended.value.code == 0, f"run benchmarks/pages.py: {capsys.readouterr().out}"
    places = {place[2] for page in pages.PAGES for place in pages._PLACE.finditer(page.read_text(encoding="utf-8"))}
    assert {"shipped", "budget ethanol", *(f"passport {name}" for name in shipped())} <= places


def test_a_number_that_was_not_measured_is_found(tmp_path, capsys, monkeypatch):
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table passport ethanol -->\n| force | 0.1 |\n<!-- end -->\nafter\n")
    monkeypatch.setattr(pages, "PAGES", (page,))
    monkeypatch.setattr(pages, "ROOT", tmp_path)
    for arguments, code in ((["--check"], 1), ([], 0), (["--check"], 0)):
        monkeypatch.setattr(sys, "argv", ["pages.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            pages.main()
        assert ended.value.code == code
    assert capsys.readouterr().out == "page.md\npage.md\n"
    text = page.read_text()
    assert text.startswith("before\n<!-- table passport ethanol -->\n| measured | value |")
    assert text.endswith("<!-- end -->\nafter\n")
    assert "0.1 |" not in text.split("NVE")[0]


def test_a_figure_of_old_numbers_is_found(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(pages, "PAGES", ())
    monkeypatch.setattr(figures, "FOLDER", tmp_path)
    monkeypatch.setattr(measured, "MEASURED", tmp_path / "measured.jsonl")
    kept = (pages.ROOT / "docs" / "measured.jsonl").read_text(encoding="utf-8")
    slowest = max(row["values"]["times eqpot"]["median"] for row in map(json.loads, kept.splitlines()) if row["table"] == "speed aspirin")
    (tmp_path / "measured.jsonl").write_text(kept.replace(f'"median": {slowest}', '"median": 432.0'))
    for name in figures.FIGURES:
        (tmp_path / name).write_bytes((pages.ROOT / "docs" / "_static" / name).read_bytes())
    for arguments, code in ((["--check"], 1), ([], 0), (["--check"], 0)):
        monkeypatch.setattr(sys, "argv", ["pages.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            pages.main()
        assert ended.value.code == code
    assert capsys.readouterr().out == "speed.svg\nspeed.svg\n"
    drawn = (tmp_path / "speed.svg").read_text()
    assert "432" in drawn
    assert "PaiNN" in drawn
