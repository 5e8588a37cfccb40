# The two commands a newcomer needs are `make repro` and `make test`; `make` alone lists all.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
export PATH := $(CURDIR)/$(BIN):$(PATH)
# else every start of a stage or test would compile all modules again
unexport PYTHONDONTWRITEBYTECODE
# a module of tests runs in one process, because it shares what it prepares
SPREAD := --dist loadscope --no-loadscope-reorder --max-worker-restart=0

.PHONY: help setup repro test test-slow lint format docs ui bench lock clean

help: ## list these targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | awk -F'\t' '{printf "  make %-10s %s\n", $$1, $$2}'

setup: $(READY) ## make .venv with the exact packages of requirements.lock

$(READY): requirements.lock pyproject.toml tools/setup.sh
	@bash tools/setup.sh $(VENV)
	@touch $(READY)

repro: setup ## run the pipeline: whatever data, params or code have changed since
	@darkroom params --check
	@dvc repro

test: setup lint ## lint, then the quick tests
	@pytest -n 2 $(SPREAD) -m "not slow"

test-slow: setup ## the long tests; three at a time, because they often wait for processes
	@pytest -n 3 $(SPREAD) -m slow

lint: setup ## formatting, lint, types and import layers
	@ruff format --check --quiet . || { echo "not formatted; run: make format"; exit 1; }
	@ruff check --quiet .
	@mypy --no-error-summary
	@lint-imports --no-cache > $(VENV)/imports.txt || { cat $(VENV)/imports.txt; exit 1; }

format: setup ## format the code
	@ruff check --quiet --fix .
	@ruff format --quiet .

docs: setup ## write docs/parameters.md, and the line numbers in links to code
	@python tools/parameter_table.py
	@python tools/code_links.py

ui: setup ## compare runs in the browser: MLflow on 127.0.0.1:5000
	@bash tools/ui.sh

bench: setup ## time the default pipeline and the training loop; adds lines to benchmarks/results/
	@python benchmarks/pipeline.py
	@python benchmarks/train_loop.py

lock: $(READY) ## renew requirements.lock from the ranges in pyproject.toml
	@uv pip compile --quiet --universal --generate-hashes --upgrade --group dev pyproject.toml -o requirements.lock

clean: ## remove .venv and caches; data, models, reports and runs stay
	@rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache src/*.egg-info
	@find src stages tests benchmarks tools -name __pycache__ -type d -prune -exec rm -rf {} +
