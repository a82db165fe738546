# What people and CI run. Every target makes what it needs, once; `make` alone lists them.
#
# .venv/        for use: the package in editable form, so that a changed source needs no new installation
# build/venv/   for tests: the built wheel and the pinned tools
# build/tree/   a copy of the tests and what they read, without the package: they can only import the wheel
# build/airflow-<version>/   an Airflow with the wheel, for the tests that need a real one

PYTHON ?= python3
ARGS ?=

SHELL := /bin/sh
.DELETE_ON_ERROR:

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# With folders, whose time of change tells of deleted files.
PACKAGE := $(shell find air_executor ! -name '*.pyc' ! -name __pycache__) README.md LICENSE
BESIDE := $(wildcard benchmarks docs examples helm tests CHANGELOG.md Makefile README.md pyproject.toml)

# The newest, in which everything is tested, and the oldest, which Python 3.12 is the last to run.
AIRFLOW := 3.3.2
OLDEST_AIRFLOW := 2.11.2

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1 - /p' Makefile

.PHONY: census
census: .venv/installed ## count Python's standard library, the demo; sets itself up
	@rm -rf .air-executor/jobs/census
	.venv/bin/air-executor run examples/census.yaml

.PHONY: test
test: build/tree/made $(wildcard build/airflow-*/wheel) ## run the tests against the built wheel (ARGS="-k name" for some)
	cd build/tree && AIR_TEST_AIRFLOW=$(call programs,$(AIRFLOW)) AIR_TEST_OLDEST_AIRFLOW=$(call programs,$(OLDEST_AIRFLOW)) \
		../venv/bin/python -m pytest -n 3 $(ARGS)

# The folder of programs of an Airflow, if it is installed.
programs = $(if $(wildcard build/airflow-$(1)/wheel),$(CURDIR)/build/airflow-$(1)/bin)

.PHONY: airflow
airflow: build/airflow-$(AIRFLOW)/wheel ## install two Airflows, for the tests that are skipped without
	@if $(PYTHON) -c 'import sys; sys.exit(sys.version_info >= (3, 13))'; then \
		$(MAKE) build/airflow-$(OLDEST_AIRFLOW)/wheel; fi

.PHONY: lint
lint: build/venv/tools ## check style, types, layers and the runner script
	build/venv/bin/ruff check .
	build/venv/bin/ruff format --check .
	build/venv/bin/mypy
	PYTHONPATH=. build/venv/bin/lint-imports
	@command -v shellcheck >/dev/null || { echo "make lint: shellcheck is missing; on Debian: apt-get install shellcheck" >&2; \
		exit 1; }
	shellcheck -s sh air_executor/runner/air-runner
	shellcheck .ci/run

.PHONY: bench
bench: build/tree/made ## measure speed and memory, print one table and write JSON
	cd build/tree && AIR_TEST_AIRFLOW=$(call programs,$(AIRFLOW)) ../venv/bin/python -m benchmarks $(ARGS)

.PHONY: clean
clean: ## remove what these targets made, state directory excepted
	rm -rf .venv build dist

# Debian splits venv and pip off its python3, and an old python3 fails later and less clearly.
.PHONY: python
python:
	@command -v $(PYTHON) >/dev/null || { \
		echo "make: $(PYTHON) is missing; on Debian: apt-get install python3 python3-venv" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "make: $(PYTHON) is older than 3.11; name a newer one: make PYTHON=python3.12 ..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
		echo "make: $(PYTHON) cannot make environments; on Debian: apt-get install python3-venv" >&2; exit 1; }

.venv/installed: pyproject.toml | python
	$(PYTHON) -m venv .venv
	.venv/bin/pip install --quiet --editable .
	@touch $@

# The package comes only to bring its dependencies, and goes again: tests shall find the wheel or nothing.
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

# Always anew: a test that was deleted must not live on in the copy.
.PHONY: build/tree/made
build/tree/made: build/venv/wheel
	@rm -rf build/tree && mkdir -p build/tree && cp -R $(BESIDE) build/tree
	@cd build/tree && ../venv/bin/python -c 'import air_executor as a; print("testing", a.__file__); "site-packages" in a.__file__ or exit(1)'
