"""`make faults`: kill PostgreSQL again and again under load, and look for all that was acknowledged.

While the service answers calls, an owner shows and hides its name, others invite, and a company
imports certificates. The server is embedded, waits for the disk as ever, and is killed (`kill -9`)
while all of that goes on. In the end:

- Each answer that a caller got is on record, and no more than were asked for.
- Each invitation and each imported certificate is there, the former with its email.
- There are exactly as many periods in which the name was shown as were begun, each with its event, and
  the name is shown if that was the last word.

`KILLS` says how many.
"""

import asyncio
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec

from service.invitations.invitations import PER_INVITER
from service.postgres.pools import open_database
from tests.builders import Company, World, until, web_id
from tests.faults.load import load
from tests.faults.stage import Stage, ended, set_up

KINDS = ("grant", "revocation", "invitation", "import")

# How many certificates one import has.
_CERTIFICATES = 10

# How many seconds the service may take to go on after a kill.
_PATIENCE = 60.0

Say = Callable[[str], None]


class Changes:
    """What companies change all the time, and what of it was acknowledged."""

    def __init__(self, stage: Stage) -> None:
        self._stage = stage
        self.acknowledged: Counter[str] = Counter()
        self.addresses: list[str] = []
        self.certificates: list[str] = []
        self.shown = 0
        """How many times the name was shown."""
        self.is_shown = False
        self.is_over = False

    async def settle(self) -> None:
        """Found the companies."""
        url = self._stage.database.replace("postgres@/", "confirmed_owner@/")
        async with open_database(url) as database, httpx.AsyncClient() as client:
            world = World(database, client)
            self.owner, self.viewer, self.importer = [await world.company() for _ in range(3)]
            self._inviters = [await world.company() for _ in range(10)]
            await world.connect(self.viewer, self.owner)
        connections = await self._stage.call("GET", "/v1/connections", self.owner)
        self._connection = f"/v1/connections/{connections.json()['items'][0]['id']}"

    async def go_on(self) -> None:
        """Wait until one more of each kind is acknowledged."""
        enough = {kind: self.acknowledged[kind] + 1 for kind in KINDS}

        async def have_enough() -> bool:
            return all(self.acknowledged[kind] >= enough[kind] for kind in KINDS)

        await until(have_enough, _PATIENCE)

    async def make(self, change: Callable[[], Awaitable[None]]) -> None:
        """Make a change again and again, until it is over."""
        while not self.is_over:
            await change()
            await asyncio.sleep(0.02)

    async def show_or_hide(self) -> None:
        method = "DELETE" if self.is_shown else "PUT"
        done = await self._changed(method, f"{self._connection}/grant", self.owner)
        before = self.is_shown
        if done is None:
            # Nobody said whether it was done.
            await until(self._learn, _PATIENCE)
        else:
            self.is_shown = not before
            self.acknowledged["grant" if self.is_shown else "revocation"] += 1
        self.shown += self.is_shown and not before

    async def invite(self) -> None:
        inviter = self._inviters[len(self.addresses) // PER_INVITER]
        address = f"jo@{uuid4().hex}.example"
        body = {"emails": [address], "reason": "receive_leads"}
        if await self._changed("POST", "/v1/invitations", inviter, body) is not None:
            self.addresses.append(address)
            self.acknowledged["invitation"] += 1

    async def import_certificates(self) -> None:
        ids = [web_id() for _ in range(_CERTIFICATES)]
        facts = {"properties": {"domain": "nobodys.example"}}
        lines = b"\n".join(
            msgspec.json.encode({"cert_id": cert_id, "insights": facts}) for cert_id in ids
        )
        if await self._changed("POST", "/v1/certificates", self.importer, lines) is not None:
            self.certificates += ids
            self.acknowledged["import"] += 1

    async def check(self) -> None:
        """Check that all is there that was acknowledged."""
        found = await self._stage.fetch(
            "SELECT email FROM invitation JOIN mail ON mail.id = mail_id WHERE email = ANY ($1)",
            self.addresses,
        )
        assert sorted(row["email"] for row in found) == sorted(self.addresses)
        (certificates,) = await self._stage.fetch(
            "SELECT count(*) FROM certificate WHERE cert_id = ANY ($1)", self.certificates
        )
        assert certificates["count"] == len(self.certificates)
        (periods,) = await self._stage.fetch(
            """
            SELECT count(*) AS begun, count(*) FILTER (WHERE ended_at IS NULL) AS live,
                (
                    SELECT count(*) FROM event
                    WHERE account_id = owner_id AND action = 'grant.started'
                ) AS told
            FROM visibility_grant WHERE owner_id = $1 AND viewer_id = $2 GROUP BY owner_id
            """,
            self.owner.id,
            self.viewer.id,
        )
        assert tuple(periods) == (self.shown, self.is_shown, self.shown)

    async def _learn(self) -> bool:
        try:
            found = await self._stage.call("GET", self._connection, self.owner)
        except httpx.TransportError:
            return False
        if found.status_code == 200:
            self.is_shown = found.json()["name_shown_since"] is not None
        return bool(found.status_code == 200)

    async def _changed(
        self, method: str, path: str, company: Company, body: Any = None
    ) -> httpx.Response | None:
        """Make a change, and return the acknowledgment, if there is one."""
        try:
            response = await self._stage.call(method, path, company, body)
        except httpx.TransportError:
            return None
        if response.is_success:
            return response
        assert response.status_code == 503, response.text
        return None


async def kill(
    stage: Stage, kills: int, choice: random.Random, say: Say = lambda text: None
) -> None:
    """Kill the server so many times under load, and check that nothing is lost."""
    changes = Changes(stage)
    await changes.settle()
    async with load(stage, 8) as calls, asyncio.TaskGroup() as group:
        for change in (changes.show_or_hide, changes.invite, changes.import_certificates):
            group.create_task(changes.make(change))
        for number in range(1, kills + 1):
            await changes.go_on()
            await calls.go_on()
            await asyncio.sleep(choice.uniform(0, 0.3))
            server, *children = stage.postgres()
            server.kill()
            await ended(server, *children, seconds=_PATIENCE)
            done = ", ".join(f"{changes.acknowledged[kind]:,} {kind}s" for kind in KINDS)
            say(f"kill {number}, after {calls.answered.total():,} answers, {done}")
        await changes.go_on()
        await calls.go_on()
        changes.is_over = True
    await changes.check()


async def _kill_elsewhere(kills: int, say: Say) -> None:
    with tempfile.TemporaryDirectory() as directory:
        stage = await set_up(Path(directory) / "state")
        try:
            await kill(stage, kills, random.SystemRandom(), say)
        finally:
            await stage.close()


def main() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)
    began = time.monotonic()

    def say(text: str) -> None:
        sys.stderr.write(f"{time.monotonic() - began:6.1f}  {text}\n")

    kills = int(os.environ.get("KILLS") or 10)
    asyncio.run(_kill_elsewhere(kills, say))
    say(f"PASS: {kills} kills lost nothing that was acknowledged")


if __name__ == "__main__":
    main()
