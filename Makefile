PYTHON ?= python3
BIN := .venv/bin
# one process a core, one thread a process; the tests of a module stay together, as they share models
TESTS := OMP_NUM_THREADS=1 $(BIN)/pytest -n auto --dist loadscope --no-loadscope-reorder

.DEFAULT_GOAL := help
.PHONY: help demo format lint types test test-all test-fast older oldest installs docs site bench
# what is installed is compiled when it is first imported, and once: most of it never is
unexport PYTHONDONTWRITEBYTECODE
INSTALL := $(BIN)/pip install --quiet --disable-pip-version-check --no-compile

help:  ## this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */\1|/' | awk -F'|' '{ printf "make %-10s %s\n", $$1, $$2 }'

.venv/ready: pyproject.toml constraints.txt gold/pyproject.toml
	$(PYTHON) -m venv .venv
	# the CPU build is smaller by gigabytes where its index can be reached; elsewhere the second line takes what pip offers
	-$(INSTALL) --retries 0 --timeout 15 -c constraints.txt --index-url https://download.pytorch.org/whl/cpu torch
	$(INSTALL) -c constraints.txt torch -e '.[test]' -e ./gold
	touch $@

demo: .venv/ready  ## erase `weapon` from the built-in model and show it
	rm -rf out/demo
	$(BIN)/sgrace erase weapon --no-blur --out out/demo

format: .venv/ready  ## format the code and repair what the linter can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lint: .venv/ready  ## check style and formatting
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: .venv/ready  ## check types
	$(BIN)/mypy

test: lint  ## everything that CI checks
	@# the type check runs on one core: the tests start beside it
	@$(MAKE) --no-print-directory --jobs=2 types test-all

test-all: .venv/ready  ## the tests, without style and types
	$(TESTS)

test-fast: .venv/ready  ## the tests that take seconds, without style and types
	$(TESTS) -m "not slow"

older: .venv/ready  ## load what is saved with transformers 4, which is installed for this alone
	$(INSTALL) --no-deps --upgrade --target .venv/older \
		'transformers==4.57.1' 'huggingface_hub<1' 'tokenizers<0.23'
	$(BIN)/python -m tests.older .venv/older

oldest: .venv/ready  ## the tests that take seconds, with the oldest versions that are allowed
	$(BIN)/python -m tests.oldest .venv/oldest -m "not slow"

installs: .venv/ready  ## sdist and wheel in empty environments: PYTHONS="python3.11 python3.12 python3.13"
	$(BIN)/python -m tests.installs $(PYTHONS)

docs: .venv/ready  ## write the generated parts of the documents anew
	$(BIN)/python docs/tables.py

site: .venv/ready  ## build the documents as a site: out/site/index.html
	$(BIN)/python -m sphinx -W --keep-going -q -c docs . out/site

bench: .venv/ready  ## seconds and peak memory of two steps on models of full size
	$(BIN)/python benchmarks/full_size.py
