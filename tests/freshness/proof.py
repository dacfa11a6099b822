"""Let companies change while clients ask and processes fail, and check every answer.

Four server processes of `confirmed-owner run` answer from one database.
"""

import asyncio
import itertools
import random
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import httpx
import msgspec

from service.postgres.embedded import embedded_postgres
from service.postgres.pools import open_database
from tests.builders import NO_VERIFIED, VERIFIED, World
from tests.freshness.asking import Asker
from tests.freshness.changes import Changer
from tests.freshness.faults import KINDS, Faults
from tests.freshness.town import PATIENCE, Town, now
from tests.kept import Processes
from tests.ownership.authority import authority
from tests.running import environment, running

PROCESSES = 4

# Answers are checked when there are so many, and all again whenever there are so many times as many, so
# that a run which goes wrong ends soon.
_FIRST_CHECKED, _CHECKED_AGAIN = 5_000, 1.4

Say = Callable[[str], None]


class Scale(msgspec.Struct, frozen=True):
    """How many answers there are at least, about whom, for whom, and what fails meanwhile.

    A call about many asks about all certificates of all owners.
    """

    answers: int
    owners: int = 25
    certificates: int = 40
    """Of each owner."""
    viewers: int = 2
    one_by_one: int = 8
    """So many clients of each viewer ask one by one. One more asks about all at once."""
    rest: float = 1.0
    """How many seconds an owner rests between two changes, on average."""
    pause: float = 0.25
    """How many seconds a client rests between two calls about all, on average."""
    faults: Sequence[str] = KINDS
    answers_a_fault: int = 14_000


class Proof(msgspec.Struct, frozen=True):
    """What came of it: what was told wrongly, and how much there was.

    `names` counts answers that named an owner while it could not be told by that name. `failures`
    are of calls and changes.
    """

    wrong: Sequence[str]
    names: int
    seconds: float
    answers: Mapping[str, int]
    changes: Mapping[str, int]
    faults: Mapping[str, int]
    failures: Mapping[str, int]


async def prove(scale: Scale, choice: random.Random, say: Say) -> Proof:
    """Run until there are enough answers, or one that is wrong."""
    with tempfile.TemporaryDirectory() as directory, authority() as zone:
        state, log = Path(directory) / "state", Path(directory) / "log"
        env = environment(
            state, WORKERS=str(PROCESSES), DNS_RESOLVERS=str(zone.server), ACCESS_LOG="false"
        )
        with running(env, log) as service, embedded_postgres(state) as url:
            async with (
                open_database(url, general=20) as database,
                httpx.AsyncClient(base_url=service.url) as client,
            ):
                town = Town(World(database, client), service.port, zone, choice)
                await town.settle(scale.owners, scale.viewers, scale.certificates)
                faults = Faults(service, state, url, choice)
                began = now()
                try:
                    await _run(town, faults, scale, say)
                finally:
                    seconds = now() - began
                    if town.wrong or sys.exc_info()[0] is not None:
                        say(log.read_text()[-20_000:])
                    Processes(env, log, service, 0).stop()
    found = town.violations()
    return Proof(
        [*town.wrong, *(town.excerpt(*each) for each in found)],
        sum(each.answer.told not in (NO_VERIFIED, VERIFIED, None) for _, _, each in found),
        seconds,
        town.given,
        Counter(step.kind for owner in town.owners for step in owner.steps),
        faults.struck,
        town.failures,
    )


async def _run(town: Town, faults: Faults, scale: Scale, say: Say) -> None:
    began = now()
    async with asyncio.TaskGroup() as group:
        for number in range(scale.owners):
            askers = [Asker(town, viewer) for viewer in range(scale.viewers)]
            group.create_task(Changer(town, number, askers).run(scale.rest))
        for viewer in range(scale.viewers):
            group.create_task(Asker(town, viewer).ask_about_all(scale.pause))
            for _ in range(scale.one_by_one):
                group.create_task(Asker(town, viewer).ask_one_by_one())
        failing = group.create_task(_fail(town, faults, scale))
        check_at = _FIRST_CHECKED
        while town.given.total() < scale.answers or not failing.done():
            await more_answers(town)
            if town.given.total() < check_at:
                continue
            say(f"{town.given.total():,} answers after {now() - began:.0f} s")
            check_at = round(check_at * _CHECKED_AGAIN)
            if town.wrong or town.violations():
                failing.cancel()
                break
        town.is_over = True


async def more_answers(town: Town) -> None:
    """Wait for some, which come again soon after any fault."""
    given, deadline = town.given.total(), now() + PATIENCE
    while town.given.total() == given:
        await asyncio.sleep(0.05)
        assert now() < deadline, f"no answers for {PATIENCE} seconds: {town.failures}"


async def _fail(town: Town, faults: Faults, scale: Scale) -> None:
    """Let each kind fail in turn, in any order, as often as there are enough answers in between."""
    times = max(len(scale.faults), scale.answers // scale.answers_a_fault) if scale.faults else 0
    kinds = itertools.cycle(town.random.sample(scale.faults, len(scale.faults)))
    for number, kind in enumerate(itertools.islice(kinds, times), start=1):
        while town.given.total() < scale.answers * number / (times + 1):
            await more_answers(town)
        await faults.strike(kind)
