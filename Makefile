PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test

.venv/ready: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	# the CPU build is smaller by gigabytes where its index can be reached; elsewhere the second line takes what pip offers
	-$(BIN)/pip install --quiet --disable-pip-version-check --retries 0 --timeout 15 -c constraints.txt \
		--index-url https://download.pytorch.org/whl/cpu torch
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt torch -e '.[test]'
	touch $@

demo: .venv/ready  ## erase `weapon` from the built-in model and show it
	rm -rf out/demo
	$(BIN)/sgrace erase weapon --out out/demo

test: .venv/ready  ## everything that CI checks
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest

