# Every target sets up what it needs, in .venv.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
EXPORTED := model_repository/sam3/exports/current/export.json

.DEFAULT_GOAL := help
.PHONY: help demo serve test bench full-size-check check clean

help: ## list the targets
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/'

demo: $(INSTALLED) $(EXPORTED) ## send a photo and a click through a local Triton; writes out/mask.png, out/overlay.png
	@$(BIN)/python -m sam3_server.demo

serve: $(INSTALLED) $(EXPORTED) ## the same, but keep serving
	@$(BIN)/python -m sam3_server.demo --stay

test: $(INSTALLED) ## unit tests, and tests against a real Triton
	$(BIN)/pytest

bench: $(INSTALLED) $(EXPORTED) ## figures: limit, server, gateway and baselines in one run (ten minutes); writes out/bench/report.md
	$(BIN)/python -m benchmarks short

full-size-check: $(INSTALLED) ## SAM 3's own size with random weights: export, serve, compare a mask (16 GB of memory, twenty minutes)
	$(BIN)/python benchmarks/full_size_check.py

check: $(INSTALLED) ## lint and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

clean: ## remove the environment, the outputs and what was exported
	rm -rf $(VENV) out .mypy_cache .pytest_cache .ruff_cache
	rm -rf model_repository/*/exports
	rm -f model_repository/sam3_image_encoder/1 model_repository/sam3_mask_decoder/1
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# torch goes first and by exact version, so that nothing else draws in another build of it.
$(INSTALLED): pyproject.toml
	@echo "Setting up $(VENV) (once; a few minutes of downloads) ..."
	@$(PYTHON) -c 'import sys; sys.exit(None if (3, 10) <= sys.version_info < (3, 13) else "Python 3.10, 3.11 or 3.12 is needed: make PYTHON=python3.11 ...")'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@$(BIN)/python -m pip install --quiet torch==2.13.0
	@$(BIN)/python -m pip install --quiet --editable '.[bench,gateway,export,server,train]' --group dev
	@touch $@

# An export that is there already, of a checkpoint of yours say, is used as it is.
$(EXPORTED): | $(INSTALLED)
	@echo "Exporting the demonstration checkpoint (about a minute) ..."
	@$(BIN)/sam3-export --formats onnx
