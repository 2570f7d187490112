# make run    a virtual environment, the packages, then the app on http://127.0.0.1:7860 (PORT=... changes it;
#             TRAIN=0 leaves out what only training needs)
# make test   the same, then lint, types and every test, a real browser included
# Other targets: check (lint, format, types), test-all (the long tests too), bench (every measurement, quick), clean.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PORT ?= 7860
# Tests run in so many processes at the same time.
TEST_PROCESSES ?= 2
export PORT
export GRADIO_ANALYTICS_ENABLED = False

.PHONY: run test test-all bench check format browser clean

run: $(VENV)/train.done
	@echo "== starting the app; stop it with Ctrl-C"
	@$(BIN)/python app.py

test: $(VENV)/dev.done browser check
	@echo "== tests"
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --durations=25

test-all: $(VENV)/dev.done browser check
	@echo "== tests, the long ones too"
	@$(BIN)/python -m pytest -n $(TEST_PROCESSES) --dist loadfile --no-loadscope-reorder --durations=25 -m "long or not long"

bench: $(VENV)/dev.done
	@for name in start tiny library train export judge engine coverage; do \
		echo "== python -m bench.$$name --quick"; $(BIN)/python -m bench.$$name --quick || exit 1; done

check: $(VENV)/dev.done
	@echo "== lint, format, types"
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy

format: $(VENV)/dev.done
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

# A stamp per set of packages: it is made again only when its list changes.
$(VENV)/bin/python:
	@echo "== making a virtual environment in $(VENV)"
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11, 3.12 or 3.13 is needed; this is " + sys.version.split()[0] + ". Say which to use: make run PYTHON=python3.12" if not (3, 11) <= sys.version_info[:2] <= (3, 13) else 0)'
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --upgrade pip

$(VENV)/run.done: requirements.txt | $(VENV)/bin/python
	@sh tools/compiler.sh
	@echo "== installing the app's packages; llama.cpp is compiled, which takes about 5 minutes on 2 cores"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements.txt
	@touch $@

# TRAIN=0 leaves training out: chat, compare and the library need a fifth of the room.
ifeq ($(TRAIN),0)
$(VENV)/train.done: $(VENV)/run.done
else
$(VENV)/train.done: requirements-train.txt $(VENV)/run.done
	@echo "== installing what training needs"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-train.txt
	@touch $@
endif

$(VENV)/dev.done: requirements-dev.txt $(VENV)/train.done
	@echo "== installing what the tests need"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	@touch $@

browser:
	@sh tools/browser.sh

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
