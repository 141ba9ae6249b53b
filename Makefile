# `make demo`, `orders` and `test` need Python 3.11 to 3.13 and nothing else: they install what they use into .venv, once.
# The newest suitable interpreter is taken; `make PYTHON=/path/to/python demo` names another (after a `make clean`).
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin

.NOTPARALLEL:
.PHONY: demo orders test simulation lint types layers check clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo/demo.py

orders: $(VENV)/.installed
	@run=orders-$$(date +%Y%m%d-%H%M%S) && \
	$(BIN)/python -m aiorch run examples/orders/orders.yaml --run-id $$run && $(BIN)/python -m aiorch show $$run

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -n auto --dist worksteal

simulation: $(VENV)/.installed-dev
	$(BIN)/python -m tests.simulation ci

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/python tools/prose.py --limits

types: $(VENV)/.installed-dev
	$(BIN)/mypy
	$(BIN)/mypy --strict tests/typing/user_program.py
	$(BIN)/basedpyright
	$(BIN)/python tools/public_types.py

layers: $(VENV)/.installed-dev
	$(BIN)/lint-imports

check: lint types layers test

clean:
	rm -rf $(VENV) .aiorch build dist

$(VENV)/.installed: pyproject.toml
	@sh .ci/install $(VENV) . '$(PYTHON)'
	@touch $@

$(VENV)/.installed-dev: pyproject.toml
	@sh .ci/install $(VENV) '.[dev]' '$(PYTHON)'
	@touch $(VENV)/.installed $@
