"""What was acknowledged outlives the database server. `make faults` kills it more often."""

import random

from tests.faults.killing import kill
from tests.faults.stage import Stage


async def test_nothing_acknowledged_is_lost_when_the_database_server_is_killed(
    stage: Stage,
) -> None:
    await kill(stage, 2, random.Random())
