# make demo   install, train a small residual network on handwritten digits, write out/demo/report.html
# make test   install what the tests need, check style and types, run the tests, WORKERS at a time
# make newer  the stream, the linear algebra and the zoo on the newest PyTorch (5 GB), in an environment of its own
# make zoo    find the streams of many families of models (timm's and torchvision's where installed), write docs/zoo.md
# make docs   install what the tests need, execute the notebooks, write out/docs/index.html; a warning is an error
# make setup  install into .venv alone; make dev  with what the tests need

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt
SOURCES := pyproject.toml constraints.txt
NEWER := .venv-newer
NEWER_TORCH := torch==2.14.1 torchvision==0.29.1
NEWER_TESTS := tests/test_torch_names.py tests/test_linearize.py tests/test_stop_gradients.py tests/test_operator.py \
	tests/test_subspace.py tests/test_zoo.py
NEWER_ONLY := not test_zoo or (implies and (ResNet or Swinv2 or GPT2 or Llama or Mixtral or T5))

.PHONY: setup dev demo test newer newer-setup lint types bench docs zoo clean

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

dev: $(VENV)/.dev

demo: $(VENV)/.core
	$(BIN)/resdyn demo --out out/demo

test: $(VENV)/.dev lint types
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist worksteal

newer: $(NEWER)/.ready
	HF_HUB_OFFLINE=1 $(NEWER)/bin/python -m pytest --numprocesses $(WORKERS) --dist worksteal $(NEWER_TESTS) -k "$(NEWER_ONLY)"

newer-setup: $(NEWER)/.ready

$(NEWER)/.ready: $(SOURCES)
	$(PYTHON) -m venv $(NEWER)
	grep -vE '^torch(vision)?[=<>]' constraints.txt > $(NEWER)/constraints.txt
	$(NEWER)/bin/python -m pip install --quiet --disable-pip-version-check \
		--constraint $(NEWER)/constraints.txt $(NEWER_TORCH) --editable '.[hf]' pytest pytest-xdist hypothesis
	touch $@

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(VENV)/.dev
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python benchmarks/svd.py

docs: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/sphinx-build -q -W --keep-going --jobs $(WORKERS) docs out/docs

zoo: $(VENV)/.dev
	HF_HUB_OFFLINE=1 $(BIN)/python docs/zoo.py

clean:
	rm -rf $(VENV) $(NEWER) out
