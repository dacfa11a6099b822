"""No answer contradicts a change that was acknowledged before, on any process, whatever fails."""

import random
import sys

from tests.freshness import changes, faults
from tests.freshness.proof import Scale, prove


async def test_no_answer_contradicts_a_change_acknowledged_before_whatever_fails() -> None:
    seed = random.randrange(10**6)
    sys.stderr.write(f"{seed=}\n")
    proof = await prove(Scale(100_000), random.Random(seed), lambda text: None)
    assert not proof.wrong, "\n".join(proof.wrong)
    assert proof.changes.keys() == changes.KINDS
    assert proof.faults.keys() == set(faults.KINDS)
