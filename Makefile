# Everything installs what it needs into .venv, from pyproject.toml; a new pyproject.toml installs anew. Another PYTHON
# (make check PYTHON=python3.13) has a folder of its own.

PYTHON ?= python3
VENV := .venv$(if $(filter-out python3,$(PYTHON)),-$(notdir $(PYTHON)))
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

help:
	@echo "make run        the server on port 3100 (FLAGS='--port 4000 ...' for more)"
	@echo "make test       all tests, with test.py, which tries a server from outside"
	@echo "                FAST=1 leaves out what takes long; JOBS=6 run at the same time, as some only wait (2 with FAST)"
	@echo "make check      ruff, mypy --strict, then make test with more seeds, more examples and all mutations"
	@echo "make coverage   which lines and branches of loop/ and chat/ the tests reach"
	@echo "make mutate     the server broken in many ways, and which simulated run notices: a table"
	@echo "make soak       a long run under a random crowd (MINUTES=10)"
	@echo "make bench      compare with others: half an hour, or a few minutes with QUICK=1; tables, JSON and charts"
	@echo "make sweep      how the server grows with clients, rate and size, drawn"
	@echo "make simulate   the server in a simulated world (SEEDS=10000; SEED=123 shows one, CHART=FILE.svg draws it)"
	@echo "make pictures   draw the pictures in README.md and NOTES.md anew (NAME=turn for one of them)"
	@echo "make zipapp     chatsrv.pyz and chatclient.pyz: each one file that runs anywhere"
	@echo "make man        man pages and completion for bash (TO=/usr/local)"
	@echo "make clean      remove what the others made"

run:
	./chatsrv $(FLAGS)

# A plugin of Hypothesis would import trio, which takes each worker a while.
test: export HYPOTHESIS_NO_PLUGINS = 1
test: $(VENV)/installed
	$(BIN)/python -m pytest -n $(or $(JOBS),$(if $(FAST),2,6)) --dist worksteal $(if $(FAST),--fast) $(if $(MORE),--more)

# Tests of what is imported and how long things take may fail while they are measured; the figures are right all the same.
coverage: $(VENV)/installed
	$(BIN)/coverage erase
	-$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

mutate: $(VENV)/installed
	PYTHONPATH=.:tests $(BIN)/python -m simulation.table

simulate: $(VENV)/installed
	PYTHONPATH=.:tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED) $(and $(CHART),--chart $(CHART)),--seeds $(or $(SEEDS),1000))

pictures: $(VENV)/installed
	PYTHONPATH=.:tests $(BIN)/python -m drawing $(NAME)

check: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(MAKE) test MORE=1

soak: $(VENV)/installed
	PYTHONPATH=. $(BIN)/python tests/soak.py --minutes $(or $(MINUTES),10) $(and $(SEED),--seed $(SEED))

$(VENV)/installed: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(PIP) --upgrade "pip>=25.1"
	$(PIP) --group check
	touch $@

# On a machine that does nothing else: the server needs one core for itself and the load another.
bench: $(VENV)/bench
	$(BIN)/python -m tests.bench $(if $(QUICK),--quick)
	$(BIN)/python -m tests.bench.cluster $(if $(QUICK),--rounds 1 --seconds 1)

sweep: $(VENV)/bench
	$(BIN)/python -m tests.bench sweep

$(VENV)/bench: $(VENV)/installed
	$(PIP) --group bench
	touch $@

# Compiled for $(PYTHON); others take the source that is beside it.
zipapp:
	for program in chatsrv chatclient; do \
		folder=$$(mktemp -d) && mkdir -p $(or $(TO),.) && \
		cp $$program $$folder/__main__.py && cp -R loop chat $$folder && \
		find $$folder -name __pycache__ -prune -exec rm -rf {} + && \
		$(PYTHON) -m compileall -q -b $$folder/loop $$folder/chat && \
		$(PYTHON) -m zipapp --compress --python "/usr/bin/env python3" --output $(or $(TO),.)/$$program.pyz $$folder && \
		chmod 755 $(or $(TO),.)/$$program.pyz && rm -rf $$folder || exit 1; \
	done

man: $(VENV)/installed
	$(BIN)/python tests/manual.py $(or $(TO),/usr/local)

clean:
	rm -rf .venv* .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage* chatsrv.pyz chatclient.pyz
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help run test coverage mutate check simulate pictures soak bench sweep zipapp man clean
