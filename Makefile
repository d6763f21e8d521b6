# make demo | test | test-all | check | docs | format | gallery: each sets up what it needs, in .venv, on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-all check docs format gallery

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[test,check,docs]'
	touch $@

# Without their dependencies: these are in .venv already, and neither may bring another torch.
.venv/parity: .venv/ready
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[parity]'
	$(BIN)/python -m pip install --quiet --constraint constraints.txt --no-deps timm torchvision
	touch $@

demo: .venv/ready
	$(BIN)/vitrail demo --out runs/demo

test: .venv/ready
	$(BIN)/python -m pytest -m 'not slow' -n logical --maxprocesses 8 --durations 20

test-all: .venv/parity
	$(BIN)/python -m pytest

check: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest -q tests/test_dependencies.py  # no version below floors.txt

docs: .venv/ready
	$(BIN)/mkdocs build --strict --quiet

format: .venv/ready
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# Every chart of the reports on one page, to be looked at after a change of one.
gallery: .venv/ready
	$(BIN)/python -m tests.report.gallery build/gallery.html
