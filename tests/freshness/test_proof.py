"""No answer contradicts a change that was acknowledged before, on any process, whatever fails."""

import random

from tests.freshness.proof import FAULTS, Scale, prove


async def test_no_answer_contradicts_a_change_acknowledged_before_whatever_fails() -> None:
    seed = random.randrange(10**6)
    proof = await prove(Scale(100_000, many=0.6), random.Random(seed))
    assert proof.violations == [], f"SEED={seed}"
    assert proof.leaks == []
    assert proof.changes.keys() == {
        "verify", "lapse", "supersede", "rename", "suspend", "reinstate", "connect", "disconnect",
        "grant", "revoke",
    }  # fmt: skip
    assert proof.faults.keys() == set(FAULTS)
    answers = {what for what in proof.failures if what.isdigit()}
    assert answers <= {"429", "503"}
