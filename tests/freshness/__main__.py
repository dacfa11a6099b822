"""`make freshness`: check a million answers, given while companies change and processes fail.

`ANSWERS` says how many. `SEED` repeats the choices, as far as time allows, and `FAULTS=no` lets nothing
fail. The exit status is 1 if an answer contradicts a change.
"""

import os
import random
import sys
from collections.abc import Mapping

import uvloop
from rich.console import Console

from tests.freshness.faults import KINDS
from tests.freshness.proof import Scale, prove


def main() -> int:
    """Print what came of it, and return the exit status."""
    console = Console(stderr=True, highlight=False, soft_wrap=True, log_path=False)
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(10**6))
    scale = Scale(
        int(os.environ.get("ANSWERS") or 1_000_000),
        faults=() if os.environ.get("FAULTS") == "no" else KINDS,
    )
    console.log(f"SEED={seed} ANSWERS={scale.answers}")
    proof = uvloop.run(prove(scale, random.Random(seed), console.log))
    answers = sum(proof.answers.values())
    console.log(
        f"{answers:,} answers in {proof.seconds:.0f} s, {answers / proof.seconds:,.0f} a second"
    )
    for what in ("answers", "changes", "faults", "failures"):
        console.log(f"{what}: {_counts(getattr(proof, what))}")
    for each in proof.wrong[:20]:
        console.log(each, markup=False)
    console.log(f"{len(proof.wrong)} violations, {proof.names} of them names")
    return 1 if proof.wrong else 0


def _counts(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{what} × {count:,}" for what, count in sorted(counts.items()))


sys.exit(main())
