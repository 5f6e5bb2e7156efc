PYTHON ?= python3
BIN := .venv/bin

.PHONY: train test
train: .venv/.done
	$(BIN)/python -m experiments.main --config=configs/quickstart.py --workdir=runs/quickstart --resume

test: .venv/.done
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

.venv/.done: requirements.txt constraints.txt pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@
