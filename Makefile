# Everything a developer or CI runs. The only needs are Python 3.11 or newer, git and make: each target prepares its
# own virtual environment below this folder, and a stamp file makes the second run skip that.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first interpreter that is new enough. `make PYTHON=... test` chooses another one.
PYTHON ?= $(firstword $(foreach name,python3 python3.11 python3.12 python3.13 python3.14,$(shell \
	$(name) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $(name))))

VENV := .venv
PEER_VENV := .venvs/peer
PEERS_OF_peer := jobify==0.14.0 flexiq==2.1.0 huey==3.5.4
# Apart from the others: huey imports a redis that it finds, and would be measured with it.
BROKER_VENV := .venvs/broker
PEERS_OF_broker := 'celery[redis]==5.7.0' rq==3.0.0
# They are given the same server as ours.
POSTGRES_VENV := .venvs/postgres
PEERS_OF_postgres := pgqueuer==1.6.0 procrastinate==3.10.0 asyncpg==0.32.0 'psycopg[binary,pool]==3.3.9'
BIN := $(VENV)/bin
# Stamps: they say that an environment holds what pyproject.toml asks for today.
DEV := $(VENV)/.dev
DEMO := $(VENV)/.demo
PEER_READY := $(PEER_VENV)/.ready
BROKER_READY := $(BROKER_VENV)/.ready
POSTGRES_READY := $(POSTGRES_VENV)/.ready

# What `make test` says of itself when it starts, so that a long run is not taken for a hang.
TEST_MINUTES := 12 to 20
# Tests wait about as long as they compute: with two processes for each core, the cores are never idle.
PROCESSES ?= $(shell expr 2 \* $$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 2))
ON_POSTGRES := app checklist client engine gateway integrations jobs lifecycle middleware router runtime serializers worker
TYPED := src examples bench tools
PIP_INSTALL = pip install --quiet --disable-pip-version-check
# GNU make 4 can hold back the output of parallel steps until each is complete; older ones interleave.
SYNC := $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)
BESIDE := --keep-going --jobs=2 $(SYNC)
# The longest first: while it runs, the others run beside it.
LINTS := lint-basedpyright lint-mypy lint-imports lint-ruff

.PHONY: help check test test-postgres lint fmt demo docs docs-serve bench perf perf-baseline chaos clean \
	lint-ruff lint-mypy lint-basedpyright lint-imports test-modules

help:  ## show this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## (.*)/  make \1\t\2/' | expand -t 16

# What pytest has made of the modules of tests is kept for the next time, also where the environment forbids it: made
# anew in each process, it would be a fifth of the time.
check: $(DEV)  ## run the quick linters and the fast tests: for the inner loop (under 40 seconds)
	@$(MAKE) lint-ruff lint-imports
	@$(BIN)/python -m compileall -q src
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -m fast --numprocesses=$(PROCESSES) --dist=worksteal

test: $(DEV)  ## run everything CI runs: linters, type checkers, layers, counts, tests with branch coverage
	@echo "All linters and all tests: usually $(TEST_MINUTES) minutes on two cores. The inner loop: make check"
	@$(BIN)/python -m compileall -q src tests  # once, and not in each of the thousand programs that the tests start
	@failed=0; $(MAKE) $(BESIDE) $(LINTS) perf test-modules || failed=$$?; \
	$(BIN)/python -m pytest --cov --numprocesses=$(PROCESSES) --dist=worksteal || exit $$?; \
	exit $$failed

test-postgres: $(DEV)  ## run all tests whose jobs can be in PostgreSQL there (30 minutes); make test runs a part of them
	@$(BIN)/python -m pytest --storage=postgres --numprocesses=$(PROCESSES) --dist=worksteal $(ON_POSTGRES:%=tests/%)

lint: $(DEV)  ## run the linters, type checkers and the layer check only
	@$(MAKE) $(BESIDE) $(LINTS)

# Rewrites the asserts of all tests once, and not in each process that runs some: it reads what is kept here, also where
# the environment keeps it from writing. What is wrong with a module is said when the tests run.
test-modules: $(DEV)
	@PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest --collect-only -qq >/dev/null 2>&1 || true

lint-ruff: $(DEV)
	@echo "== ruff"
	@$(BIN)/ruff check
	@$(BIN)/ruff format --check

lint-mypy: $(DEV)
	@echo "== mypy --strict"
	@$(BIN)/mypy --strict $(TYPED)

lint-basedpyright: $(DEV)
	@echo "== basedpyright"
	@$(BIN)/basedpyright --pythonpath $(BIN)/python $(TYPED)

lint-imports: $(DEV)
	@echo "== import-linter"
	@$(BIN)/lint-imports --no-logo

fmt: $(DEV)  ## format the code and apply the safe fixes
	@$(BIN)/ruff format
	@$(BIN)/ruff check --fix

demo: $(DEMO)  ## index this folder, kill the worker half-way, and watch another one finish
	@$(BIN)/python examples/demo.py

docs: $(DEV)  ## build the documentation site into build/docs, strictly: a broken link, anchor or orphan fails
	@$(BIN)/zensical build --clean --strict
	@cp llms.txt build/docs/
	@$(BIN)/python -m pytest tests/docs/test_site.py

docs-serve: $(DEV)  ## show the site at http://127.0.0.1:8000 while you write
	@$(BIN)/zensical serve --dev-addr 127.0.0.1:8000

bench: $(DEV) $(PEER_READY) $(BROKER_READY) $(POSTGRES_READY)  ## measure against the peers' releases, write bench/RESULTS.md and the README's table (40 minutes)
	@$(BIN)/python -m compileall -q src  # as an installer does, and has done for the rivals
	@$(BIN)/python bench/run.py --peer $(PEER_VENV)/bin/python --broker $(BROKER_VENV)/bin/python \
		--postgres $(POSTGRES_VENV)/bin/python

perf: $(DEV)  ## compare the work for each job with bench/perf/baseline.json: fails if a count has grown by over 3 %
	@$(BIN)/python bench/perf/gate.py

perf-baseline: $(DEV)  ## write what `make perf` counts now into that file, for this Python
	@$(BIN)/python bench/perf/gate.py --write

chaos: $(DEV)  ## kill, stop, lock, fill the disk, move the file, turn the clock; prove that no job is lost (minutes)
	@failed=0; $(BIN)/python -m tests.crash.chaos $(if $(SEED),--seed $(SEED)) || failed=$$?; \
	$(BIN)/python -m tests.crash.chaos --postgres $(if $(SEED),--seed $(SEED)) || exit $$?; \
	exit $$failed

clean:  ## remove environments, caches and everything that was built
	rm -rf .venv .venvs build dist htmlcov .coverage .coverage.* \
		.mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache .cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed; name it: make PYTHON=/path/to/python3 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/$(PIP_INSTALL) --editable '.[dev]'
	@touch $@ $(DEMO)

$(DEMO): pyproject.toml | $(BIN)/python
	$(BIN)/$(PIP_INSTALL) --editable '.[demo]'
	@touch $@

$(PEER_READY) $(BROKER_READY) $(POSTGRES_READY): %/.ready: Makefile
	@test -n "$(PYTHON)" || { echo "Python 3.11 or newer is needed" >&2; exit 1; }
	$(PYTHON) -m venv --clear $*
	$*/bin/$(PIP_INSTALL) $(PEERS_OF_$(notdir $*))
	@touch $@
