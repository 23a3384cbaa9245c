"""The server in a simulated world (see simulation/), and the simulation itself: would it notice?"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from more import every, only_with_more
from simulation import table
from simulation.mutate import Mutation, caught
from simulation.mutations import MUTATIONS
from simulation.run import CLUSTERS, failure_of

ROOT = Path(__file__).parents[1]


def seeds(first: int, more: int) -> pytest.MarkDecorator:
    """The test tries the first seeds one by one, and more of them only with --more."""
    return pytest.mark.parametrize(
        "seeds", [range(first), only_with_more(range(first, more))], ids="first more".split()
    )


@seeds(30, 400)
def test_whatever_happens_the_oracle_is_content(seeds: range) -> None:
    for seed in seeds:
        failure, _ = failure_of(seed)
        assert not failure, f"{failure}\n`make simulate SEED={seed}` shows what happened"


@pytest.mark.skipif(not CLUSTERS, reason="hiredis is not installed")
@seeds(6, 100)
def test_whatever_happens_to_a_cluster_the_oracle_is_content(seeds: range) -> None:
    for seed in seeds:
        failure, _ = failure_of(seed, cluster=True)
        assert not failure, f"{failure}\n`python -m simulation --cluster --seed {seed}` shows what happened"


@seeds(4, 40)
def test_a_seed_repeats_exactly_in_any_process(seeds: range) -> None:
    program = (
        "from simulation.run import failure_of\n"
        f"for seed in {seeds}: history = []; failure_of(seed, history); print(*history, sep='\\n')"
    )
    digests = set()
    for hash_seed in "1", "2":
        environment = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}{os.pathsep}{ROOT / 'tests'}"}
        run = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, timeout=50)
        assert run.returncode == 0 and len(run.stdout) > 10_000, run.stderr.decode()
        digests.add(hashlib.sha256(run.stdout).hexdigest())
    assert len(digests) == 1


@seeds(8, 40)
def test_keeping_a_history_changes_nothing(seeds: range) -> None:
    for seed in seeds:
        assert failure_of(seed) == failure_of(seed, [])


SEEN = table.known()


# The list goes through the code file by file: every eighth of it is some of each kind. Only --more tries the others.
@pytest.mark.parametrize(
    "mutation",
    every(8, MUTATIONS),
    ids=lambda mutation: mutation.name.replace(" ", "-"),
)
def test_each_mutation_is_noticed(mutation: Mutation) -> None:
    seed, said = caught(mutation, [SEEN.get(mutation.name, 0), *range(table.SEEDS)])
    assert seed >= 0, f"{table.SEEDS} seeds did not notice it"
    assert not {"NameError", "SyntaxError"} & set(said.replace(":", " ").split()), "it never ran"
