# Every target works in a clean clone: the environment is made on first use from the lock file.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=
SEEDS ?= 20
START ?= 0
CASE ?= all

.PHONY: playground test check protos verify-protos bench sim pd-sim chaos example-flights lock format

$(STAMP): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("tidb-py needs Python 3.11 or newer: make PYTHON=python3.12 ...") if sys.version_info < (3, 11) else None'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing the locked dependencies into $(VENV) ..." >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

playground: $(STAMP)
	@exec $(BIN)/tidb-py playground $(ARGS)

test: $(STAMP)
	$(BIN)/python -m pytest -q -n 2 --dist loadgroup $(ARGS) tests

check: $(STAMP) verify-protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

protos: $(STAMP)
	$(BIN)/python tools/generate_protos.py

verify-protos: $(STAMP)
	$(BIN)/python tools/generate_protos.py --check

bench: $(STAMP)
	$(BIN)/python -m bench $(ARGS)

sim: $(STAMP)
	$(BIN)/python -m tests.sim --seeds $(SEEDS) --start $(START) $(ARGS)

pd-sim: $(STAMP)
	$(BIN)/python -m pd_py.simulator --case $(CASE) $(ARGS)

# Needs root and iproute2 (network namespaces).
chaos: $(STAMP)
	@$(BIN)/python -m tests.chaos $(ARGS)

example-flights: $(STAMP)
	$(BIN)/python examples/flights.py $(ARGS)

# Refreshes the lock file from pyproject.toml; needs `uv`.
lock:
	uv pip compile pyproject.toml --extra dev --universal --python-version 3.11 --no-header --no-emit-index-url --generate-hashes -o requirements.lock
