# make demo: sets everything up and runs the main job. make test: passes the tests. See README.md.
PY ?= $(shell for p in python3.11 python3.12 python3.13 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
OUT ?= demo
OTHER ?= $(BIN)/python
# Small matrices: threads cost more than they bring, and fight each other on a busy machine.
export OMP_NUM_THREADS ?= 1
export OPENBLAS_NUM_THREADS ?= 1

.PHONY: demo test slow lint figures bench calibrate clean
.DEFAULT_GOAL := demo

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -n "$(PY)" || { echo "Python 3.11 or newer is needed; none was found."; exit 1; }
	@test -x $(BIN)/python || $(PY) -m venv $(VENV)
	$(BIN)/python -m pip -qq install -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py --out $(OUT)

test: $(VENV)/.installed
	$(BIN)/python -m pytest -q -n auto --dist loadfile

slow: $(VENV)/.installed
	$(BIN)/python -m pytest -q -m slow --timeout 1800

lint: $(VENV)/.installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

figures: $(VENV)/.installed
	$(BIN)/python -m figures --out figures-out

# The packages compared with may live in an environment of their own: make bench OTHER=/path/to/its/python
bench: $(VENV)/.installed
	@echo "== transport_and_quadrature"; $(BIN)/python -W ignore benchmarks/transport_and_quadrature.py
	@for name in neighbors_and_manifold frechet_and_kernel kde ensembles; do echo "== $$name"; \
		$(BIN)/python -W ignore benchmarks/$$name.py --other $(OTHER) || exit 1; done
	@echo "== time to 8/8 and 25/25"; $(BIN)/python -W ignore benchmarks/ensembles.py --coverage

calibrate: $(VENV)/.installed
	$(BIN)/python benchmarks/audit_calibration.py

clean:
	rm -rf $(VENV) demo figures-out .pytest_cache .mypy_cache .ruff_cache
