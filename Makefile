# make demo   install, train a small residual network on handwritten digits, write out/demo/report.html
# make test   install what the tests need, check style and types, run the tests, WORKERS at a time
# make zoo    find the streams of many families of models (timm's and torchvision's where installed), write docs/zoo.md
# make docs   install what the tests need, execute the notebooks, write out/docs/index.html; a warning is an error
# make setup  install into .venv alone

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := pyproject.toml constraints.txt

.PHONY: setup demo test lint types bench docs zoo clean

setup: $(VENV)/.core

$(VENV)/.core: $(SOURCES)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "resdyn needs Python 3.11 or newer; say which with: make PYTHON=python3.12"; exit 2; }
	$(PYTHON) -m venv $(VENV)
	$(PIP) torch==2.13.0
	$(PIP) --editable .
	@touch $@

$(VENV)/.dev: $(VENV)/.core
	$(PIP) --editable '.[dev]'
	@touch $@

demo: $(VENV)/.core
	$(BIN)/resdyn demo --out out/demo

test: $(VENV)/.dev lint types
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(VENV)/.dev
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/svd.py

docs: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/sphinx-build -q -W --keep-going --jobs $(WORKERS) docs out/docs

zoo: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python docs/zoo.py

clean:
	rm -rf $(VENV) out
