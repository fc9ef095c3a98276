# `make demo` and `make test` set up `.venv` once and then run; both need Python 3.11+ and make only.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The tested versions: of JAX 0.10 for Python 3.11, of JAX 0.12 for any newer one.
CONSTRAINTS = constraints/$$($(BIN)/python -c \
  "import sys; print('oldest' if sys.version_info < (3, 12) else 'newest')").txt

ifneq ($(words $(VENV)),1)
$(error VENV=$(VENV) must be one path without spaces)
endif

# A Python that was named must be the one in the environment that is already there.
ifneq ($(origin PYTHON),file)
ifneq ($(wildcard $(BIN)/python),)
ifneq ($(MAKECMDGOALS),clean)
version = $(shell $(1) -c "import sys; print('%d.%d' % sys.version_info[:2])")
ifneq ($(call version,$(PYTHON)),$(call version,$(BIN)/python))
$(error $(VENV) holds Python $(call version,$(BIN)/python), and PYTHON=$(PYTHON) is another: `make clean` first, or name a second environment with VENV=)
endif
endif
endif
endif

.PHONY: demo test lint docs clean

demo: $(VENV)/.core
	$(BIN)/python run.py --config=configs/digits_rigl.py --sweep=demo --workdir=runs/demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest --numprocesses=auto --maxprocesses=4 --dist=loadfile \
	  --no-loadscope-reorder $(PYTEST)

lint: $(VENV)/.dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

# Strict: a link, an anchor or a name in a docstring that leads nowhere is an error.
docs: $(VENV)/.docs
	rm -rf build/docs
	$(BIN)/python -m sphinx -W --keep-going -n -q -c docs . build/docs
	@echo "The documentation is in build/docs/index.html"

$(VENV)/.core: pyproject.toml constraints/oldest.txt constraints/newest.txt
	$(PYTHON) -c "import sys; sys.exit(sys.version_info < (3, 11) and 'Python 3.11 or newer is needed; name one with PYTHON=')"
	@test ! -e $(VENV) || test -f $(VENV)/pyvenv.cfg || test -z "$$(ls -A $(VENV))" || \
	  { echo "VENV=$(VENV) is no environment of Python, and not empty: name another" >&2; exit 1; }
	$(BIN)/python -m pip --version > /dev/null 2>&1 || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e .
	touch $@

$(VENV)/.dev: $(VENV)/.core
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[dev,tf]'
	touch $@

$(VENV)/.docs: $(VENV)/.core
	$(BIN)/python -m pip install --quiet -c $(CONSTRAINTS) -e '.[docs]'
	touch $@

# The environment alone: what was trained stays.
clean:
	@test ! -e $(VENV) || test -f $(VENV)/pyvenv.cfg || \
	  { echo "VENV=$(VENV) is no environment of Python: nothing is deleted" >&2; exit 1; }
	rm -rf $(VENV)
