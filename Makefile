# `make up` sets everything up and runs StreamSwarm on this machine; `make test` sets everything up and tests it.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# Test processes: most tests wait more than they work.
PROCESSES ?= 3
# A failed test is tried twice more, and each retry is shown with its reason; but a lost or doubled result is no bad luck.
AGAIN := --reruns 2 --reruns-delay 2 --rerun-except "not exactly once"
SOURCES := controller worker web proto tests
# What the base installation has must run with an older Python than the rest.
BASE := -p worker -p streamswarm -p controller.suites $(addprefix -m controller.cli.,main run suites reports)

.PHONY: help up down status dev dist test lint format bench soak lab pictures proto migrations clean

help: ## Show what can be made
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-12s %s\n", $$1, $$2}'

$(VENV)/.ready: pyproject.toml .ci/setup
	@.ci/setup environment
	@touch $@

$(VENV)/.tools: $(VENV)/.ready
	@.ci/setup tools
	@touch $@

up: $(VENV)/.ready ## Set everything up and run it on this machine
	@$(BIN)/streamswarm up --detach

down: ## Stop what `make up` started; the data stay
	@if [ -x $(BIN)/streamswarm ]; then $(BIN)/streamswarm down; else echo "nothing was ever started here"; fi

status: $(VENV)/.ready ## Show how it is
	@$(BIN)/streamswarm status

dev: $(VENV)/.ready ## Run in the foreground and restart on every change of the sources
	@$(BIN)/streamswarm up --reload

dist: $(VENV)/.ready ## Build source distribution and wheel into dist/; the same commit gives the same bytes
	@[ -z "$$(git status --porcelain)" ] || echo "dist: changes that are not committed go into the build too" >&2
	@rm -rf dist
	@SOURCE_DATE_EPOCH=$$(git log -1 --format=%ct) $(BIN)/uv build --quiet --out-dir dist
	@sha256sum dist/*.whl dist/*.tar.gz

# Some images forbid compiled files: then every test process would translate all tests and sources anew.
test: export PYTHONDONTWRITEBYTECODE :=
test: $(VENV)/.tools ## Set everything up and run every check and test
	@.ci/setup tests
	@$(MAKE) --no-print-directory lint
	@$(BIN)/pytest -n $(PROCESSES) --dist loadfile --no-loadscope-reorder $(AGAIN) -m "not alone" $(PYTEST) || [ $$? = 5 ]
	@$(BIN)/pytest $(AGAIN) -m alone $(PYTEST) || [ $$? = 5 ]

lint: $(VENV)/.tools ## Style, types, import rules, playbooks
	@$(BIN)/ruff check $(SOURCES) migrations
	@$(BIN)/ruff format --check $(SOURCES) migrations
	@$(BIN)/mypy
	@$(BIN)/mypy --python-version 3.10 $(BASE)
	@$(BIN)/mypy --config-file tests/mypy.ini --cache-dir .mypy_cache/tests
	@$(BIN)/lint-imports
	@cd playbooks && ANSIBLE_HOME=$(CURDIR)/$(VENV)/ansible PATH="$(CURDIR)/$(BIN):$$PATH" ansible-lint --offline --profile production -q

format: $(VENV)/.tools ## Put the sources into the house's form
	@$(BIN)/ruff check --fix $(SOURCES) migrations
	@$(BIN)/ruff format $(SOURCES) migrations

bench: export PYTHONDONTWRITEBYTECODE :=
bench: $(VENV)/.tools ## Benchmarks against named peers; NAME=… for one
	@$(BIN)/python tests/bench $(NAME)

soak: $(VENV)/.tools ## The long forms of the fault tests; NAME=… for one
	@.ci/setup tests
	@$(BIN)/python tests/soak $(NAME)

lab: $(VENV)/.tools ## Boot three real systemd hosts in namespaces and stay until interrupted
	@.ci/setup tests
	@PYTHONPATH=tests $(BIN)/python -m lab

pictures: $(VENV)/.tools ## Take the pictures of README and tutorial anew, on the tutorial's own road (root, 10 minutes)
	@.ci/setup tests
	@CI=true STREAMSWARM_PICTURES=$(CURDIR)/docs/pictures $(BIN)/pytest -q tests/acceptance/test_tutorial.py

proto: $(VENV)/.tools ## Generate code from the contract
	@$(BIN)/python proto/generate.py

clean: ## Remove the environment and caches; the data stay
	@rm -rf $(VENV) dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
