PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-slow lint
train: .venv/.done
	$(BIN)/python -m experiments.main --config=configs/quickstart.py --workdir=runs/quickstart --resume

# Compiled with less care, in a third of the time: for tests that do not ask how something is compiled.
QUICKLY := --xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false
PYTEST := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder
# One by one: two files hold most of the slow tests.
SPREAD := $(BIN)/python -m pytest -n 3 --dist load

test: .venv/.done
	$(PYTEST) -m "optimized and not slow"
	XLA_FLAGS="$$XLA_FLAGS $(QUICKLY)" $(PYTEST) -m "not optimized and not slow"

test-slow: .venv/.done
	$(SPREAD) -m "optimized and slow"
	XLA_FLAGS="$$XLA_FLAGS $(QUICKLY)" $(SPREAD) -m "not optimized and slow"

lint: .venv/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.done: requirements.txt constraints.txt pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@
