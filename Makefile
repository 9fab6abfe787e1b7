# One word per thing a developer does: `make help` lists them.
# Needs Python 3.11 or newer with venv, and make; everything else goes into .venv.

PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.DEFAULT_GOAL := help
.PHONY: help setup demo test unit lint bench chaos lock clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(READY) ## Make .venv from the lock (instant when nothing changed; PYTHON=python3.13 picks another Python)

$(READY): pyproject.toml requirements-dev.lock
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flowq needs Python 3.11 or newer: make setup PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes -r requirements-dev.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: setup ## Run the demo flow on a private Redis and real Celery workers
	$(BIN)/flowq demo

unit: setup ## Run the fast ring: pure, no server, seconds
	$(BIN)/pytest tests/unit

test: setup lint ## Run everything a change must pass: lint, then every ring of tests
	$(BIN)/pytest -n 2 --dist loadscope

lint: setup ## Check style, types and layers
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: setup ## Measure flowq beside hand-written canvases and the limit; latency, growth, scaling (BENCH=--full; BENCH=--help)
	$(BIN)/python -m tests.bench $(BENCH)

chaos: setup ## Kill, stop and restart workers and Redis under runs, beside bare Celery (CHAOS_LONG=1: 500 runs; CHAOS=--help)
	$(BIN)/python -m tests.chaos $(CHAOS)

LOCK := $(BIN)/uv pip compile pyproject.toml --universal --python-version 3.11 \
	--generate-hashes --no-emit-index-url --no-header --quiet $(UPGRADE)

lock: setup ## Write both lock files anew from pyproject.toml (UPGRADE=--upgrade moves every version)
	$(BIN)/pip install --quiet --disable-pip-version-check uv
	$(LOCK) --extra embedded --extra flower -o requirements.lock
	$(LOCK) --all-extras -o requirements-dev.lock

clean: ## Remove all that the other words made, .venv too
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
