"""Measured tables are printed as they are kept."""

import argparse
import json

import pytest

import measured
from measured import Table, markdown, quartiles, several, with_error


@pytest.fixture(autouse=True)
def file(tmp_path, monkeypatch):
    monkeypatch.setattr(measured, "MEASURED", tmp_path / "measured.jsonl")
    monkeypatch.setattr(measured, "processor", lambda: "a processor")
    return measured.MEASURED


def test_what_is_printed_is_what_is_kept(capsys):
    table = Table("speed", keep=True, rounds=3)
    table.add({"package": "one"}, {"ms": quartiles([1.0, 2.0, 3.0, 4.0, 5.0]), "atoms": 12_345, "part, %": 0.12345})
    table.add({"package": "two"}, {"ms": None, "atoms": None, "part, %": with_error(-1.23e-4, 4.5e-5)})
    printed = capsys.readouterr().out.strip()
    assert printed == (
        "| package | ms | atoms | part, % |\n| --- | --- | --- | --- |\n"
        "| one | 3 (2 to 4) | 12,345 | 0.123 |\n| two |  |  | -1.2e-04 ± 5e-05 |"
    )
    kept, note = markdown("speed").split("\n\n")
    assert kept == printed
    assert note.startswith("(rounds 3, a processor, torch 2.")


def test_a_row_takes_the_place_of_its_own(file):
    Table("other", keep=True).add({"package": "one"}, {"ms": 7})
    first = Table("speed", keep=True, rounds=3)
    for package, value in (("one", 1), ("two", 2), ("three", 3)):
        first.add({"package": package}, {"ms": value})
    Table("speed", keep=True, rounds=9).add({"package": "two"}, {"ms": 20})
    rows = [json.loads(line) for line in file.read_text().splitlines()]
    assert [row["values"]["ms"] for row in rows] == [7, 1, 20, 3]
    note = markdown("speed").split("\n\n")[1]
    assert note.startswith("(one; three: rounds 3, ")
    assert "two: rounds 9, " in note


def test_notes_name_rows_by_what_they_share():
    for rounds, rows in ((3, ("gas one", "gas two", "metal one")), (9, ("metal two",))):
        table = Table("speed", keep=True, rounds=rounds)
        for row in rows:
            table.add(dict(zip(("system", "method"), row.split(), strict=True)), {"ms": 1})
    note = markdown("speed").split("\n\n")[1]
    assert note.startswith("(gas; metal, one: rounds 3, ")
    assert "metal, two: rounds 9, " in note


def test_two_rows_of_one_table_are_of_different_things(file):
    table = Table("speed", keep=True)
    table.add({"package": "one"}, {"ms": 1})
    with pytest.raises(ValueError, match="has a row of {'package': 'one'} already"):
        table.add({"package": "one"}, {"ms": 2})
    assert '"ms": 1' in file.read_text()


def test_nothing_is_kept_unless_that_is_wanted(file):
    Table("speed").add({"package": "one"}, {"ms": 1})
    assert not file.exists()
    with pytest.raises(KeyError, match="no table speed"):
        markdown("speed")


@pytest.mark.parametrize("text", ["1", "0", "-3", "many"])
def test_too_few_rounds_are_refused_before_the_measurement(text):
    with pytest.raises(argparse.ArgumentTypeError, match=f"{text} is not a number of rounds from 2 on"):
        several(text)
