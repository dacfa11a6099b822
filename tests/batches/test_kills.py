"""Killed processes change nothing about results. `make kills` does this for longer."""

import random
import sys
from pathlib import Path

from tests.batches.killing import Scale, check_while_killing, scene_of

# Rows so long that there are several parts and several groups of them. All heartbeats are made old,
# so that nobody waits half a minute for what a killed worker had picked.
SCALE = Scale(
    rows=2000, kills=3, workers=1, hosts=30, certificates=300, note=2000, waits=False,
    kills_of={"uploading": 1, "reading": 1, "answering": 1}, formats=("csv",),
)  # fmt: skip


async def test_results_are_the_same_whatever_is_killed(tmp_path: Path) -> None:
    seed = random.randrange(10**6)

    def say(text: str) -> None:
        sys.stderr.write(f"{text}\n")

    say(f"{seed=}")
    async with scene_of(tmp_path, SCALE, seed, say) as (scene, caller, reference):
        await check_while_killing(scene, caller, reference)
        assert scene.killed
