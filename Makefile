# `make run` serves the demo, `make test` tests, `make check` lints. The first of each sets up .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
NODE_MODULES := tests/openapi/node_modules

.PHONY: setup run test chromium check npm explore mutants bench wrk siege kills freshness spreadsheets \
	libreoffice openapi schema lock clean

setup: .venv/for-running

run: .venv/for-running
	$(BIN)/confirmed-owner demo
	exec $(BIN)/confirmed-owner run

# More processes than most machines have to spare, since many tests wait for others.
test: .venv/for-testing chromium
	$(BIN)/pytest --numprocesses 3 --dist worksteal

# The browser that pages are tested with: installed where that may be done, else told how.
chromium:
	@command -v chromium >/dev/null || command -v chromium-browser >/dev/null || { \
		echo "Installing Debian's Chromium, for the tests of pages"; \
		sudo=$$(test "$$(id -u)" = 0 || echo "sudo -n"); \
		$$sudo apt-get update -qq && $$sudo apt-get install -qq -y --no-install-recommends chromium \
			>/dev/null; } || { \
		echo "The tests of pages need Chromium. Install it with: sudo apt-get install chromium"; \
		exit 1; }

check: .venv/for-testing $(NODE_MODULES)/.package-lock.json
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.advisories
	REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
		$(NODE_MODULES)/.bin/redocly lint openapi.yaml --config tests/openapi/redocly.yaml

# What installs the linter of openapi.yaml: installed where that may be done, else told how.
npm:
	@command -v npm >/dev/null || { \
		echo "Installing Debian's Node.js and npm, for the linter of openapi.yaml"; \
		sudo=$$(test "$$(id -u)" = 0 || echo "sudo -n"); \
		$$sudo apt-get update -qq && $$sudo apt-get install -qq -y --no-install-recommends nodejs npm \
			>/dev/null; } || { \
		echo "The linter of openapi.yaml needs npm. Install it with: sudo apt-get install nodejs npm"; \
		exit 1; }

# Looks for longer than the tests do: the API's document against the service, the decision against
# its oracle, names in disguise, and batches of any order and any text.
explore: .venv/for-testing
	EXAMPLES=200 DISGUISES=100000 $(BIN)/pytest tests/test_openapi.py tests/accounts/test_names.py \
		tests/insights/test_decision_oracle.py tests/batches/test_equivalence.py \
		tests/batches/test_formats.py

# Breaks one rule after the other, and tells which no test notices.
mutants: .venv/for-testing
	$(BIN)/python -m tests.mutants

# Ends within ten minutes. `ONLY="single peer"` measures only those parts.
bench: .venv/for-bench wrk
	$(BIN)/python -m tests.bench $(ONLY)

# What puts load on servers: installed where that may be done, else told how.
wrk:
	@command -v wrk >/dev/null || { \
		echo "Installing Debian's wrk, for the benchmark"; \
		sudo=$$(test "$$(id -u)" = 0 || echo "sudo -n"); \
		$$sudo apt-get update -qq && $$sudo apt-get install -qq -y --no-install-recommends wrk \
			>/dev/null; } || { \
		echo "The benchmark needs wrk. Install it with: sudo apt-get install wrk"; \
		exit 1; }

# Attacks the service, and measures what others feel. `ATTACKS="…"` names some of them.
siege: .venv/for-testing
	$(BIN)/python -m tests.siege $(ATTACKS)

# Kills processes while a file is checked, and compares the results. `KILLS=20 ROWS=200000 SEED=…`
kills: .venv/for-testing
	$(BIN)/python -m tests.batches.killing

# Checks a million answers, given while companies change and processes fail.
# `ANSWERS=1000000 SEED=… FAULTS=no`
freshness: .venv/for-testing
	$(BIN)/python -m tests.freshness

# Opens results with hostile cells in LibreOffice, which must compute nothing.
spreadsheets: .venv/for-testing libreoffice
	$(BIN)/python -m tests.batches.spreadsheets

# The spreadsheet that results are opened in: installed where that may be done, else told how.
libreoffice:
	@command -v soffice >/dev/null || { \
		echo "Installing Debian's LibreOffice Calc, to open results in it"; \
		sudo=$$(test "$$(id -u)" = 0 || echo "sudo -n"); \
		$$sudo apt-get update -qq && $$sudo apt-get install -qq -y --no-install-recommends \
			libreoffice-calc >/dev/null; } || { \
		echo "This needs LibreOffice. Install it with: sudo apt-get install libreoffice-calc"; \
		exit 1; }

openapi: .venv/for-running
	$(BIN)/confirmed-owner openapi > openapi.yaml

schema: .venv/for-testing
	$(BIN)/python -m tests.schema > sql/schema.sql

lock: .venv/for-testing
	$(PIP) uv
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--upgrade --group build pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--group build --group dev --constraint requirements.lock pyproject.toml \
		--output-file requirements-dev.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--group bench --constraint requirements-dev.lock --output-file requirements-bench.lock

clean:
	rm -rf .venv $(NODE_MODULES)

.venv/for-running: requirements.lock pyproject.toml
	test -x $(BIN)/pip || $(PYTHON) -m venv .venv
	$(PIP) --require-hashes -r requirements.lock
	$(PIP) --no-deps --no-build-isolation --editable .
	touch $@

.venv/for-testing: requirements-dev.lock .venv/for-running
	$(PIP) --require-hashes -r requirements-dev.lock
	touch $@

.venv/for-bench: requirements-bench.lock .venv/for-testing
	$(PIP) --require-hashes -r requirements-bench.lock
	touch $@

$(NODE_MODULES)/.package-lock.json: tests/openapi/package.json tests/openapi/package-lock.json | npm
	@npm ci --prefix tests/openapi --no-audit --no-fund --silent || { \
		echo "The linter of openapi.yaml was not installed. See why with: npm ci --prefix tests/openapi"; \
		exit 1; }
