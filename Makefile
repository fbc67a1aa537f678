# Two commands need nothing else: `make demo` and `make test`.
PYTHON ?= python3
TORCH_INDEX ?=
EXTRAS ?=
CASES ?=
WHEELHOUSE ?= wheelhouse
VENV := .venv
BIN := $(VENV)/bin
FROM := --disable-pip-version-check --quiet -c constraints.txt $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PIP := $(BIN)/python -m pip install $(FROM)

.PHONY: demo test types suite study bench hospitals pictures docs wheelhouse clean

demo: $(VENV)/demo.installed
	$(BIN)/primum demo

test: $(VENV)/test.installed
	$(BIN)/ruff check . && $(BIN)/ruff format --check .
	@$(MAKE) --jobs 2 --no-print-directory types suite

# Side by side: types are checked where a test waits.
types:
	$(BIN)/mypy

suite:
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder

study: $(VENV)/test.installed
	$(BIN)/python -m studies

bench: $(VENV)/test.installed
	$(BIN)/python -m studies.bench
	$(BIN)/python -m studies.transport
	$(BIN)/python -m studies.suite_bench
	$(BIN)/python -m studies.scale
	$(BIN)/python -m studies.classifier_scale
	$(BIN)/python -m studies.attacks
	$(BIN)/python -m studies.private_images
	$(BIN)/python -m studies.adversarial
	$(BIN)/python -m studies.training_cost
	$(BIN)/python -m studies.equity_scale
	$(BIN)/python -m studies.federated_cost
	$(BIN)/python -m studies.trail_bench

# Fifteen hospitals train together: one table. CASES=folder takes your own.
hospitals: $(VENV)/demo.installed
	$(PIP) -e '.[federated]'
	$(BIN)/python examples/fifteen_hospitals.py $(CASES)

# The pictures of the documentation, from a finished demonstration; needs chromium.
pictures: demo
	$(BIN)/python -m studies.pictures primum-demo

# The documentation as a folder that needs no network.
docs: $(VENV)/test.installed
	$(BIN)/python -m mkdocs build --strict

# Every wheel that an installation without a network needs, and their hashes; EXTRAS='[torch,train]' for more.
wheelhouse: $(VENV)/bin/python
	rm -rf build $(WHEELHOUSE)/*.whl
	$(BIN)/python -m pip wheel $(FROM) --wheel-dir $(WHEELHOUSE) '.$(EXTRAS)'
	cd $(WHEELHOUSE) && sha256sum *.whl | \
	  sed -E 's/^([0-9a-f]+) +([^-]+)-([^-]+)-.*/\2==\3 --hash=sha256:\1/' > requirements.txt

clean:
	rm -rf $(VENV) primum-demo site wheelhouse build

# Debian's python3 may come without venv; then say which package brings it, or install it when we may.
$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); ./.ci/debian python3-venv && $(PYTHON) -m venv $(VENV); }

$(VENV)/demo.installed: constraints.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) torch -e '.[train]'
	touch $@

$(VENV)/test.installed: constraints.txt pyproject.toml | $(VENV)/bin/python
	$(PIP) torch -e '.[dev]'
	touch $@ $(VENV)/demo.installed
