# What each target does stands in CONTRIBUTING.md; `make` alone lists them.
# Needs Python >= 3.11 with venv, and make. Uses uv when it is on PATH, else pip.
# To choose: `make demo PYTHON=python3.12`, or `make demo UV=` for pip although uv is there.

PYTHON ?= python3
UV ?= $(shell command -v uv 2>/dev/null)
VENV := .venv
BIN := $(VENV)/bin

ifeq ($(UV),)
installer := pip
make_venv = $(PYTHON) -m venv $(VENV)
install := $(BIN)/python -m pip install -qq --disable-pip-version-check
# Dependency groups need pip 25.1; the pip that comes with Python 3.11 is older.
modern_pip = $(install) --upgrade "pip>=25.1"
else
installer := uv
make_venv = $(UV) venv --quiet --allow-existing --python "$$($(PYTHON) -c 'import sys; print(sys.executable)')" $(VENV)
install := $(UV) pip install --quiet --python $(BIN)/python
modern_pip = :
endif

# A file here says: installed, and pyproject.toml has not changed since.
ready := $(VENV)/.ready

define check_python
@command -v $(PYTHON) >/dev/null 2>&1 || { \
  echo "There is no $(PYTHON). Python 3.11 or later is needed: sudo apt install python3 python3-venv"; exit 1; }
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "$(PYTHON) is $$($(PYTHON) -V 2>&1), and 3.11 or later is needed."; \
  echo "If there is another one: make $(or $(MAKECMDGOALS),demo) PYTHON=python3.12"; exit 1; }
@test -n "$(UV)" || $(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { \
  echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: sudo apt install python3-venv"; \
  echo "(or install uv, which needs no such package: https://docs.astral.sh/uv)"; exit 1; }
endef

.DEFAULT_GOAL := help
.PHONY: help demo test nightly lint types docs notebooks bench clean

help:
	@echo "make demo      make .venv, then the pictures of examples/prompts.jsonl in demo-out: no key, no cost"
	@echo "make test      all tests but the slow ones"
	@echo "make nightly   the slow tests"
	@echo "make lint      style and format"
	@echo "make types     mypy --strict"
	@echo "make docs      build the pages into site/; any warning is an error"
	@echo "make notebooks run the notebooks of the pages, and keep what their cells show"
	@echo "make bench     what the library costs beside others, into docs/benchmarks.md"
	@echo "make clean     remove all that these commands made, .venv too"

demo: $(ready)-cli
	@$(BIN)/hinow batch examples/prompts.jsonl demo-out --sandbox
	@echo
	@echo "What to type next:"
	@echo "  xdg-open demo-out/images         the pictures (macOS: open)"
	@echo "  $(BIN)/hinow gallery demo-out     a page to look at them, with their prompts"
	@echo "  make demo                        again: what is there is not made again, nothing is paid twice"
	@echo "  make test                        the tests"
	@echo "  export HINOW_API_KEY=hi_...      a real key, and then:"
	@echo "  $(BIN)/hinow generate \"A lighthouse at dawn\" --out pictures"

test: $(ready)-test
	@$(BIN)/python -m pytest -q -m "not slow"

nightly: $(ready)-test
	@HINOW_MILLION=1 $(BIN)/python -m pytest -q -m slow

lint: $(ready)-lint
	@$(BIN)/ruff check --quiet .
	@$(BIN)/ruff format --check .

types: $(ready)-lint
	@$(BIN)/mypy

docs: $(ready)-docs
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict
	@echo "site/index.html"

notebooks: $(ready)-test
	@$(BIN)/python -W ignore docs/run_notebooks.py

bench: $(ready)-bench
	@$(BIN)/python -m benchmarks --write

clean:
	@rm -rf $(VENV) .make demo-out site dist .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@find . -name __pycache__ -type d -prune -exec rm -rf {} +

$(ready)-cli: pyproject.toml
	$(check_python)
	@echo "Installing hinow-async into $(VENV) with $(installer)$(if $(UV),, (a minute or so; uv would take seconds))"
	@$(make_venv)
	@$(install) --editable ".[cli]"
	@touch $@

$(ready)-%: pyproject.toml $(ready)-cli
	@echo "Installing what is needed for: $*"
	@$(modern_pip)
	@$(install) --group $*
	@touch $@
