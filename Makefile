# Everything that a developer does here. `make` alone explains it.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

# The first of these that is new enough; `make setup PYTHON=...` takes another.
PYTHON ?= $(shell for python in python3.11 python3; do \
	$$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$python && break; done)
BIN := .venv/bin
SETUP_DONE := .venv/setup-done
CHECKOV := .venv/checkov/bin/checkov
TEMPLATES := $(patsubst %,infra/%.yaml,artefacts network data services)
ARGS ?=

# A failed build of this extension would fall back to pure Python, which is a hundred times slower.
export PYFASTCDC_REQUIRE_CYTHON := 1
# Tools of the virtual environment find their plugins by PATH.
export PATH := $(CURDIR)/$(BIN):$(PATH)
# Every process that a test, the demo or a benchmark starts would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE
unexport PYTHONPATH VIRTUAL_ENV
# Material for MkDocs would tell of its successor at each build: decision 52.
export NO_MKDOCS_2_WARNING := 1

step = @printf '\n== %s\n' '$(1)'

.PHONY: help setup demo up test test-web test-lb test-compose docs changelog dist release fuzz abuse soak soak-kill soak-power soak-drain mutants check bench bench-load format proto vectors deploy

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: $(SETUP_DONE) ## make .venv and install everything; does nothing when up to date

$(SETUP_DONE): pyproject.toml server/pyproject.toml constraints.txt
	@if [[ -z "$(PYTHON)" ]]; then \
		echo "Python 3.11 or newer is needed and was not found; name one: make setup PYTHON=/path/to/python" >&2; exit 1; fi
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "$(PYTHON) is older than Python 3.11; name a newer one: make setup PYTHON=/path/to/python" >&2; exit 1; }
	[[ -x $(BIN)/python ]] || "$(PYTHON)" -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python -c constraints.txt -e '.[dev]' -e './server[stack]'
	@touch $@

demo: setup ## the whole story on this machine: two people, three devices, one shared folder
	$(BIN)/python -m stack.demo $(ARGS)

up: setup ## run the whole system on this machine; ARGS='--port 8080 --data DIR'
	$(BIN)/syncline up $(ARGS)

WORKERS ?= 3

test: setup ## run all tests, most of them by WORKERS (3) side by side; ARGS='tests/model -x' for some
ifneq ($(ARGS),)
	$(BIN)/pytest $(ARGS)
else
	$(BIN)/pytest -n $(WORKERS) --durations 10 --ignore tests/lb # the last takes what waits: tests/schedule.py
	$(BIN)/pytest --durations 10 tests/lb # these put the machine under load
endif

N ?=
SEED ?=

fuzz: setup ## N generated calls (20,000) of all rpcs from SEED on, valid and hostile, over a whole system
	$(BIN)/python -m tests.fuzz $(if $(N),-n $(N)) $(if $(SEED),--seed $(SEED)) $(ARGS)

abuse: setup ## attacks by all means that somebody has, with an innocent person at work beside each; ARGS names some
	$(BIN)/python -m tests.abuse $(ARGS)

soak: setup ## the sync engine through N random histories (1,000) from SEED on; SEED=n N=1 replays one
	PYTHONHASHSEED=0 $(BIN)/python -m tests.clients.sync.soak $(if $(N),-n $(N)) $(if $(SEED),--seed $(SEED)) $(ARGS)

soak-kill: setup ## kill -9 of real syncs over the running system, a hundred times
	SYNCLINE_TEST_KILLS=100 $(BIN)/pytest --timeout 3600 tests/e2e/test_kill.py $(ARGS)

soak-power: N = 200
soak-power: setup ## kill -9 of everything at once, N times, at any moment of a running load, a start or a stop
	SYNCLINE_TEST_CUTS=$(N) $(if $(SEED),SYNCLINE_TEST_SEED=$(SEED)) $(BIN)/pytest -s --timeout 36000 tests/power $(ARGS)

soak-drain: N = 300
soak-drain: setup ## N SIGTERMs while commands and requests are under way: none that ends well may have missed anything
	SYNCLINE_TEST_DRAINS=$(N) $(BIN)/pytest -s --timeout 7200 tests/lb/test_drain.py $(ARGS)

mutants: setup ## break the code in known ways, one at a time: its tests must notice
	$(BIN)/python -m tests.mutants $(ARGS)

test-web: setup ## the web app in a browser: Chromium at /usr/bin/chromium; ARGS='-k sharing' for some
	$(BIN)/pytest tests/web $(ARGS)

test-lb: setup ## a balanced system under load: every process restarted and killed within 60 s, load spread, the demo
	SYNCLINE_LB_SECONDS=60 $(BIN)/pytest -s tests/lb $(ARGS)

test-compose: setup ## test the containers, on a Docker of this machine; .ci/compose installs and starts one first
	$(BIN)/pytest -s -m compose tests/compose $(ARGS)

$(CHECKOV): .ci/checkov.txt | $(SETUP_DONE)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv/checkov
	$(BIN)/uv pip install --quiet --python .venv/checkov/bin/python -r $<
	@touch $@

# Two at a time, types first: these take longest. Each says what it has to say when it is done.
CHECKS := check-types check-docs check-protos check-templates check-style check-layers check-web check-names check-prose check-changelog check-installed

check: setup $(CHECKOV) ## everything that can be said without running it: style, types, layers, contract
	@$(MAKE) --jobs 2 --output-sync=target $(CHECKS)

.PHONY: $(CHECKS)

check-style:
	$(call step,ruff check)
	$(BIN)/ruff check
	$(call step,ruff format --check)
	$(BIN)/ruff format --check

check-types:
	$(call step,mypy)
	$(BIN)/mypy

check-layers:
	$(call step,lint-imports)
	$(BIN)/lint-imports --no-logo

check-web:
	$(call step,web style)
	@.ci/web style
	$(call step,web types)
	@.ci/web types
	$(call step,web unit tests)
	@.ci/web unit

check-names:
	$(call step,names)
	$(BIN)/python -m infra.names

check-prose:
	$(call step,prose)
	$(BIN)/python -m infra.prose

check-protos:
	$(call step,buf lint)
	$(BIN)/buf lint
	$(call step,buf format)
	$(BIN)/buf format --diff --exit-code
	$(call step,buf breaking)
	@.ci/protos breaking
	$(call step,generated code is up to date)
	@.ci/protos fresh

check-templates:
	$(call step,cfn-lint)
	$(BIN)/cfn-lint $(TEMPLATES)
	$(call step,checkov)
	$(CHECKOV) --framework cloudformation --file $(TEMPLATES) --skip-download --quiet --compact

check-changelog:
	$(call step,changelog)
	$(BIN)/python -m infra.changelog check

check-docs:
	$(call step,documentation)
	$(BIN)/mkdocs build --strict

check-installed:
	$(call step,installed packages agree)
	$(BIN)/uv pip check --python $(BIN)/python

docs: setup ## build the site of the documentation into build/docs; any warning fails it
	$(BIN)/mkdocs build --strict $(ARGS)

VERSION =

changelog: setup ## what has changed since the last release; VERSION=1.2.3 makes that version of it
	$(BIN)/python -m infra.changelog $(if $(VERSION),release $(VERSION),show)

dist: setup ## build sdists and wheels into dist/, and use each wheel in an empty virtual environment
	$(BIN)/python -m infra.dist

release: dist ## build what `make deploy` uploads, and throw it away: whether it can be built for the machines
	$(BIN)/python -m infra.release

deploy: setup ## deploy to AWS; STAGE=name SET='Name=value ...', RELEASE=key to roll back, YES=1 not to be asked
	@[[ -n "$(STAGE)" ]] || { echo "which stage? make deploy STAGE=prod SET='DomainName=files.example.com ...'" >&2; exit 1; }
	$(BIN)/python -m infra.deploy $(STAGE) $(if $(SET),--set $(SET)) $(if $(RELEASE),--release $(RELEASE)) $(if $(YES),--yes)

bench: setup ## measure; ARGS names benchmarks; ARGS=--short tells only whether they run
	$(BIN)/python -m benchmarks $(ARGS)

bench-load: setup ## measure the load that one core of each service carries
	$(BIN)/python -m benchmarks $(ARGS) load

format: setup ## rewrite code, protos and the web app in the agreed style
	$(BIN)/ruff check --fix-only --quiet
	$(BIN)/ruff format
	$(BIN)/buf format --write
	.ci/web format

vectors: setup ## write protos/vectors anew: only if the format changes, since clients depend on them
	$(BIN)/python -m tests.vectors

proto: setup ## generate protos/gen from the protos
	@.ci/protos generate
