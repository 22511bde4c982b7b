# make demo: install what is needed, run the main job on the digits. make test: the same, plus everything tested.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
PIP    := $(BIN)/python -m pip --disable-pip-version-check
# Another build (GPU, CPU only): install it into .venv first, or see "GPU or CPU" in the README.
TORCH  ?= torch==2.13.0
# Processes that test; a module stays in one, because its tests share what was set up once.
TEST_WORKERS ?= 2

.PHONY: demo test lint types format clean
demo: $(VENV)/.run
	$(BIN)/curate run datasets/digits.yaml

test: $(VENV)/.test
	$(BIN)/python -m pytest -n $(TEST_WORKERS) --dist loadfile

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.test
	$(BIN)/mypy

format: $(VENV)/.test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

$(BIN)/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "curate needs Python 3.11 or newer: make PYTHON=python3.11 demo")'
	$(PYTHON) -m venv $(VENV)

# torch first: nothing may pull another build of it in
$(VENV)/.run: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install -q "$(TORCH)"
	$(PIP) install -q -c constraints.txt -e .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(PIP) install -q -c constraints.txt -e ".[test,features]"
	touch $@

clean:
	rm -rf $(VENV) workspace .pytest_cache .mypy_cache .ruff_cache
