# Every target sets up the environment first. VENV=path chooses where, PYTHON= which interpreter makes it (3.11),
# PIP_FLAGS= extra words for pip, for example the index that has the CPU build of torch.
VENV ?= .venv
PYTHON ?= python3
PIP_FLAGS ?=
WORKERS ?= 2

BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
# The editable install points at one checkout: the stamp carries that checkout's name, so that a shared VENV is installed anew.
PINNED := $(VENV)/.fairopt-pinned
INSTALLED := $(VENV)/.fairopt-installed-$(shell pwd -P | cksum | cut -d' ' -f1)
# One thread for BLAS and OpenMP: the workers share the cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
# The tools that build the site have an environment of their own. They announce a successor of mkdocs: not a warning about these pages.
DOCS := build/docs-venv
MKDOCS := NO_MKDOCS_2_WARNING=1 $(DOCS)/bin/mkdocs
# In this environment every solver is there: FAIROPT_FULL turns a skip for an absent one into a failure (tests/conftest.py).
PYTEST := FAIROPT_FULL=1 $(ONE_THREAD) $(BIN)/python -m pytest
TYPED := fairopt backends/fairopt_backends proofs_checks tests

.DEFAULT_GOAL := help
.PHONY: help venv demo docs docs-serve gallery test slow proofs proofs-quick formal check bench bench-epoch bench-paper conformance crash-test fuzz reproduce-check format clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

venv: $(INSTALLED) ## the environment: pinned packages, then fairopt itself, editable

$(PINNED): requirements/wheels.txt requirements/sdists.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info[:2] == (3, 11) else "the pinned packages are for Python 3.11: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)
	$(PIP) install $(PIP_FLAGS) --no-deps --only-binary=:all: -r requirements/wheels.txt
	$(PIP) install $(PIP_FLAGS) --no-deps --no-build-isolation -r requirements/sdists.txt
	touch $@

$(INSTALLED): $(PINNED) pyproject.toml
	$(PIP) install $(PIP_FLAGS) --no-deps --no-build-isolation --editable .
	$(BIN)/fairopt warmup
	rm -f $(VENV)/.fairopt-installed-*
	touch $@

demo: $(INSTALLED) ## train on real mortgage decisions: plain, projected afterwards, with the fairness layer
	$(BIN)/fairopt demo

$(DOCS)/.fairopt-pinned: requirements/docs.txt
	$(PYTHON) -m venv $(DOCS)
	$(DOCS)/bin/python -m pip --disable-pip-version-check --quiet install $(PIP_FLAGS) --no-deps --only-binary=:all: -r requirements/docs.txt
	touch $@

docs: $(DOCS)/.fairopt-pinned ## the site, into build/site; a warning, a dead link or an address of another host is an error
	$(MKDOCS) build --quiet
	$(DOCS)/bin/python docs/_site/check_site.py build/site

gallery: $(INSTALLED) ## run the gallery and the notebooks anew: their pictures and what they print
	$(ONE_THREAD) $(BIN)/python docs/_site/gallery.py
	$(ONE_THREAD) $(BIN)/python docs/_site/notebooks.py

docs-serve: $(DOCS)/.fairopt-pinned ## the site on this machine, built anew when a page or a docstring changes
	$(MKDOCS) serve

test: $(INSTALLED) ## the tests
	$(PYTEST) -n $(WORKERS) --dist loadgroup -m "not slow"

slow: $(INSTALLED) ## the long tests
	$(PYTEST) -n $(WORKERS) --dist loadgroup -m slow

proofs: $(INSTALLED) ## every claim: at least 1,000 instances each, mutants, z3; writes docs/claims and build/proofs
	mkdir -p build/proofs
	$(ONE_THREAD) $(BIN)/python -m proofs_checks --workers $(WORKERS) --json build/proofs/claims.json --html build/proofs/claims.html --docs docs/claims

proofs-quick: $(INSTALLED) ## the same with 200 instances a claim, nothing written
	$(ONE_THREAD) $(BIN)/python -m proofs_checks --quick --workers $(WORKERS)

formal: $(INSTALLED) ## the proofs that a machine checks: Debian's coq (installed where absent, as root), coqc, coqchk, axioms
	$(ONE_THREAD) $(BIN)/python -m proofs_checks.formal $(if $(WHERE_POSSIBLE),--where-possible)

check: $(INSTALLED) ## ruff, mypy --strict, the arrows between the rooms
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports --no-logo --no-cache
	$(BIN)/mypy --strict $(TYPED)

bench: $(INSTALLED) ## forward + backward against torch.clamp and hardtanh, one thread (FAST=0: without the compiled solver)
	$(if $(FAST),FAIROPT_FAST=$(FAST)) $(ONE_THREAD) $(BIN)/python tests/bench/test_speed.py
	$(if $(FAST),FAIROPT_FAST=$(FAST)) $(ONE_THREAD) $(BIN)/python tests/bench/class_speed.py

bench-epoch: $(INSTALLED) ## time of a training epoch with the layer and without, one thread (a minute or two)
	$(ONE_THREAD) $(BIN)/python tests/bench/epoch_time.py

bench-paper: $(INSTALLED) ## beside the paper's own package, in a folder of its own (minutes; 8 GB)
	$(ONE_THREAD) $(BIN)/python tests/bench/paper_speed.py build/paper $(PIP_FLAGS)

conformance: $(INSTALLED) ## every installed backend against the shipped kit, 300 draws each (a quarter of an hour to one, by the machine)
	FAIROPT_DRAWS=300 $(PYTEST) -n $(WORKERS) -m "not slow" tests/conformance/test_installed.py

crash-test: $(INSTALLED) ## kill -9 a running stream 200 times
	FAIROPT_KILLS=200 $(PYTEST) tests/streaming/test_store.py -k kill_9

fuzz: $(INSTALLED) ## wild problems judged by rational arithmetic and a solver of another make (MINUTES=10, or N= draws; SEED=)
	$(ONE_THREAD) $(BIN)/python tests/fuzz/run.py --jobs $(WORKERS) $(if $(N),--draws $(N),--minutes $(or $(MINUTES),10)) $(if $(SEED),--seed $(SEED))

reproduce-check: $(INSTALLED) ## ten cells of docs/experiments/tables, drawn at random, made again from FAIROPT_DATA (DRAWS=10, SEED=)
	$(ONE_THREAD) $(BIN)/python -m fairopt.experiments.evidence.check docs/experiments/tables $(or $(DRAWS),10) $(SEED)

format: $(INSTALLED) ## rewrite the code in ruff's format, imports sorted
	$(BIN)/ruff check --fix-only --select I,RUF022 .
	$(BIN)/ruff format .

clean: ## remove caches and built files; keeps the environment
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
