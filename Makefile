# `make demo` and `make test` need Python 3.11 or newer and nothing else: they install what they use into .venv.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test simulation lint types layers check clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo/demo.py

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

simulation: $(VENV)/.installed-dev
	$(BIN)/python -m tests.simulation ci

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.installed-dev
	$(BIN)/mypy

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

check: lint types layers test

clean:
	rm -rf $(VENV) .aiorch build dist

$(VENV)/.installed: pyproject.toml
	@echo "Installing into $(VENV), once ..."
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	touch $@
