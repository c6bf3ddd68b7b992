# Everything a person or a CI does with this checkout. The environment makes itself; only the package index is needed.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 3

BIN := .venv/bin
READY := .venv/.ready
FUZZ_READY := .venv/.fuzz-ready
OWN_UV := .cache/uv/bin/uv
UV := $(or $(shell uv --version >/dev/null 2>&1 && command -v uv),$(OWN_UV))

.DEFAULT_GOAL := help
.PHONY: help up test check fuzz bench chaos test-compose clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(READY) ## Run everything in one process, with a sample Broker (ARGS="--kafka apache" and so on)
	@$(BIN)/headrace up $(ARGS)

test: $(READY) ## Run all tests, against a real Kafka where one can be had (WORKERS=0: one after the other)
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

check: $(READY) ## Format, lint, types, import contracts, lock file; all of them, then the verdict
	@failed=; for step in "$(BIN)/ruff format --check ." "$(BIN)/ruff check ." "$(BIN)/mypy" "$(BIN)/lint-imports" "$(UV) lock --check"; do \
	  echo "$$step"; $$step || failed="$$failed  $$step\n"; \
	done; \
	if [ -n "$$failed" ]; then printf "failed:\n$$failed"; exit 1; fi

fuzz: $(FUZZ_READY) ## Fuzz everything that reads bytes from outside, for 60 s (ARGS="--seconds 600", or names of targets)
	@$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(READY) ## Measure events per second, CPU per event and latency over a real Kafka
	@$(BIN)/python -m bench.run $(ARGS)

chaos: $(READY) ## The long proof: faults of every kind, bad subscribers; nothing may be lost (ARGS="--group-protocol consumer")
	@$(BIN)/python -m tests.chaos $(ARGS)

test-compose: $(READY) ## Bring docker-compose.yml up for real and send an event through it
	@HEADRACE_TEST_COMPOSE=1 $(BIN)/pytest tests/compose $(ARGS)

clean: ## Remove the environment, caches and the data of `make up`
	rm -rf .venv .cache .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock | $(UV)
	@$(UV) sync --locked --quiet
	@touch $@

# The fuzzer is no part of the usual environment: 35 MB, and for one platform.
$(FUZZ_READY): $(READY)
	@$(UV) sync --locked --quiet --inexact --group fuzz
	@touch $@

# Without uv on PATH: one of our own, in a private environment, or beside it where Debian ships Python without venv.
$(OWN_UV):
	@echo "no uv on PATH: installing one into .cache/uv"
	@mkdir -p $(@D)
	@if $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null; then \
	  $(PYTHON) -m venv .cache/uv/env && .cache/uv/env/bin/python -m pip install --quiet uv && ln -sf ../env/bin/uv $@; \
	elif $(PYTHON) -m pip --version >/dev/null 2>&1; then \
	  $(PYTHON) -m pip install --quiet --target .cache/uv/lib uv && ln -sf ../lib/bin/uv $@; \
	else \
	  echo "need uv (https://docs.astral.sh/uv), or $(PYTHON) with venv or pip (Debian: apt-get install python3-venv)" >&2; exit 1; \
	fi
