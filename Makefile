# Everything is made in .venv, with the distribution's Python; each target installs the system packages it lacks (Debian, as root) or says how to.
PYTHON ?= /usr/bin/python3
VENV := .venv
BIN := $(VENV)/bin
KERNELS := $(wildcard $(addprefix src/hacore/_fast/*.,pyx pxd pxi c h))

.DEFAULT_GOAL := help
.NOTPARALLEL:
.DELETE_ON_ERROR:
.PHONY: help build lab test test-hosts lint bench wheel soak clean packages-build packages-lab packages-test packages-hosts packages-soak

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' Makefile

build: packages-build $(VENV)/.built  ## .venv with the package and the command hacore in it
	@echo "built: $(BIN)/hacore"

lab: packages-lab $(VENV)/.built  ## a guided tour: two firewalls in network namespaces, and what happens when one fails
	$(BIN)/hacore lab tour

test: packages-test $(VENV)/.built  ## the tests, against the real kernel in network namespaces (root)
	@tools/need-root make test
	tools/test $(BIN)/pytest

test-hosts: packages-hosts $(VENV)/.built  ## two Debian machines with systemd, set up as docs/setup.md says (root)
	@tools/need-root make test-hosts
	$(BIN)/python -m tests.hosts.debian
	$(BIN)/pytest tests/hosts -m hosts

lint: packages-build $(VENV)/.built  ## style, types, import floors, C and Cython warnings
	tools/lint

bench: packages-build $(VENV)/.built  ## the kernels' benchmarks, some of them in a network namespace (root)
	@tools/need-root make bench
	$(BIN)/pytest bench

wheel: packages-test $(VENV)/.built  ## sdist and wheel in dist/, and the tests against the installed wheel (root)
	@tools/need-root make wheel
	tools/test-wheel

soak: packages-soak $(VENV)/.built  ## the long campaigns: fuzzing, chaos, sanitizers (root)
	@tools/need-root make soak
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[soak]'
	$(BIN)/pytest tests -m soak --hypothesis-profile=soak --timeout=0

clean:  ## removes everything that was built
	rm -rf $(VENV) build dist src/*.egg-info src/hacore/_fast/*.so .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

packages-build packages-lab packages-test packages-hosts packages-soak: packages-%:
	@tools/install-dependencies $*

$(VENV)/pyvenv.cfg:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("hacore needs Python 3.11 or newer, not " + sys.version)'
	$(PYTHON) -m venv $(VENV)

# The whole installation follows the metadata; the kernels alone follow their sources. What builds them is in .venv from the
# start, not in pip's own environment: what that made would be older than its Cython, and be made again.
$(VENV)/.installed: pyproject.toml setup.py | $(VENV)/pyvenv.cfg
	$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' \
	  | $(BIN)/pip install --quiet --disable-pip-version-check --requirement /dev/stdin
	$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --editable '.[dev]'
	@touch $@

$(VENV)/.built: $(VENV)/.installed $(KERNELS)
	$(BIN)/python setup.py --quiet build_ext --inplace
	@touch $@
