PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test test-slow lint
train: .venv/.done
	$(BIN)/python -m experiments.main --config=configs/quickstart.py --workdir=runs/quickstart --resume

test: .venv/.done
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

test-slow: .venv/.done
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile

lint: .venv/.done
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

.venv/.done: requirements.txt constraints.txt pyproject.toml setup.py
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@
