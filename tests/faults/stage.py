"""The service on a PostgreSQL of its own, and a buyer who asks while something fails."""

import asyncio
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import psutil

from service.accounts.accounts import set_limits
from service.postgres.embedded import running_postgres
from service.postgres.pools import open_database
from service.web.front import MOST_REQUESTS
from tests.builders import NO_VERIFIED, VERIFIED, Company, World, until
from tests.insights.vendor import OWNER, check_error
from tests.kept import fetch_again
from tests.postgres.test_embedded import servers
from tests.running import Running, environment, free_port, running

# How many file descriptors each process of the service has: more than the requests it takes at once,
# and fewer than there can be connections.
MOST_FILES = 1500

# How many seconds of a call are at once. Of many calls, the median counts, because others use the
# machine, too.
AT_ONCE = 0.25

# How many seconds a call takes at most: three, and what a busy machine takes.
AT_MOST = 6.0

_RECOVERS_WITHIN = 30.0


@dataclass
class Stage:
    """The service, its database, and who knows what is to be told about which certificate."""

    state: Path
    most_files: int | None = None
    database: str = field(init=False)
    """The URL, as its superuser."""
    buyer: Company = field(init=False)
    seller: Company = field(init=False)
    crowd: Company = field(init=False)
    """May have more calls in progress than a process takes."""
    told: dict[str, str] = field(default_factory=dict)
    """What the buyer is told about the owner, by certificate."""

    def __post_init__(self) -> None:
        self.port = free_port()
        self.log = self.state.with_name("log")
        self._running = ExitStack()
        self._service: Running | None = None
        self._client = self._new_client()

    @property
    def service(self) -> Running:
        assert self._service is not None
        return self._service

    def start(self) -> None:
        """Start the service, unless it runs."""
        if self._service is not None and self._service.process.poll() is None:
            return
        self._running.close()
        env = environment(self.state, PORT=str(self.port))
        self._service = self._running.enter_context(
            running(env, self.log, most_files=self.most_files)
        )

    async def close(self) -> None:
        self._running.close()
        await self._client.aclose()

    def postgres(self) -> list[psutil.Process]:
        """The processes of the database server, the first of which started the others."""
        # A child that was just started still looks like its parent.
        server = min(servers(self.state), key=psutil.Process.create_time)
        return [server, *server.children(recursive=True)]

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """Ask the database itself, again while it is away."""
        return await fetch_again(self.database, statement, *arguments)

    async def cut_off(self) -> int:
        """Close all connections of the service to the database, and return how many there were."""
        closed = await self.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'confirmed-owner'"
        )
        return len(closed)

    @asynccontextmanager
    async def locked(self, table: str) -> AsyncIterator[None]:
        """Let nobody else read or change a table during the block."""
        holder = await asyncpg.connect(self.database)
        try:
            await holder.execute(f"BEGIN; LOCK TABLE {table}")
            yield
        finally:
            holder.terminate()

    async def call(
        self, method: str, path: str, company: Company, body: Any = None
    ) -> httpx.Response:
        """Call the service with a body of JSON, or of lines if it is bytes already."""
        if isinstance(body, bytes):
            headers = {**company.headers, "Content-Type": "application/x-ndjson"}
            return await self._client.request(method, path, headers=headers, content=body)
        return await self._client.request(method, path, headers=company.headers, json=body)

    async def ask(self, cert_id: str) -> httpx.Response:
        """Ask who owns the site of a lead, as the buyer."""
        body = {"insights": {"properties": ["confirmed_owner"]}}
        return await self.call("POST", f"/{cert_id}", self.buyer, body)

    async def check_probes(self, *, is_ready: bool | None) -> None:
        """Check that the process says that it lives, and whether it can answer; None if it may."""
        assert (await self._client.get("/health")).status_code == 200
        assert (await self._client.get("/metrics")).status_code == 200
        if is_ready is not None:
            assert (await self._client.get("/ready")).status_code == (200 if is_ready else 503)

    async def check_refused_at_once(self) -> None:
        """Check that calls get an error that tells of no owner and says when to try again, at once."""
        took = []
        for _ in range(8):
            for cert_id in self.told:
                began = time.monotonic()
                check_error(await self.ask(cert_id), 503)
                took.append(time.monotonic() - began)
        assert statistics.median(took) < AT_ONCE, took
        assert max(took) < AT_MOST, took

    async def check_recovers(self) -> None:
        """Check that each call gets its answer before long, and an error until then."""
        deadline = time.monotonic() + _RECOVERS_WITHIN
        for cert_id, told in self.told.items():
            while (response := await self.ask(cert_id)).status_code != 200:
                check_error(response, 503)
                assert time.monotonic() < deadline
                await asyncio.sleep(0.05)
            assert response.json()["insights"]["properties"] == {"confirmed_owner": told}
        await self.check_probes(is_ready=True)

    async def reconnect(self) -> None:
        """Have the next calls on a new connection, which may be to another process."""
        await self._client.aclose()
        self._client = self._new_client()

    def _new_client(self) -> httpx.AsyncClient:
        # Connections stay open for as long as the server lets them.
        return httpx.AsyncClient(
            base_url=f"http://127.0.0.1:{self.port}",
            timeout=15,
            limits=httpx.Limits(keepalive_expiry=None),
        )


async def ended(*processes: psutil.Process, seconds: float = 20) -> None:
    """Wait until processes have ended, even if their parent hasn't noticed yet."""

    async def have_ended() -> bool:
        return not any(map(_runs, processes))

    await until(have_ended, seconds)


def _runs(process: psutil.Process) -> bool:
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def set_up(state: Path, most_files: int | None = None) -> Stage:
    """Start the service; one site of the leads has an owner who may be named, one has another."""
    stage = Stage(state, most_files)
    await asyncio.to_thread(stage.start)
    url = running_postgres(state)
    assert url is not None
    stage.database = url.replace("confirmed_owner@/", "postgres@/")
    async with open_database(url) as database, httpx.AsyncClient() as client:
        world = World(database, client)
        stage.buyer = await world.company("Harbor Insurance")
        stage.seller = await world.company(OWNER)
        other = await world.company()
        await world.own(stage.seller, "named.example")
        await world.permit(stage.seller, stage.buyer)
        stage.crowd = await world.company()
        async with database.general.transaction() as connection:
            await set_limits(connection, stage.crowd.id, {"calls": 2 * MOST_REQUESTS})
        await world.own(other, "verified.example")
        for domain, told in (
            ("named.example", OWNER),
            ("verified.example", VERIFIED),
            ("nobodys.example", NO_VERIFIED),
        ):
            stage.told[await world.certificate(domain=domain)] = told
    return stage
