# Everything a fresh machine with only Python needs. VENV and PYTHON may be set on the command line.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
PLUGINS = $(wildcard plugins/*)
INSTALL = $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: help demo test check cards spaces clean

help: ## this list
	@grep -E '^[a-z]+:.*##' Makefile | sed 's/:.*## /\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: $(BIN)/python pyproject.toml constraints.txt $(wildcard plugins/*/pyproject.toml)
	$(INSTALL) --editable . $(PLUGINS:%=--editable %)
	@touch $@

$(VENV)/.developing: $(VENV)/.installed
	$(INSTALL) --editable '.[dev]' $(PLUGINS:%=--editable %)
	@touch $@

demo: $(VENV)/.installed ## predict ten future frames of real digits; writes pictures to demo/
	$(BIN)/python plugins/video_prediction/demo.py --output demo

check: $(VENV)/.developing ## lint, format, types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: check ## lint, types and the whole test suite
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

cards: $(VENV)/.installed ## write model_cards/ and the catalogue again from the registry
	$(BIN)/stzoo card --all model_cards
	$(BIN)/python -c "from stzoo.overview import write_catalogue; write_catalogue()"

spaces: $(VENV)/.developing ## write spaces/ again from the registry
	$(BIN)/stzoo space export --all spaces

clean: ## remove the virtual environment and what was built
	rm -rf $(VENV) demo build dist plugins/*/build plugins/*/dist
