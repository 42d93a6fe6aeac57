# Two commands: `make tune` and `make test`. Both first make the environment in .venv, and skip what is installed. With
# BIN=FOLDER they use the python in that folder and install nothing: for a machine without network.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

.PHONY: help tune test test-all records-cpu records-gpu chaos cluster-demo screenshots lint audit format install clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/make \1\t\2/p' $(firstword $(MAKEFILE_LIST)) | expand -t 20

tune: install ## Search and judge: the main job, or JOB=koch; ARGS="--set search.trials=20" passes options on
	$(BIN)/python -m oneshot.tune $(JOB) $(ARGS)

# Two test files at a time: tests of Ray mostly wait. OpenMP threads that wait leave the cores free. numpy's products
# are small and get one thread: a second one would wait for a core at each.
PYTEST := OMP_WAIT_POLICY=passive OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses $(or $(PROCESSES),2) --dist loadfile

test: install ## The tests; ARGS=tests/data/test_pairs.py runs one file
	$(PYTEST) $(ARGS)

test-all: install ## Also the tests that take minutes
	$(PYTEST) -m "long or not long" $(ARGS)

SEEDS ?= 1..5

# A row of README's ladder: one training per seed, each judged once. Called again, it resumes.
records-cpu: install ## A row of README's ladder on CPU: JOB=cpu5 SEEDS=1..5
	$(BIN)/python -m oneshot.repeat $(or $(JOB),cpu5) --seeds $(SEEDS) --device cpu $(ARGS)
	$(BIN)/python -m oneshot.record

MINUTES ?= 25
DEVICE ?= cuda

# The rows that need a GPU, in MINUTES of its time: finished work is not run again, the rest resumes next time.
# A judgement begun in time may end later: if everything is killed at a limit, set MINUTES two below it.
# The search is interrupted as by Ctrl-C: --max-time would judge its best so far, and touch the test alphabets twice.
# Without network: make records-gpu BIN=/opt/torch/.venv/bin
records-gpu: install ## The rows of the ladder that need a GPU: MINUTES=25
	end=$$(( $$(date +%s) + 60 * $(MINUTES) )) && \
	$(BIN)/python -m oneshot.repeat best-all koch-gpu --seeds $(SEEDS) --device $(DEVICE) --minutes $(MINUTES) $(ARGS) && \
	left=$$(( end - 60 - $$(date +%s) )) && \
	if [ $$left -lt 60 ]; then echo "the time is over; run the same command again to continue"; exit 1; fi && \
	timeout --foreground --kill-after=1m $$left $(BIN)/python -m oneshot.tune gpu --run runs/records/gpu $(ARGS) && \
	$(BIN)/python -m oneshot.record runs/records/gpu

# A token-protected Ray head on this machine, and a study submitted to it as a job; see cluster/README.md.
cluster-demo: install ## A Ray cluster on this machine and a study submitted to it
	$(BIN)/python cluster/demo.py $(JOB) $(ARGS)

SECONDS ?= 1800
SEED ?= 1

# Faults at random times in one small study after another, for SECONDS; the records' README shows what came of it.
chaos: install ## Faults at random times for SECONDS=1800; the record is kept
	PYTHONPATH=tests $(BIN)/python tests/faults/chaos.py --seconds $(SECONDS) --seed $(SEED) $(ARGS)

# README's pictures of the terminal, and its tables, from the records in tune_jobs/records/.
screenshots: install ## Tables and pictures of the pages, from the records
	$(BIN)/python -m oneshot.record

lint: install ## Ruff, shellcheck, hadolint
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/shellcheck .ci/run cluster/slurm.sbatch
	$(BIN)/hadolint cluster/Dockerfile

# Known vulnerabilities of what constraints.txt names, in an environment of its own. It asks pypi.org; --strict: a package
# that could not be looked up is a failure too.
audit: ## Known vulnerabilities of the pinned packages; asks pypi.org
	test -x $(VENV)-audit/bin/pip-audit || ($(PYTHON) -m venv $(VENV)-audit && $(VENV)-audit/bin/pip install --quiet pip-audit==2.10.1)
	$(VENV)-audit/bin/pip-audit --strict --no-deps --disable-pip --requirement constraints.txt

format: install ## Ruff fixes what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(if $(filter command,$(origin BIN)),,$(READY)) ## The environment alone, in .venv

# Made again when the requirements change. The constraints pin exact versions; pip takes the build of torch that the
# machine's package index has: the CUDA build if that is its usual one.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if (3, 11) <= sys.version_info < (3, 15) else "error: Python 3.11 to 3.14 is needed, this is %s; name one: make PYTHON=python3.11" % sys.version.split()[0])'
	test -x $(BIN)/pip || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	touch $(READY)

clean: ## Remove the environment and what was built
	rm -rf $(VENV) $(VENV)-audit build dist *.egg-info .pytest_cache .ruff_cache
