# make demo: everything a newcomer needs, from an empty clone; make test: everything a maintainer needs; make docs: the pages.
# make floors, make ceilings: the tests with the lowest and the newest versions that pyproject.toml allows.
# make ecosystem: the tests with matcalc, atomate2, quacc, janus-core, metatomic, torch-sim; make peers: what benchmarks run beside eqpot.
PYTHON ?= python3
BIN := .venv/bin
EQPOT_PEERS ?= .peers
PEERS := mace nequip schnetpack torchsim

.PHONY: install demo test lint coverage docs slow floors ceilings zoo cluster ecosystem peers clean

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

# Tests wait for one another where they share what is slow to make, so a file stays with one process.
test: lint
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# Lines of eqpot/ that the tests run; TorchScript and compiled steps run some that it does not see.
coverage: install
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder --cov --cov-report=term:skip-covered

docs: install
	$(BIN)/python -m sphinx --quiet --fail-on-warning -b html docs docs/_build
	@echo "open docs/_build/index.html"

slow: install
	$(BIN)/python -m pytest -m slow

# The lowest and the newest versions of everything, gigabytes with torch's CUDA; what other packages warn of is no error here.
floors ceilings: %: .%/installed
	.$@/bin/python -m pytest --override-ini filterwarnings= --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

.floors/installed: RESOLUTION := lowest-direct
.ceilings/installed: RESOLUTION := highest
.floors/installed .ceilings/installed: pyproject.toml
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet uv
	$(@D)/bin/uv pip install --quiet --python $(@D)/bin/python --resolution $(RESOLUTION) --editable ".[dev]"
	touch $@

# The generated zoo of the neighbour lists and their random walks, at length: about an hour.
zoo: install
	EQPOT_ZOO=50000 EQPOT_STEPS=100000 $(BIN)/python -m pytest tests/neighbors

# torch-cluster has no wheels: pip compiles it once, for about twenty minutes, and keeps the result in its cache.
cluster: install
	$(BIN)/python -m pip install --quiet setuptools wheel
	$(BIN)/python -m pip install --quiet --no-build-isolation --constraint constraints.txt torch-cluster
	$(BIN)/python -m pytest -m cluster

ecosystem: .ecosystem/installed
	.ecosystem/bin/python -m pytest -m ecosystem tests/ecosystem tests/test_examples.py

# An environment of its own: these packages ask for other versions than the developer's. The list is complete.
.ecosystem/installed: pyproject.toml constraints.txt tests/ecosystem/requirements.txt
	$(PYTHON) -m venv .ecosystem
	.ecosystem/bin/python -m pip install --quiet --constraint constraints.txt torch
	.ecosystem/bin/python -m pip install --quiet --no-deps --requirement tests/ecosystem/requirements.txt
	.ecosystem/bin/python -m pip install --quiet --no-deps --editable .
	touch $@

peers: $(PEERS:%=$(EQPOT_PEERS)/%/installed)

# The lists are complete, so nothing is left to resolve; schnetpack asks for Python 3.12 and runs on 3.11.
$(EQPOT_PEERS)/%/installed: benchmarks/peers/%.txt constraints.txt
	$(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --constraint constraints.txt torch
	$(@D)/bin/python -m pip install --quiet --no-deps --ignore-requires-python --requirement $<
	touch $@

clean:
	rm -rf .venv .ecosystem .floors .ceilings build *.egg-info demo runs .pytest_cache .mypy_cache .ruff_cache .hypothesis
