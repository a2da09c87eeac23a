# Everything a newcomer types. Each target sets itself up first; `make setup` alone only does that.

VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

# The first interpreter that answers with a version we support. Override with `make PYTHON=/path/to/python3.12`.
PYTHON ?= $(shell for name in python3.11 python3.12 python3; do \
	"$$name" -c 'import ensurepip, sys, venv; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))' \
	>/dev/null 2>&1 && command -v "$$name" && break; done)

# Wheels of a few hundred megabytes outlast uv's default timeout on a slow line.
export UV_HTTP_TIMEOUT ?= 300
# Nothing is reported to anybody.
export RAY_USAGE_STATS_ENABLED := 0
export HF_HUB_DISABLE_TELEMETRY := 1

.DEFAULT_GOAL := help
.PHONY: help setup check lint test demo clean

help:  ## Show this list
	@echo "textremove: remove objects from photos by naming them"
	@echo
	@grep -hE '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## (.*)/  make \1\t\2/' | expand -t 16

setup: $(STAMP)  ## Make .venv and install everything into it (the other targets do this themselves)

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or 3.12 with venv found; install one, or say make PYTHON=/path/to/python3.12" >&2; exit 2; }
	@echo "[setup] virtual environment $(VENV) from $(PYTHON)"
	@test -x $(BIN)/python || "$(PYTHON)" -m venv $(VENV) || { rm -rf $(VENV); exit 2; }
	@echo "[setup] uv, the installer"
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt uv
	@echo "[setup] textremove and what it needs (one to two minutes on a good line)"
	@$(BIN)/uv pip install --python $(BIN)/python --editable ".[dev]" --constraint constraints.txt
	@touch $(STAMP)

check: lint  ## Format, lint, types, import rules and the fast tests: what pre-commit runs
	@echo "[check] fast tests"
	@$(BIN)/python -m pytest tests/unit tests/architecture -m "not slow and not integration and not fullsize"

lint: $(STAMP)  ## Format, lint, types and import rules: with `make test`, what CI runs
	@echo "[check] format"
	@$(BIN)/ruff format --check .
	@echo "[check] lint"
	@$(BIN)/ruff check .
	@echo "[check] types"
	@$(BIN)/mypy
	@echo "[check] import rules"
	@$(BIN)/lint-imports --no-cache

test: $(STAMP)  ## Everything that runs on a CPU, real Ray included
	@$(BIN)/python -m pytest

demo: $(STAMP)  ## The whole chain on procedural scenes: runs/demo/report.html
	@$(BIN)/python -m jobs.demo --out runs/demo

clean:  ## Remove what the targets made: .venv, caches and runs/demo
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache runs/demo
	find jobs serve tests textremove benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
