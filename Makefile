# Targets for development and CI. Each target creates what it needs, once; `make` lists all targets.
#
# .venv/        to use the program: an editable installation, so changed sources take effect immediately
# build/venv/   for tests: the built wheel and pinned tools
# build/tree/   a copy of the tests and their data without the package, so they can import only the wheel
# build/airflow-<version>/   an Airflow with the wheel, for tests that need a real one

PYTHON ?= python3
ARGS ?=

SHELL := /bin/sh
.DELETE_ON_ERROR:

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Folders included: their modification time changes when a file is deleted.
PACKAGE := $(shell find air_executor ! -name '*.pyc' ! -name __pycache__) README.md LICENSE
BESIDE := $(wildcard benchmarks docs examples helm tests CHANGELOG.md LICENSE Makefile README.md pyproject.toml)

# The newest, used by all tests, and the oldest, which supports Python up to 3.12.
AIRFLOW := 3.3.2
OLDEST_AIRFLOW := 2.11.2

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1 - /p' Makefile

.PHONY: census
census: .venv/installed ## set up .venv and run the demo
	@rm -rf .air-executor/jobs/census
	.venv/bin/air-executor run examples/census.yaml

LANES ?= core

.PHONY: test
test: build/tree/made $(wildcard build/airflow-*/wheel) ## run the tests that need Python alone (ARGS="-k name" selects some)
	cd build/tree && AIR_TEST_AIRFLOW=$(call programs,$(AIRFLOW)) AIR_TEST_OLDEST_AIRFLOW=$(call programs,$(OLDEST_AIRFLOW)) \
		../venv/bin/python -m pytest -n 3 --lanes $(LANES) $(ARGS)

.PHONY: test-core test-docker test-kubernetes test-monitoring test-browser
test-core test-docker test-kubernetes test-monitoring test-browser: test-%:
	$(MAKE) test LANES=$*

.PHONY: test-airflow
test-airflow: airflow
	$(MAKE) test LANES=airflow

.PHONY: test-all
test-all: airflow ## run the tests of all lanes; `make test-docker` and so on run those of one
	$(MAKE) test LANES=all ARGS="--durations=25 $(ARGS)"

.PHONY: nightly
nightly: airflow ## run all tests, with crash campaigns and random tests at full size
	$(MAKE) build/airflow-$(OLDEST_AIRFLOW)/wheel
	AIR_TEST_NIGHTLY=1 $(MAKE) test LANES=all,nightly ARGS="--durations=25 $(ARGS)"

# The bin folder of an Airflow, if it is installed.
programs = $(if $(wildcard build/airflow-$(1)/wheel),$(CURDIR)/build/airflow-$(1)/bin)

.PHONY: airflow
airflow: build/airflow-$(AIRFLOW)/wheel ## install an Airflow for the tests that need one

.PHONY: lint
lint: build/venv/tools ## check style, types, layers and shell scripts
	build/venv/bin/ruff check .
	build/venv/bin/ruff format --check .
	build/venv/bin/mypy
	PYTHONPATH=. build/venv/bin/lint-imports
	@command -v shellcheck >/dev/null || { echo "make lint: shellcheck is missing; on Debian: apt-get install shellcheck" >&2; \
		exit 1; }
	shellcheck -s sh air_executor/runner/air-runner
	shellcheck .ci/run

.PHONY: bench
bench: build/tree/made ## measure speed and memory; print a table and write JSON
	cd build/tree && AIR_TEST_AIRFLOW=$(call programs,$(AIRFLOW)) ../venv/bin/python -m benchmarks $(ARGS)

.PHONY: clean
clean: ## remove generated files, but keep the state directory
	rm -rf .venv build dist

# Debian packages venv and pip separately; check here, because later errors are less clear.
.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "make: $(PYTHON) is missing; on Debian: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is older than 3.11; use a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot create environments; on Debian: apt-get install python3-venv" >&2; exit 1; }

.venv/installed: pyproject.toml | python
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable .
	@touch $@

# Install the package for its dependencies only, then uninstall it: tests must import the wheel.
build/venv/tools: pyproject.toml | python
	$(PYTHON) -m venv build/venv
	build/venv/bin/pip install --quiet --editable '.[dev]'
	build/venv/bin/pip uninstall --quiet --yes air-executor
	@rm -f build/venv/wheel
	@touch $@

build/venv/wheel: build/venv/tools $(PACKAGE)
	@rm -rf build/wheel
	build/venv/bin/pip wheel --quiet --no-deps --wheel-dir build/wheel .
	build/venv/bin/pip install --quiet --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

build/airflow-%/wheel: build/venv/wheel
	test -e build/airflow-$*/made || { $(PYTHON) -m venv build/airflow-$* && build/airflow-$*/bin/pip install --quiet \
		apache-airflow==$* "$$(echo build/wheel/*.whl)[airflow]" && touch build/airflow-$*/made; }
	build/airflow-$*/bin/pip install --quiet --no-deps --force-reinstall build/wheel/*.whl
	@touch $@

# Rebuilt every time: a deleted test must not survive in the copy.
.PHONY: build/tree/made
build/tree/made: build/venv/wheel
	@rm -rf build/tree && mkdir -p build/tree && cp -R $(BESIDE) build/tree
	@cd build/tree && ../venv/bin/python -c 'import air_executor as a; print("testing", a.__file__); "site-packages" in a.__file__ or exit(1)'
