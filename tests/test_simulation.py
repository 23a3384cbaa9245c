"""The server in a simulated world (see simulation/), and the simulation itself: would it notice?"""

from __future__ import annotations

from collections import Counter

import pytest
from simulation.run import failure_of

SEEDS = 400


def test_whatever_happens_the_oracle_is_content() -> None:
    for seed in range(SEEDS):
        failure, _ = failure_of(seed)
        assert not failure, f"{failure}\nmake simulate SEED={seed} shows what happened"


@pytest.mark.parametrize("seed", range(5))
def test_a_seed_repeats_exactly(seed: int) -> None:
    histories: list[list[str]] = [[], []]
    hits: list[Counter[str]] = [failure_of(seed, history)[1] for history in histories]
    assert histories[0] == histories[1]
    assert hits[0] == hits[1] == failure_of(seed)[1], "keeping a history changes what happens"
