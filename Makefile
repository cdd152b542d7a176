# make run: a fresh machine needs only Python 3.11 or 3.12, make, g++ and git.

VENV ?= .venv
PYTHON ?= $(firstword $(shell command -v python3.11 python3.12 python3))
DATA ?= ../shared/data
MANIFEST ?= ../shared/data/dev-librispeech/manifest.jsonl
ARGS ?=
WORKERS ?= 2

# What is installed depends on these two files, and on where the checkout is (it is installed editable); the
# native core on its sources, too.
HASH := $(shell cat pyproject.toml constraints.txt | sha256sum | cut -c1-12)
PLACE := $(shell pwd | sha256sum | cut -c1-12)
INSTALLED := $(VENV)/.installed-$(HASH)
NATIVE := $(wildcard streamasr/*/native/*)
CXX_FILES := $(filter %.cpp %.hpp,$(NATIVE))
LINKED := $(VENV)/.linked-$(HASH)-$(PLACE)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: run install test test-all check audit format bench results wheel clean help

run: install ## start the daemon with the default model; it names the page to open (ARGS="--port 9000 …")
	@$(BIN)/streamasr serve $(ARGS)

install: $(LINKED) ## make the virtual environment VENV (default .venv) with everything in it

$(INSTALLED):
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(PIP) install --quiet --constraint constraints.txt setuptools wheel nanobind
	$(PIP) install --constraint constraints.txt --editable ".[dev]"
	rm -f $(VENV)/.installed-*
	touch $@

$(LINKED): $(INSTALLED) $(NATIVE)
	$(PIP) install --quiet --no-deps --no-build-isolation --editable .
	rm -f $(VENV)/.linked-*
	touch $@

ifneq ($(words $(wildcard streamasr/*/_native*.so)),3)
.PHONY: $(LINKED)
endif

test: check ## the checks, and every test but the slow ones, WORKERS (default 2) test files at a time
	$(BIN)/python -m pytest -m "not slow" --numprocesses $(WORKERS) --dist loadfile $(ARGS)

test-all: check ## the checks and all tests, slow ones included: hours on two cores
	@echo "all tests, one after the other: hours on two cores; the slowest are listed at the end"
	$(BIN)/python -m pytest --durations=60 --durations-min=5 $(ARGS)

check: install ## style, types and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/clang-format --dry-run --Werror $(CXX_FILES)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

audit: ## look the pinned packages up in a database of vulnerabilities; needs the network
	test -x .audit/bin/pip-audit || { $(PYTHON) -m venv .audit && .audit/bin/pip install --quiet pip-audit; }
	.audit/bin/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

format: install ## put the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/clang-format -i $(CXX_FILES)

bench: install ## accuracy and speed of the default model and of PocketSphinx on MANIFEST
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable ".[bench]"
	$(BIN)/streamasr evaluate --model en-small --manifest $(MANIFEST)
	$(BIN)/python benchmarks/pocketsphinx_peer.py --manifest $(MANIFEST)

results: install ## rerun the benchmarks, write benchmarks/results (DATA=folder with dev sets, ONLY="load peers")
	$(PIP) install --quiet --constraint constraints.txt --no-build-isolation --editable ".[bench]"
	$(BIN)/python benchmarks/make_results.py --data $(DATA) $(if $(ONLY),--only $(ONLY))

wheel: install ## build the wheel, models and captions page inside, into dist/
	$(PIP) wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

clean: ## remove the virtual environment and everything that was built
	rm -rf .venv build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	rm -f streamasr/*/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
