# `make run` and `make test` are all a fresh machine needs: each creates the environment when it is missing.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# CPU builds of torch are large enough; pin it so that no second build is ever pulled in.
TORCH ?= torch==2.13.0

.PHONY: run test test-all bench lint format clean

run: $(VENV)/ready  ## the main job: train MDM, SCDM, SIDM on 6x6 Sudoku and show what latent tokens buy
	$(BIN)/unspoken study latents quick

test: $(VENV)/ready lint  ## format, lint, types, then the laws
	$(BIN)/python -m pytest

test-all: $(VENV)/ready lint  ## the slow ones too
	$(BIN)/python -m pytest -m ""

bench: $(VENV)/ready  ## ratios of speed, on an idle machine; written to docs/results/benchmarks
	$(BIN)/python benchmarks/decode.py --out docs/results/benchmarks
	$(BIN)/python benchmarks/left_to_right.py --out docs/results/benchmarks
	$(BIN)/python benchmarks/tasks.py --out docs/results/benchmarks
	$(BIN)/python benchmarks/head.py --out docs/results/benchmarks
	$(BIN)/python benchmarks/generate.py --out docs/results/benchmarks

lint: $(VENV)/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright

format: $(VENV)/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(VENV)/ready: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(TORCH)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache
