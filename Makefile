# Everything a person or CI runs. `make demo` and `make test` work from a clean clone.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
JOBS ?= 2
PIP := $(BIN)/python -m pip --quiet --disable-pip-version-check

.PHONY: demo test test-slow lint format docs bench release-check pretrained circles craterstats qgis-plugin clean help

help:
	@echo "make demo       install, then train, report and scan on data that the package makes itself"
	@echo "make test       install, then run the tests"
	@echo "make test-slow  the long tests"
	@echo "make lint       style, types, and the order of imports"
	@echo "make docs       the documentation as a site, in site/; warnings are errors"
	@echo "make bench      quick benchmarks; BENCH=full for all"
	@echo "make release-check  build wheel and sdist, and use them in new environments, for each extra"
	@echo "make pretrained train the shipped network again, in hours, and measure it"
	@echo "make circles    train the shipped circle detector again, in an hour, and measure it"
	@echo "make qgis-plugin  the plugin for QGIS as a zip, in dist/"
	@echo "make craterstats  install Craterstats, which the long tests then give our files to read"

# torch first and pinned: left to itself pip may take a build of several gigabytes.
$(VENV)/train.stamp: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Python 3.11 or newer is needed: make PYTHON=python3.11 ..."; exit 1; }
	@echo "Installing into $(VENV) ..."
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(PIP) install -c constraints.txt torch
	@$(PIP) install -c constraints.txt -e '.[train]'
	@touch $@

$(VENV)/dev.stamp: $(VENV)/train.stamp
	@$(PIP) install -c constraints.txt -e '.[train,geo,review,dask,parquet,dev]'
	@touch $@

demo: $(VENV)/train.stamp
	$(BIN)/craters demo --out demo

test: $(VENV)/dev.stamp
	$(BIN)/python -m pytest -q -n $(JOBS) --dist worksteal

test-slow: $(VENV)/docs.stamp
	$(BIN)/python -m pytest -q -m slow -n $(JOBS) --dist worksteal

lint: $(VENV)/dev.stamp
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(VENV)/dev.stamp
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(VENV)/docs.stamp: $(VENV)/dev.stamp
	@$(PIP) install -c constraints.txt -e '.[train,geo,review,dask,parquet,dev,docs]'
	@touch $@

docs: $(VENV)/docs.stamp
	$(BIN)/python docs/make_reference.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "Written: site/index.html"

# Resumes where it stopped. The network of the package is replaced; the earlier one is kept beside it.
pretrained: $(VENV)/dev.stamp
	$(BIN)/craters pretrain --out build/pretrained --resume
	cd benchmarks && ../$(BIN)/python -m pretrained.ship ../build/pretrained

# Trains and calibrates the circle detector of the package; continues where it stopped.
circles: $(VENV)/dev.stamp
	cd benchmarks && ../$(BIN)/python -m circles.ship

# In its own environment: it needs Python 3.12 or newer.
CRATERSTATS_PYTHON ?= python3.12
craterstats:
	$(CRATERSTATS_PYTHON) -m venv build/craterstats
	build/craterstats/bin/python -m pip --quiet --disable-pip-version-check install craterstats==3.6.11

qgis-plugin:
	$(PYTHON) qgis/build_zip.py

BENCH ?= quick
bench: $(VENV)/dev.stamp
	$(BIN)/python benchmarks/bench.py $(BENCH)

# In dist/; in new environments, so that what the package needs is what it declares.
release-check: $(VENV)/dev.stamp
	rm -rf dist
	$(BIN)/python -m build --outdir dist .
	PYTHON=$(abspath $(BIN)/python) .ci/release-check dist/*

clean:
	rm -rf $(VENV) demo build dist site .pytest_cache .mypy_cache .ruff_cache .hypothesis
