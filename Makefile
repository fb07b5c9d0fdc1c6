# make demo   the main job, real and end to end      make test   everything CI runs
# make check  format, lint, types, imports, fast tests      make compose-check   images and docker-compose.yml

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
KEEP ?=

.PHONY: demo test check lint format bench compose-env compose-check clean

$(VENV)/.installed: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed: make PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c constraints.txt uv
	$(BIN)/uv pip install -q --python $(BIN)/python --compile-bytecode -c constraints.txt -e '.[all]' --group dev --group demo
	@touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m demo $(if $(KEEP),--keep) $(DEMO)

lint: $(VENV)/.installed
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint
	$(BIN)/pytest -m "not integration" $(PYTEST)

test: lint
	$(BIN)/pytest $(PYTEST)

format: $(VENV)/.installed
	$(BIN)/ruff format
	$(BIN)/ruff check --fix

bench: $(VENV)/.installed
	$(BIN)/python -m tests.benchmarks.parse
	$(BIN)/python -m tests.benchmarks.overhead
	$(BIN)/python -m tests.benchmarks.serving
	$(BIN)/python -m tests.benchmarks.drift --rows 1e5,1e6 --rounds 3
	$(BIN)/python -m tests.benchmarks.verdicts --repeats 40 --rows 1e3,1e4

compose-env:
	$(PYTHON) docker/environment.py

compose-check: $(VENV)/.installed
	$(BIN)/python docker/check.py $(CHECK)

clean:
	rm -rf $(VENV) .demo .mypy_cache .pytest_cache .ruff_cache build dist
