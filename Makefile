# `make` alone lists what there is. Everything that is installed or made goes into $(VENV) and into
# what .gitignore names; a target that has nothing to install starts at once.

PYTHON ?= python3
VENV ?= .venv
PORT ?= 8000
PYTEST_ARGS ?=
# Two for each core of a small machine: most tests with servers wait for something. Who has run out
# of tests takes some of another's. Empty: all in one process.
PYTEST_WORKERS ?= 4
SPREAD := $(if $(PYTEST_WORKERS),-n $(PYTEST_WORKERS) --dist worksteal)
# How long the soak goes on.
SECONDS ?= 600
SOAK_ARGS ?=
PYTEST := -m pytest $(SPREAD)
# The folders whose tests start no server, and the tests beside them; tests/conftest.py holds them to it.
FAST := tests/unit tests/stateful tests/fuzz $(wildcard tests/test_*.py)

BIN := $(VENV)/bin
READY := $(VENV)/.ready
HOST := 127.0.0.1

# The theme announces its successor at every build.
export NO_MKDOCS_2_WARNING := 1

# The tests start hundreds of servers, and each would compile the package anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

.PHONY: help
help: ## List the targets and what they take
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo
	@echo "  PORT=8000          where demo and docs-serve listen"
	@echo "  PYTEST_ARGS=…      passed on to pytest, as in: make test PYTEST_ARGS='--no-cov -k redis'"
	@echo "  PYTEST_WORKERS=    run the tests in one process, not in four; or in so many"
	@echo "  BENCH=fanout-1000,node-ws  measure some scenarios, some servers, or both"
	@echo "  SOAK_ARGS=…        passed on to the soak, as in: make soak SOAK_ARGS='--scale 4 --trace'"
	@echo "  PYTHON=python3.13  the Python to use; give it an environment of its own: VENV=.venv-3.13"

# --- Run it ---------------------------------------------------------------------------------------

# One worker, in memory, whatever WEB_CONCURRENCY and ROOMS_URL say in the environment.
.PHONY: demo
demo: $(READY)-example ## Run the example chat, in memory, without Redis
	@$(BIN)/python scripts/check-port $(HOST) '$(PORT)'
	@token="$${ADMIN_TOKEN:-$$($(BIN)/python -c 'import secrets; print(secrets.token_hex(4))')}"; \
	echo; \
	echo "  The chat is at http://$(HOST):$(PORT); open it in two tabs. Ctrl+C ends it."; \
	echo "  An admin's page is at http://$(HOST):$(PORT)/?admin; its token is $$token"; \
	echo; \
	ROOMS_URL=memory:// ADMIN_TOKEN="$$token" exec $(BIN)/python -m uvicorn example_app.main:app --host $(HOST) --port '$(PORT)' --workers 1

# --- Check it -------------------------------------------------------------------------------------

.PHONY: test
test: $(READY)-dev ## Run the tests, with coverage; installs redis-server, rabbitmq-server and chromium if missing
	@scripts/ensure-tools
	@scripts/ensure-node-packages $(BIN)/python
	$(BIN)/python $(PYTEST) --cov $(PYTEST_ARGS)

.PHONY: test-fast
test-fast: $(READY)-dev ## Run the tests that need no server, without coverage: less than a minute
	$(BIN)/python $(PYTEST) $(FAST) $(PYTEST_ARGS)

.PHONY: soak
soak: $(READY)-dev ## Soak two workers in clients and faults for ten minutes; SECONDS=60: for one
	@command -v redis-server >/dev/null || scripts/ensure-tools
	$(BIN)/python -m tests.soak --seconds $(SECONDS) $(SOAK_ARGS)

.PHONY: soak-edges
soak-edges: $(READY)-dev ## Restart two backends every ten seconds, under the clients of two edges, for SECONDS
	@command -v redis-server >/dev/null || scripts/ensure-tools
	$(BIN)/python -m tests.soak.rolling --seconds $(SECONDS) $(SOAK_ARGS)

# In an environment of its own, $(VENV)-oldest, and only the tests that meet a dependency's insides.
.PHONY: test-oldest
test-oldest: $(VENV)-oldest/.ready ## Run the tests that lean on dependencies with the oldest ones claimed
	@scripts/ensure-tools
	$(VENV)-oldest/bin/python $(PYTEST) $(PYTEST_ARGS) tests/unit tests/conformance tests/integration/test_direct_*.py

.PHONY: check
check: $(READY)-dev ## Check format, lint, types, docs and changelog
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright --pythonpath $(BIN)/python
	$(BIN)/towncrier build --draft >/dev/null
	$(BIN)/mkdocs build --strict

.PHONY: format
format: $(READY)-dev ## Format the code, and fix what can be fixed
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

.PHONY: hooks
hooks: $(READY)-dev ## Have git check what is committed, before it is
	$(BIN)/pre-commit install

# --- Measure it -----------------------------------------------------------------------------------

# What the servers need is installed into benchmarks/.work, each server's apart.
.PHONY: bench
bench: ## Measure us beside others (25 minutes) and write the docs page; QUICK=1, BENCH=names: less
	$(PYTHON) -m benchmarks $(if $(QUICK),--quick) $(if $(BENCH),--only '$(BENCH)')

# --- Document it ----------------------------------------------------------------------------------

.PHONY: docs
docs: $(READY)-docs ## Build the documentation into site/
	$(BIN)/mkdocs build --strict

.PHONY: docs-serve
docs-serve: $(READY)-docs ## Serve the documentation, and rebuild it when a page changes
	@$(BIN)/python scripts/check-port $(HOST) '$(PORT)'
	$(BIN)/mkdocs serve --strict --dev-addr $(HOST):$(PORT)

# --- Release it -----------------------------------------------------------------------------------

.PHONY: wheel
wheel: $(READY)-release ## Build the sdist and the wheel into dist/, and check them
	rm -rf dist
	$(BIN)/python -m build
	scripts/check-dist '$(BIN)'

# In an environment that is new every time, with $(PYTHON).
.PHONY: test-wheel
test-wheel: $(if $(WHEEL),,wheel) ## Run the tests against an installed wheel; WHEEL=dist/….whl: against this one
	@scripts/ensure-tools
	scripts/test-wheel '$(PYTHON)' $(or $(WHEEL),dist/*.whl) $(SPREAD) $(PYTEST_ARGS)

.PHONY: release
release: $(READY)-release ## Check and build a release, and say how to upload it
	@scripts/release '$(BIN)'

.PHONY: changelog
changelog: $(READY)-release ## Show what changelog.d would add to the changelog
	@$(BIN)/towncrier build --draft

# --- Keep it --------------------------------------------------------------------------------------

.PHONY: clean
clean: ## Remove everything that was installed or made here, the environment too
	rm -rf $(VENV) $(VENV)-oldest build dist site .coverage .coverage.* coverage.xml htmlcov
	rm -rf benchmarks/.work tests/integration/socketio/node_modules .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(READY): scripts/make-venv
	@scripts/make-venv '$(PYTHON)' '$(VENV)'
	@touch $@

$(VENV)-oldest/.ready: pyproject.toml tests/oldest.txt
	@scripts/make-venv '$(PYTHON)' '$(VENV)-oldest'
	@echo "Installing the oldest dependencies claimed into $(VENV)-oldest …"
	@$(VENV)-oldest/bin/python -m pip install --quiet --disable-pip-version-check --editable . --group test --requirement tests/oldest.txt
	@touch $@

# One stamp for each dependency group, so that `make demo` waits for what the demo needs and no more.
$(READY)-%: pyproject.toml $(READY)
	@echo "Installing fastapi_rooms and the group '$*' into $(VENV) …"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable . --group '$*'
	@touch $@
