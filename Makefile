# Every target makes its own environment in .venv, so a fresh clone needs nothing but Python 3.11 or newer and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: run test faults soak cluster-test lint bench clean

run: $(VENV)/run       ## the main job: search a perceptron on real digits, about a minute
	$(BIN)/raysweep run search_spaces/digits_mlp.yaml

test: $(VENV)/dev      ## the tests, about twelve minutes on two cores
	$(BIN)/python -m pytest

faults: $(VENV)/dev    ## the slow ones: nodes and heads that die, full disks, memory, MLflow away, and the benchmarks; about twenty minutes
	$(BIN)/python -m pytest -m slow

soak: $(VENV)/dev      ## random kills of random things for ten minutes
	$(BIN)/python tests/faults/soak.py

cluster-test: $(VENV)/cluster  ## `ray up` on machines made of namespaces, as root; about eleven minutes
	$(BIN)/python -m pytest -m cluster -s

lint: $(VENV)/dev
	$(BIN)/ruff check platform tests
	$(BIN)/ruff format --check platform tests
	$(BIN)/mypy

bench: $(VENV)/dev     ## against Ray Tune alone, side by side
	$(BIN)/python tests/benchmarks/overhead.py
	$(BIN)/python tests/benchmarks/throughput.py

$(VENV)/run: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/dev: $(VENV)/run
	$(BIN)/python -m pip install --quiet --editable '.[dev]'
	touch $@

$(VENV)/cluster: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,cluster]'
	touch $@

clean:
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
