# `make run` serves the demo, `make test` tests, `make check` lints. The first of each sets up .venv.

PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/pip install --quiet --disable-pip-version-check
NODE_MODULES := tests/node/node_modules

.PHONY: setup run test chromium pgbouncer check npm explore mutants bench wrk siege kills faults freshness \
	spreadsheets libreoffice openapi schema lock clean

# Installs packages of Debian's where that may be done, else tells how: the packages, a command that
# succeeds if they are there, and what needs them.
define debian
	@{ $(2); } >/dev/null || { \
		echo "Installing Debian's packages for $(3): $(1)"; \
		sudo=$$(test "$$(id -u)" = 0 || echo "sudo -n"); \
		$$sudo apt-get update -qq && \
			$$sudo apt-get install -qq -y --no-install-recommends $(1) >/dev/null; } || { \
		echo "Missing for $(3). Install it with: sudo apt-get install $(1)"; \
		exit 1; }
endef

setup: .venv/for-running

run: .venv/for-running
	$(BIN)/confirmed-owner demo
	exec $(BIN)/confirmed-owner run

# More processes than most machines have to spare, since many tests wait for others.
test: .venv/for-testing $(NODE_MODULES)/.package-lock.json chromium pgbouncer
	$(BIN)/pytest --numprocesses 3 --dist worksteal

chromium:
	$(call debian,chromium,command -v chromium || command -v chromium-browser,the tests of pages)

pgbouncer:
	$(call debian,pgbouncer,test -x /usr/sbin/pgbouncer,the tests of calls by way of PgBouncer)

check: .venv/for-testing $(NODE_MODULES)/.package-lock.json
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m tests.advisories
	REDOCLY_TELEMETRY=off REDOCLY_SUPPRESS_UPDATE_NOTICE=true \
		$(NODE_MODULES)/.bin/redocly lint openapi.yaml --config tests/node/redocly.yaml

npm:
	$(call debian,nodejs npm,command -v npm,the linter of openapi.yaml and the tests of pages)

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

wrk:
	$(call debian,wrk,command -v wrk,the benchmark)

# Attacks the service, and measures what others feel. `ATTACKS="…"` names some of them.
siege: .venv/for-testing
	$(BIN)/python -m tests.siege $(ATTACKS)

# Kills processes while a file is checked, and compares the results. `KILLS=20 ROWS=200000 SEED=…`
kills: .venv/for-testing
	$(BIN)/python -m tests.batches.killing

# Kills the database server under load, and looks for all that was acknowledged. `KILLS=10`
faults: .venv/for-testing
	$(BIN)/python -m tests.faults.killing

# Checks a million answers, given while companies change and processes fail.
# `ANSWERS=1000000 SEED=… FAULTS=no`
freshness: .venv/for-testing
	$(BIN)/python -m tests.freshness

# Opens results with hostile cells in LibreOffice, which must compute nothing.
spreadsheets: .venv/for-testing libreoffice
	$(BIN)/python -m tests.batches.spreadsheets

libreoffice:
	$(call debian,libreoffice-calc,command -v soffice,opening results in a spreadsheet)

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

$(NODE_MODULES)/.package-lock.json: tests/node/package.json tests/node/package-lock.json | npm
	@npm ci --prefix tests/node --no-audit --no-fund --silent || { \
		echo "Redocly and axe-core were not installed. See why with: npm ci --prefix tests/node"; \
		exit 1; }
