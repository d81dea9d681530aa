# make demo       three nodes, TPC-H data, four queries explained (DEMO_ARGS=--exit ends after)
# make check      format, lint, types, floors and the fast tests, in about a minute
# make test       everything CI runs
# make long       many seeds, soak, full corpora
# make conformance  the outside corpora of ../shared/corpora, with their scores
# make bench      the benchmarks against DuckDB and PostgreSQL

PYTHON ?= python3.11
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_ARGS ?=
PYTEST_ARGS ?=

.PHONY: setup demo check lint test long conformance bench lock clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $(READY)

demo: $(READY)
	$(BIN)/dqe demo $(DEMO_ARGS)

lint: $(READY)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/pytest -q -n 2 -m 'not slow and not cluster and not long' $(PYTEST_ARGS)

test: lint
	$(BIN)/pytest -q -n 2 -m 'not long and not cluster' $(PYTEST_ARGS)
	$(BIN)/pytest -q -m 'cluster and not long' $(PYTEST_ARGS)

long: $(READY)
	$(BIN)/pytest -q -m long $(PYTEST_ARGS)

conformance: $(READY)
	$(BIN)/pytest -q -s -m long tests/system/test_corpora.py $(PYTEST_ARGS)

bench: $(READY)
	$(BIN)/python -m benchmarks.tpch
	$(BIN)/python -m benchmarks.copy

# Writes the versions now installed as the ones every machine gets.
lock: $(READY)
	$(BIN)/pip freeze --exclude-editable --disable-pip-version-check > constraints.txt

clean:
	rm -rf $(VENV) build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
