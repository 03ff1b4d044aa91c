# `make serve` and `make test` are the two commands. Without an NVIDIA card they take the small CPU build of torch;
# TORCH=cpu or TORCH=cuda chooses.
PYTHON ?= python3
VENV ?= .venv
TORCH ?= auto
PIP = $(VENV)/bin/python -m pip install --disable-pip-version-check --quiet
INSTALL_TORCH = TORCH=$(TORCH) $(VENV)/bin/python tools/install_torch.py

.PHONY: serve test lint bench bench-family heldout kills docs slow clean

serve: $(VENV)/.server
	$(VENV)/bin/hyperserve serve

# Tests of a file stay together, so that they share their servers; their order is that of tests/conftest.py.
test: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -n auto --dist loadfile --no-loadscope-reorder

# What takes long, and property tests with all of their examples.
slow: $(VENV)/.dev
	$(VENV)/bin/python -m pytest -m slow --timeout 600
	$(VENV)/bin/python -m pytest -m 'hypothesis and not slow' --hypothesis-profile full --timeout 600

lint: $(VENV)/.dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/hadolint Dockerfile
	$(VENV)/bin/check-jsonschema --builtin-schema vendor.compose-spec docker-compose.yml

bench: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks.serving
	$(VENV)/bin/python -m benchmarks.start

# Beside easyfsl and learn2learn, in a folder of their own: see benchmarks/family/README.md.
bench-family: $(VENV)/.dev
	PYTHON=$(VENV)/bin/python benchmarks/family/install_peers.sh build/peers
	OMP_NUM_THREADS=1 $(VENV)/bin/python -m benchmarks.family --peers build/peers --write docs/results

# make heldout DIR=/path/to/data LEARNERS="glyphs vectors": any learners on any data, beside baselines.
LEARNERS ?= glyphs characters photos vectors
heldout: $(VENV)/.dev
	@test -n "$(DIR)" || { echo 'make heldout needs DIR=path: class folders, a zip, an npz, a CSV, or a folder of these' >&2; exit 2; }
	OMP_NUM_THREADS=1 $(VENV)/bin/hyperserve evaluate own --data '$(DIR)' $(LEARNERS:%=--learner %) --write build/heldout

kills: $(VENV)/.dev
	$(VENV)/bin/python -m benchmarks.fault_injection

docs: $(VENV)/.dev
	$(VENV)/bin/hyperserve openapi > docs/openapi.json

clean:
	rm -rf $(VENV) dist build

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.server: pyproject.toml | $(VENV)/bin/python
	$(INSTALL_TORCH)
	$(PIP) -e '.[server]'
	touch $@

$(VENV)/.dev: pyproject.toml | $(VENV)/bin/python
	$(INSTALL_TORCH)
	$(PIP) -e '.[dev]'
	touch $@ $(VENV)/.server
