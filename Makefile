# Two commands: `make tune` and `make test`. Both make the environment first, in .venv, and skip what is installed. With
# BIN=FOLDER they use the python that is there, and install nothing: for a machine without network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: tune test test-all records-cpu records-gpu chaos cluster-demo screenshots lint audit format install clean

tune: install
	$(BIN)/python -m oneshot.tune $(JOB) $(ARGS)

# Two files of tests at a time: much of a test of Ray is waiting. Threads that wait for each other leave the cores to them,
# and numpy's small products have one: its second waits for a core at each.
PYTEST := OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(or $(PROCESSES),2) --dist loadfile

test: install
	$(PYTEST) $(ARGS)

test-all: install
	$(PYTEST) -m "long or not long" $(ARGS)

SEEDS ?= 1..5

# A row of README's ladder: a training a seed, each judged once. The same again goes on.
records-cpu: install
	$(BIN)/python -m oneshot.repeat $(or $(JOB),cpu5) --seeds $(SEEDS) --device cpu $(ARGS)
	$(BIN)/python -m oneshot.record

MINUTES ?= 25
DEVICE ?= cuda

# The rows that need a GPU, in so many minutes of its time: what is over is not run again, what is not goes on next time.
# The search is broken off as by Ctrl-C: --max-time would have its best so far judged, and the test alphabets touched twice.
# Without network: make records-gpu BIN=/opt/torch/.venv/bin
records-gpu: install
	end=$$(( $$(date +%s) / 60 + $(MINUTES) )) && \
	$(BIN)/python -m oneshot.repeat best-all koch-gpu --seeds $(SEEDS) --device $(DEVICE) --minutes $(MINUTES) $(ARGS) && \
	left=$$(( end - $$(date +%s) / 60 )) && \
	if [ $$left -lt 2 ]; then echo "the time is over; the same again goes on"; exit 1; fi && \
	timeout --foreground --kill-after=1m $${left}m $(BIN)/python -m oneshot.tune gpu --run runs/records/gpu $(ARGS) && \
	$(BIN)/python -m oneshot.record runs/records/gpu

# A token-protected Ray head on this machine, a study submitted to it as a job; see cluster/README.md.
cluster-demo: install
	$(BIN)/python cluster/demo.py $(JOB) $(ARGS)

SECONDS ?= 1800
SEED ?= 1

# Faults at random times against one small study after another, for so many seconds; the record is what README shows.
chaos: install
	PYTHONPATH=tests $(BIN)/python tests/faults/chaos.py --seconds $(SECONDS) --seed $(SEED) $(ARGS)

# README's pictures of the terminal, and its tables, from the records in tune_jobs/records/.
screenshots: install
	$(BIN)/python -m oneshot.record

lint: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck .ci/run cluster/slurm.sbatch
	$(BIN)/hadolint cluster/Dockerfile

# Known vulnerabilities of what constraints.txt names, in an environment of its own. It asks pypi.org; --strict: a package
# that could not be looked up is a failure, too.
audit:
	test -x $(VENV)-audit/bin/pip-audit || ($(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet pip-audit==2.10.1)
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

format: install
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(if $(filter command,$(origin BIN)),,$(READY))

# Made again when what is asked for changes. The constraints name exact versions; pip takes the build of torch that fits
# the machine's registry: the CUDA build where that is the usual one.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "error: Python 3.11 or newer is needed, this is %s; name one: make PYTHON=python3.11" % sys.version.split()[0])'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean:
	rm -rf $(VENV) $(VENV)-audit build dist *.egg-info .pytest_cache .ruff_cache
