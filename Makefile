# Two commands need nothing but Python: `make demo` and `make test`. Both keep their environment in .venv.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
export OMP_NUM_THREADS := 1

.PHONY: demo test lint format benchmarks clean

demo: .venv/demo.stamp
	$(BIN)/python examples/demo.py demo

test: .venv/dev.stamp
	$(BIN)/python -m pytest -n 2

lint: .venv/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/python tools/generate_operators.py --check
	$(BIN)/python tools/generate_operator_table.py --check
	$(BIN)/python tools/generate_strict_schema.py --check
	$(BIN)/python tools/generate_codes.py --check
	$(BIN)/python tools/schema_gate.py

format: .venv/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

benchmarks: .venv/dev.stamp
	for script in benchmarks/*.py; do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf .venv build dist demo *.egg-info

.venv/bin/python:
	$(PYTHON) -m venv .venv

.venv/demo.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[demo]'
	touch $@

.venv/dev.stamp: pyproject.toml constraints.txt | .venv/bin/python
	$(PIP) --editable '.[dev]'
	touch $@ .venv/demo.stamp
