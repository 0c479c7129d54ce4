# Each target installs what it needs into .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# Marker files: the demo's packages are installed; those of tests, checks and benchmarks are, too.
INSTALLED := $(VENV)/.installed
DEVELOPMENT := $(VENV)/.development
DISTRIBUTIONS := client gateway export server demo
EXPORTED := model_repository/sam3/exports/current/export.json

.DEFAULT_GOAL := help
.PHONY: help demo serve test test-client bench full-size-check cache-load check clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

demo: $(INSTALLED) $(EXPORTED) ## send a photo and a click through a local Triton; write out/mask.png and out/overlay.png
	@$(BIN)/python -m sam3_demo

serve: $(INSTALLED) $(EXPORTED) ## the same, then keep serving until Ctrl-C
	@$(BIN)/python -m sam3_demo --stay

# Two workers, which take whole files. Threads of OpenMP that wait must not spin: the other worker needs their core.
test: $(DEVELOPMENT) ## run unit tests, and tests against a real Triton
	OMP_WAIT_POLICY=PASSIVE $(BIN)/pytest -n 2 --dist loadfile

test-client: ## test the client's wheel in a fresh environment; PYTHON=python3.13 selects the Python
	PYTHON=$(PYTHON) tests/client/in_fresh_environment.sh

bench: $(DEVELOPMENT) $(EXPORTED) ## benchmark the server, the gateway and baselines (ten minutes); write out/bench/report.md
	$(BIN)/python -m benchmarks short

full-size-check: $(DEVELOPMENT) ## SAM 3's own size with random weights: export, serve, compare a mask (16 GB of memory, forty minutes)
	$(BIN)/pytest --capture=no tests/acceptance/full_size.py

cache-load: $(DEVELOPMENT) ## the cache under load: right answers, flat memory, warm clicks that do not wait (six minutes)
	$(BIN)/pytest --capture=no tests/acceptance/cache_load.py

check: $(DEVELOPMENT) ## lint and check types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove the environment, the outputs and the exported models
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache
	rm -rf model_repository/*/exports
	find model_repository model_repository/sam3/concepts -mindepth 2 -maxdepth 2 -name 1 -type l -delete
	find model_repository -maxdepth 1 -type l -delete
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Install torch first and in an exact version, so that no other package pulls in a different build.
$(INSTALLED): $(DISTRIBUTIONS:%=%/pyproject.toml)
	@echo "Setting up $(VENV) (once; a few minutes of downloads) ..."
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 13) else "Python 3.10, 3.11 or 3.12 is required: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet torch==2.13.0
	@$(BIN)/python -m pip install --quiet $(DISTRIBUTIONS:%=--editable ./%)
	@touch $@

$(DEVELOPMENT): $(INSTALLED) pyproject.toml
	@echo "Installing the packages of tests, checks and benchmarks ..."
	@$(BIN)/python -m pip install --quiet --editable './client[http]' --editable './demo[train]' $(DISTRIBUTIONS:%=--editable ./%) --group dev
	@touch $@

# An existing export, such as one of your own checkpoint, is kept.
$(EXPORTED): | $(INSTALLED)
	@echo "Exporting the demonstration model (about a minute) ..."
	@$(BIN)/sam3-export --formats onnx
