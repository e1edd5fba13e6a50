"""The benchmark of reading runs and tells what it should."""

import logging

import reading


def test_the_table_is_printed(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["reading.py", "--frames", "24"])
    try:
        reading.main()
    finally:
        logging.disable(logging.NOTSET)
    printed = capsys.readouterr().out
    assert "24 frames, " in printed
    assert printed.count("\n| ") == 5
    assert "eqpot doctor data: " in printed
