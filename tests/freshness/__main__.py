"""`make freshness`: check a million answers, given while companies change and processes fail.

`ANSWERS` says how many, and `SEED` repeats the choices, as far as time allows.
"""

import asyncio
import os
import random
import sys

from rich.console import Console

from tests.freshness.proof import Scale, prove


def main() -> int:
    """Print what came of it, and return the exit status."""
    console = Console(stderr=True)
    seed = int(os.environ.get("SEED") or random.randrange(10**6))
    console.log(f"SEED={seed}")
    scale = Scale(int(os.environ.get("ANSWERS") or 1_000_000))
    proof = asyncio.run(prove(scale, random.Random(seed), console.log))
    console.log(f"{proof.answers:,} answers in {proof.seconds:.0f} s")
    for what in ("changes", "faults", "failures"):
        console.log(what, dict(getattr(proof, what)))
    for viewer, owner, violation in proof.violations[:20]:
        console.log(f"{viewer} was told about {owner}: {violation}")
    for leak in proof.leaks[:20]:
        console.log(f"a failure says: {leak}")
    console.log(f"{len(proof.violations)} violations, {len(proof.leaks)} leaks")
    return 1 if proof.violations or proof.leaks else 0


sys.exit(main())
