"""`make freshness`: check a million answers, given while companies change and processes fail.

`ANSWERS` says how many. `SEED` repeats the choices, as far as time allows, and `FAULTS=no` lets nothing
fail. The exit status is 1 if an answer contradicts a change.
"""

import os
import random
import sys
import time
from collections.abc import Mapping

import uvloop

from tests.freshness.faults import KINDS
from tests.freshness.proof import Scale, prove


def main() -> int:
    """Print what came of it, and return the exit status."""
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.1f}  {text}\n")

    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    scale = Scale(
        int(os.environ.get("ANSWERS") or 1_000_000),
        faults=() if os.environ.get("FAULTS") == "no" else KINDS,
    )
    say(f"SEED={seed} ANSWERS={scale.answers}")
    proof = uvloop.run(prove(scale, random.Random(seed), say))
    answers = sum(proof.answers.values())
    say(f"{answers:,} answers in {proof.seconds:.0f} s, {answers / proof.seconds:,.0f} a second")
    for what in ("answers", "changes", "faults", "failures"):
        say(f"{what}: {_counts(getattr(proof, what))}")
    for each in proof.wrong[:20]:
        say(each)
    say(f"{len(proof.wrong)} violations, {proof.names} of them names")
    return 1 if proof.wrong else 0


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} × {count:,}" for what, count in sorted(counts.items()))


sys.exit(main())
