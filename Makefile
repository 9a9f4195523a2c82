# Every verb of the project. `make help` lists them; `make check test` is what CI runs.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 7890

.PHONY: help demo serve test system trust check fix docs pictures bench clean

help:  ## list the verbs
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --upgrade pip
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

demo: $(VENV)/installed  ## see a server and a worker at work
	@$(BIN)/python examples/demo.py

serve: $(VENV)/installed  ## run a server on PORT (7890), with its store in ./zizq-root
	$(BIN)/zizq serve --port $(PORT)

test: $(VENV)/installed system  ## run the whole suite; as root it installs the system packages that tests need
	$(BIN)/python -m pytest

system:  ## install what tests drive: browser, terminal, PostgreSQL; where that can be done
	@{ command -v chromium && command -v tmux && command -v pgbouncer && command -v ip && ls /usr/lib/postgresql/*/bin/initdb; } \
	  >/dev/null 2>&1 || [ "$$(id -u)" != 0 ] || ! command -v apt-get >/dev/null || \
	  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -qq -y \
	    chromium tmux postgresql pgbouncer iproute2 >/dev/null; } || \
	  echo "not all system packages are there: tests say what that means"

trust: $(VENV)/installed  ## try for hours what is promised under faults
	$(BIN)/python -m trust all

check: $(VENV)/installed  ## lint, types and layers
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

fix: $(VENV)/installed  ## format, and mend what can be mended
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: $(VENV)/installed  ## make the pages that are drawn from the code
	$(BIN)/python docs/make.py

pictures: $(VENV)/installed system  ## take the pictures of the dashboard in docs/images
	PYTHONPATH=tests $(BIN)/python -m browser.pictures

bench: $(VENV)/installed  ## measure speed, beside other queues, into bench/README.md and docs/benchmarks.md
	$(BIN)/python -m bench all --write

clean:  ## remove the environment and what the tools left
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis .bench
