# Every target makes its own environment in .venv, so a fresh clone needs nothing but Python 3.11 or newer and pip.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 3  # tests at once: a third uses the time in which the others wait for processes to start

.PHONY: help run test faults soak cluster-test lint format bench clean
.DEFAULT_GOAL := help

help:                  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */:/' | awk -F: '{printf "  %-14s %s\n", $$1, substr($$0, length($$1) + 2)}'

run: $(VENV)/run       ## the main job: tune a perceptron on real digits, about a minute
	$(BIN)/raysweep run search_spaces/digits_mlp.yaml

test: $(VENV)/dev      ## the tests, about eight minutes on two cores
	$(BIN)/python -m pytest -n $(JOBS)

faults: $(VENV)/recipes  ## the slow tests: lost nodes, full disks, memory, an MLflow that is down, the benchmarks; half an hour
	$(BIN)/python -m pytest -m slow

soak: $(VENV)/dev      ## kill random processes for ten minutes
	$(BIN)/python tests/faults/soak.py

cluster-test: $(VENV)/cluster  ## `ray up` on hosts made of namespaces, as root; eleven minutes
	$(BIN)/python -m pytest -m cluster -s

lint: $(VENV)/dev      ## ruff and mypy
	$(BIN)/ruff check platform search_spaces tests
	$(BIN)/ruff format --check platform search_spaces tests
	$(BIN)/mypy

format: $(VENV)/dev    ## format the code
	$(BIN)/ruff check --fix platform search_spaces tests
	$(BIN)/ruff format platform search_spaces tests

bench: $(VENV)/dev     ## beside Ray Tune alone, in one run
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

$(VENV)/recipes: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,recipes]'
	touch $@

$(VENV)/cluster: $(VENV)/dev
	$(BIN)/python -m pip install --quiet --editable '.[dev,cluster]'
	touch $@

clean:                 ## delete the environment and all caches
	rm -rf $(VENV) build .mypy_cache .pytest_cache .ruff_cache .hypothesis
