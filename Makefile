# Two commands on a bare machine with Python 3.11 or newer: `make reproduce` and `make test`.
PYTHON ?= python3
VENV := .venv
CORES ?=
SCALE ?= mini

.PHONY: reproduce test lint docs clean

reproduce: $(VENV)/.ready
	$(VENV)/bin/harness reproduce --scale $(SCALE) $(if $(CORES),--cores $(CORES))

test: $(VENV)/.dev lint
	$(VENV)/bin/python -m pytest -n auto

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

# A warning, such as a link that leads nowhere, is an error.
docs: $(VENV)/.dev
	$(VENV)/bin/python -m sphinx --fail-on-warning --keep-going --quiet -b html -d build/doctrees docs build/docs

# .ready is the environment of a run; .dev has the extras of tests, types and documentation too.
# One pip call installs everything, so that no later call changes a version that another package needs.
# It also compiles the kernels, so their sources are prerequisites.
$(VENV)/.ready $(VENV)/.dev: pyproject.toml setup.py harness/kernels/build.py $(wildcard harness/kernels/*.[ch])
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, this is " + sys.version.split()[0] + "; try make PYTHON=python3.11" if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/python -m pip install --quiet --disable-pip-version-check -e '.$(if $(filter %.dev,$@),[dev])'
	touch $(VENV)/.ready $@

clean:
	rm -rf $(VENV)
