# Commands for users, developers and CI. The environment is created on first use; only the package index is needed.

PYTHON ?= python3
ARGS ?=
WORKERS ?= 3

BIN := .venv/bin
READY := .venv/.ready
FUZZ_READY := .venv/.fuzz-ready
DOCS_ENVIRONMENT := .cache/docs-environment
DOCS_READY := $(DOCS_ENVIRONMENT)/.ready
DOCS_BUILD := build/docs
OWN_UV := .cache/uv/bin/uv
UV := $(or $(shell uv --version >/dev/null 2>&1 && command -v uv),$(OWN_UV))

.DEFAULT_GOAL := help
.PHONY: help up test kafka check docs fuzz bench chaos test-compose test-chart clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

up: $(READY) ## Run everything in one process, with a sample Broker (ARGS="--kafka apache" and so on)
	@$(BIN)/headrace up $(ARGS)

test: $(READY) ## Run all tests, against a real Kafka where one is available (WORKERS=0: one after the other)
	@$(BIN)/pytest -n $(WORKERS) $(ARGS)

kafka: $(READY) ## Keep a Kafka up between test runs: prints KAFKA_BOOTSTRAP_SERVERS for another terminal
	@$(BIN)/python -m tests.support.keep_kafka

check: $(READY) ## Format, lint, types, import contracts, words, lock file; every step, then the result
	@failed=; for step in "$(BIN)/ruff format --check ." "$(BIN)/ruff check ." "$(BIN)/mypy" "$(BIN)/lint-imports" "$(BIN)/python -m tests.unit.tree.words" "$(UV) lock --check"; do \
	  echo "$$step"; $$step || failed="$$failed  $$step\n"; \
	done; \
	if [ -n "$$failed" ]; then printf "failed:\n$$failed"; exit 1; fi

# The builder deletes the folder .cache beside its configuration, so it gets a folder of its own.
docs: $(DOCS_READY) ## Build the documentation as a site in build/docs/site; any warning fails
	@rm -rf $(DOCS_BUILD) && mkdir -p $(DOCS_BUILD) && cp -R docs $(DOCS_BUILD)/docs
	@mv $(DOCS_BUILD)/docs/zensical.toml $(DOCS_BUILD)/ && ln -s ../../src $(DOCS_BUILD)/src
	@$(DOCS_ENVIRONMENT)/bin/zensical build --strict --config-file $(DOCS_BUILD)/zensical.toml

fuzz: $(FUZZ_READY) ## Fuzz all parsers of external bytes for 60 s (ARGS="--seconds 600", or names of targets)
	@$(BIN)/python -m tests.fuzz $(ARGS)

bench: $(READY) ## Measure events per second, CPU per event, latency and memory over a real Kafka (ARGS="--cases sources")
	@$(BIN)/python -m bench.run $(ARGS)

chaos: $(READY) ## The long ledger run: faults of every kind, failing subscribers; no event may be lost (ARGS="--group-protocol consumer")
	@$(BIN)/python -m tests.chaos $(ARGS)

test-compose: $(READY) ## Start docker-compose.yml on a real Docker and send an event through it
	@HEADRACE_TEST_COMPOSE=1 $(BIN)/pytest tests/compose $(ARGS)

test-chart: $(READY) ## Install the chart in the cluster of KUBECONFIG, which has the images, and replace everything under load
	@HEADRACE_TEST_CLUSTER="$(KUBECONFIG)" $(BIN)/pytest tests/cluster $(ARGS)

clean: ## Remove the environment, caches and the data of `make up`
	rm -rf .venv .cache .headrace .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): pyproject.toml uv.lock | $(UV)
	@$(UV) sync --locked --quiet
	@touch $@

# The fuzzer is not part of the default environment: 35 MB, and for one platform only.
$(FUZZ_READY): $(READY)
	@$(UV) sync --locked --quiet --inexact --group fuzz
	@touch $@

# The documentation needs an environment of its own: 120 MB that nothing else uses.
$(DOCS_READY): pyproject.toml uv.lock | $(UV)
	@UV_PROJECT_ENVIRONMENT=$(DOCS_ENVIRONMENT) $(UV) sync --locked --quiet --only-group docs
	@touch $@

# Without uv on PATH it is installed into a private environment, or with pip where Debian ships Python without venv.
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
