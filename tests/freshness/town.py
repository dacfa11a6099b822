"""Companies whose names, domains, and permissions change, and what clients have seen of it.

Each owner has a domain, and a rival that may take it over. A register is what one viewer is told
about one owner's domain.
"""

import asyncio
import random
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from service.accounts.names import NO_VERIFIED_ACCOUNT, VERIFIED_ACCOUNT
from service.errors import Unavailable
from tests.builders import Company, World, web_id
from tests.freshness.histories import NEVER, Answer, Change, Violation, violations
from tests.ownership.authority import Authority
from tests.siege.connection import FAILURES, Connection

# How many seconds a client waits for a response, and for things to get better: longer than any fault
# lasts.
PATIENCE = 60.0

# What a busy service, or one without its database, may say. Anything else would be about the question.
BUSY = (429, 503)

# How many seconds one owner changes more often, and is asked about more often, than all others.
_WATCHED_FOR = 2.0


class State(msgspec.Struct, frozen=True):
    """What is so about an owner and its domain; viewers are numbers."""

    name: str
    held_by: Literal["owner", "rival"] | None = None
    """Who owns the domain."""
    is_proven: bool = False
    """Whether by DNS, not by an operator's word."""
    is_suspended: bool = False
    connected: frozenset[int] = frozenset()
    shown_to: frozenset[int] = frozenset()

    def told(self, viewer: int) -> str:
        """What a viewer is told about the domain."""
        if self.held_by is None or (self.held_by == "owner" and self.is_suspended):
            return NO_VERIFIED_ACCOUNT
        if self.held_by == "owner" and viewer in self.shown_to:
            return self.name
        return VERIFIED_ACCOUNT


class Step(msgspec.Struct):
    """A change to an owner: when it was first sent, when it was acknowledged, and what is so then."""

    kind: str
    began: float
    state: State
    ended: float = NEVER


@dataclass
class Owner:
    """A company with a domain and certificates, and its history."""

    company: Company
    rival: Company
    domain: str
    first: State
    certificates: list[str]
    steps: list[Step] = field(default_factory=list)

    @property
    def state(self) -> State:
        """What is so once the last change is made."""
        return self.steps[-1].state if self.steps else self.first


class Town:
    """The companies, and what clients have seen."""

    def __init__(self, world: World, port: int, zone: Authority, choice: random.Random) -> None:
        self.world = world
        self.port = port
        self.zone = zone
        self.random = choice
        self.owners: list[Owner] = []
        self.viewers: list[Company] = []
        self.answers: dict[tuple[int, int], list[Answer]] = {}
        """By the positions of viewer and owner."""
        self.given: Counter[str] = Counter()
        """How many answers, by whether they were asked for one by one or many at once."""
        self.failures: Counter[str] = Counter()
        """What was sent again, and the calls without an answer, by what came instead."""
        self.wrong: list[str] = []
        """What no response may say, whenever it comes."""
        self.is_over = False

    async def settle(self, owners: int, viewers: int, certificates: int) -> None:
        """Found the companies, and put so many certificates of each site on record."""
        self.viewers = [await self.world.company() for _ in range(viewers)]
        for number in range(owners):
            company, rival = await self.world.company(), await self.world.company()
            domain = f"owner{number}.example"
            ids = [web_id() for _ in range(certificates)]
            results = await self.world.import_lines(
                *(
                    {"cert_id": each, "insights": {"properties": {"domain": f"shop.{domain}"}}}
                    for each in ids
                )
            )
            assert not any(result.error for result in results)
            self.owners.append(Owner(company, rival, domain, State(company.name), ids))
        self.answers = {
            (viewer, number): [] for viewer in range(viewers) for number in range(owners)
        }

    @property
    def watched(self) -> int:
        """The position of the owner that changes the most for a while, and is asked about the most."""
        return int(now() / _WATCHED_FOR) % len(self.owners)

    def violations(self) -> list[tuple[int, int, Violation]]:
        """The answers so far that nothing explains, each with its viewer and owner."""
        return [
            (viewer, number, violation)
            for (viewer, number), answers in self.answers.items()
            for owner in [self.owners[number]]
            for violation in violations(
                owner.first.told(viewer),
                [Change(step.began, step.ended, step.state.told(viewer)) for step in owner.steps],
                answers,
            )
        ]

    def excerpt(self, viewer: int, number: int, violation: Violation) -> str:
        """A violation in words, with the changes around it, in milliseconds since the question."""
        owner, answer = self.owners[number], violation.answer

        def span(began: float, ended: float) -> str:
            return f"{(began - answer.began) * 1000:.1f} to {(ended - answer.began) * 1000:.1f}"

        return "\n".join(
            [
                f"viewer {viewer}, {owner.domain}, {span(answer.began, answer.ended)}:",
                f"  told {answer.told!r}, not any of {violation.possible}",
                *(
                    f"  {step.kind}, {span(step.began, step.ended)}: {step.state.told(viewer)!r}"
                    for step in owner.steps
                    if step.began < answer.ended + 0.1 and step.ended > answer.began - 2
                ),
            ]
        )

    async def asked(self, connection: Connection, sent: bytes) -> tuple[int, bytes]:
        """Send a request, and return its response's status and body.

        Raises `Unavailable` if there is none, or one that says to ask again.
        """
        try:
            async with asyncio.timeout(PATIENCE):
                status, _, body = await connection.ask(sent)
        except TimeoutError as error:
            # If it asked again, what it asked for first might still come after that.
            raise AssertionError(f"no response in {PATIENCE} seconds to {sent!r}") from error
        except FAILURES as error:
            connection.close()
            self.failures[type(error).__name__] += 1
            raise Unavailable("no response") from error
        if status in BUSY:
            self.failures[str(status)] += 1
            self._check_that_it_tells_nothing(body)
            raise Unavailable(body.decode(errors="replace"))
        return status, body

    def _check_that_it_tells_nothing(self, body: bytes) -> None:
        names = [owner.company.name for owner in self.owners]
        if any(text.encode() in body for text in (*names, VERIFIED_ACCOUNT, NO_VERIFIED_ACCOUNT)):
            self.wrong.append(f"a failure says {body!r}")


def now() -> float:
    """The time, as all clients see it."""
    return time.monotonic()
