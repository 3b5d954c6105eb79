# Two commands: `make run` and `make test`. Each sets up .venv first where that is needed.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: help run test docs format clean
.DEFAULT_GOAL := help

help:
	@echo "make run      set up .venv if need be and run the quick start (more with ARGS='...')"
	@echo "make test     set up .venv if need be and run every check"
	@echo "make docs     set up .venv if need be and build the pages of docs/ into build/docs"
	@echo "make format   put the code in its one form and mend what can be mended"
	@echo "make clean    remove caches; the next command installs anew"
	@echo "PYTHON=...    the interpreter that .venv is made with, 3.11 or newer (now: $(PYTHON))"

run: $(STAMP)
	@$(BIN)/python run.py $(ARGS)

test: $(STAMP)
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo
	$(BIN)/pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

docs: $(STAMP)
	$(BIN)/python -m sphinx -q -W --keep-going docs build/docs

format: $(STAMP)
	$(BIN)/ruff check --fix --exit-zero
	$(BIN)/ruff format

clean:
	rm -rf $(STAMP) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -rf build *.egg-info
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

# Installed anew whenever what is to be installed has changed.
$(STAMP): pyproject.toml constraints.txt | $(BIN)/pip
	@echo "Installing into $(VENV); the first time this takes some minutes and 3 GB or more."
	@$(BIN)/pip install -qq --disable-pip-version-check --no-input \
	  --constraint constraints.txt --editable '.[dev,docs]'
	@touch $(STAMP)

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "$(PYTHON) is missing or older than Python 3.11; name another: make PYTHON=python3.12" >&2; \
	  exit 1; }
	@$(PYTHON) -m venv $(VENV)
