# `make help` lists what there is. Set-up needs only `make run` and `make test`.
SHELL := /bin/sh
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 8000
CALCULATOR_PORT ?= 8765
GATEHOUSE_DATA_DIR ?= $(CURDIR)/var

.DEFAULT_GOAL := help
.PHONY: help run test lint format lock bench docs screenshots

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

run: $(VENV)/installed ## Start the gateway with a sample server on this machine (PORT=8000)
	@$(BIN)/python -m gateway_project.keys "$(GATEHOUSE_DATA_DIR)"
	@exec env GATEHOUSE_DATA_DIR="$(GATEHOUSE_DATA_DIR)" \
	GATEHOUSE_PUBLIC_URL="$${GATEHOUSE_PUBLIC_URL:-http://127.0.0.1:$(PORT)}" \
	GATEHOUSE_LOG_LEVEL="$${GATEHOUSE_LOG_LEVEL:-WARNING}" \
	$(BIN)/python manage.py run_demo --port=$(PORT) --calculator-port=$(CALCULATOR_PORT)

test: $(VENV)/installed-dev ## Install what tests need and run every check and test
	@$(BIN)/python -m scripts.test

lint: $(VENV)/installed-dev ## Check style, types, imports and migrations
	@$(BIN)/python -m scripts.test --lint

format: $(VENV)/installed-dev ## Format the code
	@$(BIN)/ruff check --fix --quiet . || true
	@$(BIN)/ruff format .

lock: $(VENV)/installed-dev ## Write the hashed locks from requirements*.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile $(LOCK_OPTIONS) -o requirements.lock requirements.txt
	@UV_CUSTOM_COMPILE_COMMAND="make lock" $(BIN)/uv pip compile $(LOCK_OPTIONS) -c requirements.lock \
	-o requirements-dev.lock requirements-dev.txt

docs: $(VENV)/installed-dev ## Build the documentation site (var/site/index.html)
	@$(BIN)/python -m scripts.ide_guides
	@$(BIN)/python -m sphinx -W --keep-going -q -b html docs var/site
	@echo "var/site/index.html"

screenshots: $(VENV)/installed-dev ## Take the pictures of the documentation from a running gateway
	@$(BIN)/python -m scripts.screenshots

bench: $(VENV)/installed-dev ## Measure speed and memory (results: docs/performance.md)
	@$(BIN)/python bench/run.py

# No address of a package index in the locks: each machine uses its own.
LOCK_OPTIONS := --generate-hashes --python-version 3.11 --no-emit-index-url --no-emit-find-links --quiet $(if $(UPGRADE),--upgrade)

$(VENV)/installed: requirements.lock
	@scripts/environment.sh $(VENV) $< $@

# The development lock holds everything of the other one.
$(VENV)/installed-dev: requirements-dev.lock
	@scripts/environment.sh $(VENV) $< $@
	@touch $(VENV)/installed
