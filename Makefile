# make demo: everything a newcomer needs, from an empty clone; make test: everything a maintainer needs.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: install demo test lint slow clean

install: .venv/installed

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable ".[dev]"
	touch $@

demo: install
	rm -rf demo
	$(BIN)/python examples/02_dynamics.py --output demo

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy eqpot
	$(BIN)/codespell

test: lint
	$(BIN)/python -m pytest

slow: install
	$(BIN)/python -m pytest -m slow

clean:
	rm -rf .venv build *.egg-info demo runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
