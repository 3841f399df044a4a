# Everything installs into the active virtual environment, or into .venv, which is made when there is none.
ifdef VIRTUAL_ENV
VENV := $(VIRTUAL_ENV)
else
VENV := .venv
endif
PYTHON ?= python3
RUN := $(VENV)/bin
# Every version that is installed, those that builds from source need too; `make lock` renews them. Of the two variables
# an older pip reads the first, a newer one the second.
LOCK := constraints.lock
PIP := PIP_CONSTRAINT=$(LOCK) PIP_BUILD_CONSTRAINT=$(LOCK) $(RUN)/python -m pip install -q -c $(LOCK)
MARK := $(VENV)/.bmi_cdlm

.PHONY: demo docs docs-run docs-all wheel own-process test test-compiled test-interpreted test-hostile fuzz kill lint cuda-compiler lock oldest newest bench bench-against bench-history bench-national bench-peers bmi-test clean

demo: $(MARK)-demo
	$(RUN)/cdlm prepare cfg/lez.yaml
	$(RUN)/cdlm-train cfg/lez.yaml
	$(RUN)/python examples/step_bmi.py cfg/lez.yaml --parameters cfg/lez/lez.safetensors

# Files of tests, the longest first (tests/conftest.py), are handed out to this many processes: one more than a small
# machine has cores, since one or the other waits for a kernel that its neighbour compiles, or for a child. Bytecode is
# kept: without it every process of the tests reads all sources again.
WORKERS ?= 3
PYTEST = env -u PYTHONDONTWRITEBYTECODE $(RUN)/python -m pytest -q -n $(WORKERS) --dist loadfile --no-loadscope-reorder

test: test-compiled test-interpreted

test-compiled: $(MARK)-test
	$(PYTEST) -m "not benchmark and not hostile"

# A share of the hostile cases of `make fuzz` and of the kills of `make kill`; .ci/run has them, `make test` does not.
test-hostile: $(MARK)-test
	$(PYTEST) -m hostile tests/fuzz tests/kill

# What gives numbers by kernels, for every process, operator, precision and number of threads, in steps, blocks, parts of
# steps, restarts and gradients. What else there is runs once, above: it is the same code with or without the compiler
# (files, refusals, words), or interpreted there as well (dual numbers, the adjoints of scalar steps).
INTERPRETED := conservation model processes generator/test_generator.py \
	$(addprefix kernels/test_,again.py elementary.py graph.py lanes.py launch.py transcendental.py) \
	$(addprefix bmi/test_,bits.py cut_and_join.py given_fluxes.py halves.py reach_inflow.py restart_matrix.py) \
	$(addprefix run/test_,independent.py stepping.py waves.py) \
	$(addprefix training/test_,components.py lstm.py operators.py simulate.py)

test-interpreted: $(MARK)-test
	NUMBA_DISABLE_JIT=1 $(PYTEST) -m "not slow and not benchmark and not hostile" $(addprefix tests/,$(INTERPRETED)) \
	--ignore tests/processes/test_declared.py --ignore tests/processes/test_own_process.py

# Processes of another package, installed as a user would: listed, run and trained on the Lez.
own-process: $(MARK)-test
	$(RUN)/cdlm processes
	mkdir -p build/own-process && sed 's/^snow:.*//; s/^time_step:/runoff: nonlinear_reservoir\nrouting: nonlinear_reach\ntime_step:/' cfg/lez.yaml > build/own-process/lez.yaml
	$(RUN)/cdlm prepare build/own-process/lez.yaml --no-map
	$(RUN)/cdlm run build/own-process/lez.yaml --quiet
	$(RUN)/cdlm-train build/own-process/lez.yaml

# 10,000 hostile cases, classes by outcomes; 200 kills at random moments. Cases that fail are kept in build/.
fuzz: $(MARK)-test
	$(RUN)/python tests/fuzz/run.py --cases 10000 --keep build/fuzz

kill: $(MARK)-test
	$(RUN)/python tests/kill/kill.py --kills 200

lint: $(MARK)-test
	$(RUN)/ruff check .
	$(RUN)/mypy
	$(RUN)/lint-imports

# NVIDIA's compiler, which needs no device; where it cannot be installed, the tests that use it are skipped.
cuda-compiler: $(MARK)-test
	-$(PIP) -c constraints-cuda.lock -e ".[gpu-cu13]"

# The newest versions that constraints.txt allows, of everything: three files, to be committed.
lock: | $(RUN)/python
	$(RUN)/python .ci/lock.py

# The tests with the oldest versions that pyproject.toml allows, and what has come out since the lock; each in an
# environment of its own under build/.
oldest newest:
	PYTHON="$(PYTHON)" .ci/$@

# The site, into build/site; a warning is an error, links within it included. docs-run executes what its pages and the
# README show, docs-all the long ones too.
docs: $(MARK)-docs
	$(RUN)/python -m sphinx -q -W --keep-going -n -b html docs build/site

docs-run: $(MARK)-docs
	$(RUN)/python docs/run.py

docs-all: $(MARK)-docs
	$(RUN)/python docs/run.py --long

# Source and wheel, checked, and installed into an environment that has nothing else and knows no checkout.
wheel: $(MARK)-docs
	PYTHON="$(RUN)/python" .ci/wheel

bench: $(MARK)-test
	$(RUN)/python benchmarks/forward.py
	$(RUN)/python benchmarks/gradient.py
	$(RUN)/python benchmarks/bmi.py

# This working tree against a commit: make bench-against AGAINST=0a10580 OPTIONS="--rows bmi"
AGAINST ?= HEAD
bench-against: $(MARK)-test
	$(RUN)/python benchmarks/against.py $(AGAINST) $(OPTIONS)

# Results that `against.py --json` wrote into a folder, drawn over time.
HISTORY ?= build/bench
bench-history: $(MARK)-test
	$(RUN)/python benchmarks/history.py $(HISTORY)

bench-national: $(MARK)-test
	$(RUN)/python benchmarks/national.py year
	$(RUN)/python benchmarks/national.py decades
	$(RUN)/python benchmarks/national.py threads
	$(RUN)/python benchmarks/national.py growth --to benchmarks/national.png
	$(RUN)/python benchmarks/generators.py

bench-peers: $(MARK)-peers
	$(RUN)/python benchmarks/peers/compare.py

# bmi-tester's own conftest lies outside the project; the folder it copies must hold plain files only.
bmi-test: $(MARK)-test
	$(RUN)/cdlm prepare cfg/lez.yaml
	mkdir -p build/bmi-test && cp cfg/lez.yaml build/bmi-test
	PYTEST_ADDOPTS="-c '$(CURDIR)/tests/bmi/bmi_tester/pytest.ini' --confcutdir=/ -p no:benchmark -p no:cacheprovider" \
	$(RUN)/bmi-test bmi_cdlm:BmiCdlm --config-file $(CURDIR)/cfg/lez.yaml --root-dir $(CURDIR)/build/bmi-test

$(MARK)-demo: pyproject.toml $(LOCK) | $(RUN)/python
	$(PIP) -e ".[train,plot,examples]"
	touch $@

$(MARK)-test: pyproject.toml $(LOCK) | $(RUN)/python
	$(PIP) -e ".[train,plot,examples,prepare,zarr,grib,distributed,dev]"
	$(PIP) --no-deps -e examples/own_process
	touch $@

$(MARK)-docs: $(MARK)-test
	$(PIP) -e ".[docs,release]"
	touch $@

# A peer that cannot be installed is left out of the table; pip says why.
$(MARK)-peers: $(MARK)-test
	-$(PIP) -e ".[peers]"
	touch $@

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

clean:
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache cfg/lez cfg/cance cfg/gripe
