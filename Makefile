# Every target sets up what it needs, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# What the demonstration needs; and on top of it what tests, checks and benchmarks need.
INSTALLED := $(VENV)/.installed
DEVELOPMENT := $(VENV)/.development
DISTRIBUTIONS := client gateway export server demo
EXPORTED := model_repository/sam3/exports/current/export.json

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-client bench full-size-check cache-load check clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

demo: $(INSTALLED) $(EXPORTED) ## send a photo and a click through a local Triton; writes out/mask.png, out/overlay.png
	@$(BIN)/python -m sam3_demo

serve: $(INSTALLED) $(EXPORTED) ## the same, but keep serving
	@$(BIN)/python -m sam3_demo --stay

test: $(DEVELOPMENT) ## unit tests, and tests against a real Triton
	$(BIN)/pytest

test-client: ## unit tests of the client's wheel, in a fresh environment of PYTHON (3.10 or newer)
	PYTHON=$(PYTHON) tests/client/in_fresh_environment.sh

bench: $(DEVELOPMENT) $(EXPORTED) ## figures: limit, server, gateway and baselines in one run (ten minutes); writes out/bench/report.md
	$(BIN)/python -m benchmarks short

full-size-check: $(DEVELOPMENT) ## SAM 3's own size with random weights: export, serve, compare a mask (16 GB of memory, twenty minutes)
	$(BIN)/pytest --capture=no tests/acceptance/full_size.py

cache-load: $(DEVELOPMENT) ## the cache under load: right answers, flat memory, warm clicks that do not wait (six minutes)
	$(BIN)/pytest --capture=no tests/acceptance/cache_load.py

check: $(DEVELOPMENT) ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove the environment, the outputs and what was exported
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache
	rm -rf model_repository/*/exports
	find model_repository -mindepth 2 -maxdepth 2 -name 1 -type l -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and by exact version, so that nothing else draws in another build of it.
$(INSTALLED): $(DISTRIBUTIONS:%=%/pyproject.toml)
	@echo "Setting up $(VENV) (once; a few minutes of downloads) ..."
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 13) else "Python 3.10, 3.11 or 3.12 is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet torch==2.13.0
	@$(BIN)/python -m pip install --quiet $(DISTRIBUTIONS:%=--editable ./%)
	@touch $@

$(DEVELOPMENT): $(INSTALLED) pyproject.toml
	@echo "Adding what tests, checks and benchmarks need ..."
	@$(BIN)/python -m pip install --quiet --editable './client[http]' --editable './demo[train]' $(DISTRIBUTIONS:%=--editable ./%) --group dev
	@touch $@

# An export that is there already, of a checkpoint of yours say, is used as it is.
$(EXPORTED): | $(INSTALLED)
	@echo "Exporting the demonstration checkpoint (about a minute) ..."
	@$(BIN)/sam3-export --formats onnx
