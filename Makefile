# Everything installs what it needs into .venv, from pyproject.toml. A new pyproject.toml installs anew.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

help:
	@echo "make run        the server on port 3100 (FLAGS='--port 4000 ...' for more)"
	@echo "make test       the tests: pytest, and the assignment's own (python test.py)"
	@echo "make check      ruff, mypy --strict, then make test"
	@echo "make soak       a long run under a random crowd (MINUTES=10)"
	@echo "make bench      compare with others: half an hour, or 3 minutes with QUICK=1; tables, JSON and charts"
	@echo "make sweep      how the server grows with clients, rate and size, drawn"
	@echo "make simulate   the server in a simulated world (SEEDS=10000; SEED=123 shows one)"
	@echo "make clean      remove what the others made"

run:
	./chatsrv $(FLAGS)

test: $(VENV)/installed
	$(BIN)/python -m pytest
	$(BIN)/python test.py

simulate: $(VENV)/installed
	PYTHONPATH=.:tests $(BIN)/python -m simulation $(if $(SEED),--seed $(SEED),--seeds $(or $(SEEDS),1000))

check: $(VENV)/installed
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(MAKE) test

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

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help run test check simulate soak bench sweep clean
