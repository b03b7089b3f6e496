# Flow Manager: everything a person or a machine does with the source, in one place.
# `make demo` and `make test` need nothing but Python 3.11 to 3.13 and make.

SHELL := /bin/sh
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory
# A rule that fails half-way must not leave a stamp that says it succeeded.
.DELETE_ON_ERROR:

VENV ?= .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
# Test processes side by side, each with servers of its own: they wait more than they work.
JOBS ?= 3
# Further words for the program a target runs, for instance: make test ARGS="-k join"
ARGS ?=

PACKAGES := api worker shared flow_manager
CHECKED := $(PACKAGES) tests bench scripts

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-8s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

$(INSTALLED): pyproject.toml requirements-dev.lock scripts/environment
	@PYTHON="$(PYTHON)" scripts/environment $(VENV)
	@touch $@

.PHONY: install
install: $(INSTALLED) ## Create or refresh the environment in .venv

.PHONY: demo
demo: $(INSTALLED) ## Start everything, run the example flow, show its result
	@$(BIN)/flow-manager demo $(ARGS)

.PHONY: dev
dev: $(INSTALLED) ## Run the whole service on this machine until Ctrl-C
	@$(BIN)/flow-manager dev $(ARGS)

.PHONY: test
test: $(INSTALLED) ## Run all tests; the servers they need come from wheels
	@$(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

.PHONY: check
check: $(INSTALLED) ## Format, lint, types, layers, lock files, generated files
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy $(CHECKED)
	@$(BIN)/lint-imports
	@$(BIN)/python scripts/lock.py --check
	@$(BIN)/flow-manager openapi --check docs/openapi.json

.PHONY: coverage
coverage: $(INSTALLED) ## Run all tests with branch coverage and hold its floor
	@$(BIN)/coverage erase
	@$(BIN)/coverage run -m pytest $(ARGS)
	@$(BIN)/coverage combine --quiet
	@$(BIN)/coverage report

.PHONY: bench
bench: $(INSTALLED) ## Measure speed (see docs for what the figures mean)
	@$(BIN)/python -m bench $(ARGS)

.PHONY: chaos
chaos: $(INSTALLED) ## Kill, pause and flush under load, then check the invariants
	@$(BIN)/python -m tests.faults.campaign $(ARGS)

.PHONY: format
format: $(INSTALLED) ## Format the source and apply the safe fixes
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

.PHONY: lock
lock: ## Remake the lock files (newer versions too: ARGS=--upgrade); needs uv
	@if [ -x $(BIN)/python ]; then $(BIN)/python scripts/lock.py $(ARGS); \
	else python3 scripts/lock.py $(ARGS); fi

.PHONY: clean
clean: ## Remove the environment and everything made by tools
	@rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis \
	    .coverage .coverage.* htmlcov build dist
	@find $(wildcard $(CHECKED)) -name __pycache__ -type d -prune -exec rm -rf {} +
