# The commands of this project. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
BUILD := $(BIN)/jupyter-book build . -W -n --keep-going
# Where JupyterLab, its kernels and Matplotlib keep their files, instead of the home folder.
LAB := $(CURDIR)/_build/lab
SERVE = exec env -u LQRLIB_STATIC JUPYTER_CONFIG_DIR=$(LAB) JUPYTER_DATA_DIR=$(LAB)/data \
	IPYTHONDIR=$(LAB)/ipython MPLCONFIGDIR=$(LAB)/matplotlib
# One BLAS thread: on matrices this small more threads only get in each other's way.
export OPENBLAS_NUM_THREADS := 1
# Two `make` at once do not install into one environment: the second waits.
ALONE := -c 'import fcntl, subprocess, sys; lock = open("Makefile"); \
	fcntl.flock(lock, fcntl.LOCK_EX); sys.exit(subprocess.call(sys.argv[1:]))'
define install
@$(PYTHON) $(ALONE) $(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(1) || \
{ echo "pip could not install what $(1) names: see above. The first time this needs a network."; exit 1; }
@touch $@
endef

.DEFAULT_GOAL := help
.PHONY: help book chapter live lab record test bench agents check coverage browser clean

help: ## list these commands
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

book: $(VENV)/book.stamp ## build the book into _build/html, with warnings as errors
	@start=$$(date +%s); $(BUILD) && \
	echo "Built in $$(($$(date +%s) - start)) s. Open file://$(CURDIR)/_build/html/book/index.html"

chapter: $(VENV)/book.stamp ## run the cells of one chapter only: make chapter F=book/known_world.md
	@test -f "$(F)" || { echo "Name a chapter: make chapter F=book/known_world.md"; exit 2; }
	@LQRBOOK_CHAPTER="$(F)" $(BIN)/jupyter-book build . --keep-going --path-output _build/chapter && \
	echo "Open file://$(CURDIR)/_build/chapter/_build/html/$(basename $(F)).html"

live: $(VENV)/live.stamp ## open the built book with a server that runs its cells: make live ARGS=--no-browser
	@test -f _build/html/book/index.html || $(MAKE) book
	@$(SERVE) $(BIN)/jupyter-server --config=book/_live/jupyter_live_config.py $(ARGS)

lab: $(VENV)/live.stamp ## open the chapters in JupyterLab: make lab ARGS="--no-browser --port=9999"
	@$(SERVE) $(BIN)/jupyter-lab --config=book/_lab/jupyter_lab_config.py $(ARGS)

record: $(VENV)/book.stamp ## run the long studies again: make record, or make record S=law
	$(BIN)/python -m lqrlib.studies book/records $(S)

test: book $(VENV)/test.stamp ## build the book, then run every test: unit, property, book, browser
	$(BIN)/pytest -n auto --dist loadfile

bench: $(VENV)/bench.stamp ## time the library beside JAX, PyTorch, SciPy, Gymnasium: a table of the book
	$(BIN)/python -m pytest benchmarks --benchmark-json=_build/benchmarks.json --benchmark-disable-gc -q --no-header
	$(BIN)/python -m benchmarks.table _build/benchmarks.json book/records/benchmarks.json

agents: $(VENV)/agents.stamp ## train Stable-Baselines3's SAC and PPO again, for the book's page on SAC
	$(BIN)/python -m pytest -q tests/test_envs.py -k stable_baselines
	$(BIN)/python -m benchmarks.agents book/records/agents.json

check: $(VENV)/test.stamp ## lint, types and unit tests; no build, no browser
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/pytest -q -n auto --dist loadfile -m "not book and not browser"

coverage: $(VENV)/test.stamp ## run the unit tests, and list the lines of lqrlib that none of them runs
	$(BIN)/pytest -q -n auto --dist loadfile -m "not book and not browser" \
	--cov=lqrlib --cov-branch --cov-report=term-missing:skip-covered

browser: $(VENV)/test.stamp ## download Playwright's own Chromium, where no browser is installed
	$(BIN)/playwright install chromium

clean: ## remove all that was built, the environment included
	rm -rf _build $(VENV) *.egg-info .pytest_cache .hypothesis .mypy_cache .ruff_cache

# pip is the last that comes into a new environment: with it, none is half made.
$(BIN)/pip:
	@command -v $(PYTHON) >/dev/null || { echo "No $(PYTHON) found. The book needs Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	{ echo "$$($(PYTHON) --version 2>&1) is too old. The book needs Python 3.11 or newer: make PYTHON=/path/to/python"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	{ echo "$(PYTHON) lacks the venv module (on Debian: apt install python3-venv)."; exit 1; }
	@$(PYTHON) $(ALONE) sh -c 'test -x $@ || $(PYTHON) -m venv $(VENV)'

$(VENV)/book.stamp: requirements.txt requirements/constraints.txt pyproject.toml | $(BIN)/pip
	$(call install,requirements.txt)

$(VENV)/live.stamp: $(VENV)/book.stamp requirements/live.txt
	$(call install,requirements/live.txt)

$(VENV)/test.stamp: $(VENV)/live.stamp requirements/test.txt
	$(call install,requirements/test.txt)

$(VENV)/bench.stamp: $(VENV)/test.stamp requirements/bench.txt
	$(call install,requirements/bench.txt)

$(VENV)/agents.stamp: $(VENV)/test.stamp requirements/agents.txt
	$(call install,requirements/agents.txt)
