"""Which seed notices which mutation: `make mutate` tries all of them, and writes mutations.txt anew.

That seed is tried first, here and in the tests. After a change of the simulation a seed means something else: if it
no longer notices its mutation, that costs a search.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
import time
from pathlib import Path

from .mutate import broken
from .mutations import MUTATIONS

PATH = Path(__file__).with_name("mutations.txt")
SEEDS = 2000  # one of so many has to notice
DEAR = 0.3  # seconds of the processor's time: another seed may be cheaper


def known() -> dict[str, int]:
    """The seed that noticed each mutation when the table was written."""
    rows = [line.split(maxsplit=1) for line in PATH.read_text(encoding="utf-8").splitlines()[1:]]
    return {rest.partition("  ")[0]: int(seed) for seed, rest in rows}


def search(number: int) -> tuple[int, str]:
    """A seed that notices this mutation at little cost, or else the first one found; and what the oracle says."""
    mutation = MUTATIONS[number]
    found, left = (-1, "was not noticed"), SEEDS
    with broken(mutation) as failure_of:
        for seed in known().get(mutation.name, 0), *range(SEEDS):
            began = time.process_time()
            failure, _ = failure_of(seed)
            if failure and time.process_time() - began < DEAR:
                return seed, failure
            if failure and found[0] < 0:
                found, left = (seed, failure), 20
            left -= 1
            if left < 0:
                break
    return found


def main() -> int:
    wide = max(len(mutation.name) for mutation in MUTATIONS)
    lines = [f"seed  {'mutation':{wide}}  what the oracle says"]
    print(*lines)
    unseen = 0
    with multiprocessing.Pool(os.cpu_count()) as pool:
        for mutation, (seed, said) in zip(MUTATIONS, pool.imap(search, range(len(MUTATIONS)))):
            lines.append(f"{seed:4}  {mutation.name:{wide}}  {said.splitlines()[0][:100]}")
            print(lines[-1], flush=True)
            unseen += seed < 0
    PATH.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return 1 if unseen else 0


if __name__ == "__main__":
    sys.exit(main())
