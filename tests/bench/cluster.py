"""A PostgreSQL server as the service runs its own, with databases that are filled when first needed.

In each, of the domains asked about half are owned, half of those by accounts connected to the caller,
and half of those show it their name. Certificates have the facts that real ones have.
"""

import asyncio
import hashlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import UUID

import asyncpg
import msgspec
import psutil

from service.accounts.keys import new_key
from service.ownership.hostname import SUFFIX_LIST_VERSION
from service.postgres.embedded import embedded_postgres
from service.postgres.migrations import migrate
from service.postgres.place import package
from service.tokens import digest_of
from tests.bench.measuring import cpu_seconds_of_tree
from tests.running import Running, environment, running

COMPANIES = 2_000

CALLER = str(UUID(bytes=hashlib.md5(b"account 0", usedforsecurity=False).digest()))

_FACTS = {
    "approx_ip_geo": {"city": "Dallas", "country_code": "US", "lat": 32.7451, "lon": -96.8038,
                      "postal_code": "75203", "state": "Texas", "time_zone": "America/Chicago"},
    "bot_detected": False,
    "browser": {"full": "Chrome 128.0.0.0", "name": "Chrome",
                "user_agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 "
                              "(KHTML, like Gecko) Chrome/128.0.0.0 Safari/537.36",
                "version": {"full": "128.0.0.0", "major": "128", "minor": "0", "patch": "0"}},
    "form_input_kpm": 234.92560689115115,
    "form_input_method": ["typing", "autofill"],
    "form_input_wpm": 47.355958958168905,
    "ip": "192.0.2.44",
    "is_framed": False,
    "is_masked": False,
    "num_sensitive_content_elements": 0,
    "num_sensitive_form_elements": 2,
    "os": {"full": "Mac OS X 10.15.7", "is_mobile": False, "name": "Mac OS X",
           "version": {"full": "10.15.7", "major": "10", "minor": "15", "patch": "7"}},
    "parent_page_url": None,
}  # fmt: skip

# The caller is account 0. The record begins with the first event, as if all had been there a while.
_COMPANIES = """
INSERT INTO account (id, name)
    SELECT md5('account ' || n)::uuid, 'Company number ' || n FROM generate_series(0, $1) AS n
"""
_CALLER = """
WITH key AS (
    INSERT INTO api_key (id, account_id, digest)
    VALUES (gen_random_uuid(), md5('account 0')::uuid, $1)
), room AS (
    INSERT INTO account_limit (account_id, calls) VALUES (md5('account 0')::uuid, 1000)
)
INSERT INTO event (at, actor, action, detail) VALUES (now(), 'operator', 'filled', '{}')
"""
_CONNECTIONS = """
INSERT INTO connection (id, buyer_id, seller_id, started_at)
    SELECT md5('connection ' || n)::uuid, md5('account 0')::uuid, md5('account ' || n)::uuid, now()
    FROM generate_series(2, $1::integer, 2) AS n
"""
_GRANTS = """
INSERT INTO visibility_grant (id, connection_id, owner_id, viewer_id, started_at)
    SELECT md5('grant ' || n)::uuid, md5('connection ' || n)::uuid,
        md5('account ' || n)::uuid, md5('account 0')::uuid, now()
    FROM generate_series(4, $1::integer, 4) AS n
"""
_OWNERSHIPS = """
INSERT INTO ownership (id, account_id, domain, covers_subdomains, method, verified_at, started_at)
    SELECT lpad(to_hex(n), 32, '0')::uuid, owner.ids[n % cardinality(owner.ids) + 1],
        'domain' || n || '.example', true, 'attested', now(), now()
    FROM generate_series(1, $1::integer) AS n, (
        SELECT array_agg(md5('account ' || n)::uuid ORDER BY n)
        FROM generate_series(1, $2::integer) AS n
    ) AS owner (ids)
"""
# The id of the nth certificate: as of real ones, one tells nothing about the next. So calls and records
# are in no order that an index could profit from. `load.lua` computes the same.
CERT_ID = """
    lpad(to_hex(n::bigint * n % 2147483647 * 1103515 % 2147483647), 8, '0')
        || lpad(to_hex(n), 32, '0')
"""


def cert_id(number: int) -> str:
    return f"{number * number % 2147483647 * 1103515 % 2147483647:08x}{number:032x}"


# Each asks about some domain, and the next about quite another.
_CERTIFICATES = f"""
INSERT INTO certificate (
    cert_id, kind, host, covering_names, suffix_list, created_at, expires_at, seconds_on_page,
    last_event_at, facts
)
    SELECT {CERT_ID}, 'web', 'shop.' || domain, ARRAY['shop.' || domain, domain], $3,
        now() - interval '1 hour', now() + interval '90 days', 73, now() - interval '59 minutes',
        $4::jsonb || jsonb_build_object(
            'domain', 'shop.' || domain, 'page_url', 'https://shop.' || domain || '/a/page'
        )
    FROM generate_series(1, $1::bigint) AS n, LATERAL (
        SELECT 'domain' || 1 + abs(hashint8extended(n, 0) % (2 * $2::bigint)) || '.example'
    ) AS named (domain)
"""


@dataclass(frozen=True)
class Filled:
    """A database with so many owned domains, and certificates with numbers from 1."""

    url: str
    key: str
    owned: int
    certificates: int
    postmaster: psutil.Process

    def cpu_seconds(self) -> float:
        """How much CPU time the server has had, in all of its processes."""
        return cpu_seconds_of_tree(self.postmaster)

    def ask(self, statement: str, *values: Any) -> list[Any]:
        """Run a statement, also one that the service's own role may not run."""

        async def ask() -> list[Any]:
            connection = await asyncpg.connect(_as_superuser(self.url))
            try:
                return await connection.fetch(statement, *values)
            finally:
                await connection.close()

        return asyncio.run(ask())


def program(name: str) -> Path:
    """A program of PostgreSQL's."""
    return package() / "pginstall18" / "bin" / name


def _as_superuser(url: str) -> str:
    return url.replace("//confirmed_owner@", "//postgres@")


class Bench:
    """What parts stand on, kept until the end of the run."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.directory = directory
        self._stack = stack

    @cached_property
    def _server(self) -> str:
        return self._stack.enter_context(embedded_postgres(self.directory / "cluster"))

    @cache  # noqa: B019 - there is one of these
    def database(
        self, name: str = "leads", *, owned: int = 200_000, certificates: int = 500_000
    ) -> Filled:
        """The database of this name, filled."""
        url = urlunsplit(urlsplit(self._server)._replace(path=f"/{name}"))
        return asyncio.run(self._created(name, url, owned, certificates))

    async def _created(self, name: str, url: str, owned: int, certificates: int) -> Filled:
        connection = await asyncpg.connect(_as_superuser(self._server))
        await connection.execute(f"CREATE DATABASE {name} OWNER confirmed_owner")
        await connection.close()
        await migrate(url)
        return await fill(url, owned, certificates)

    @contextmanager
    def service(self, filled: Filled, **settings: str) -> Iterator[Running]:
        """The service on a database, as `confirmed-owner run` starts it."""
        # As where programs read the log.
        env = environment(
            self.directory / "state", DATABASE_URL=filled.url, LOG_FORMAT="json", **settings
        )
        with running(env, self.directory / "service.log") as service:
            yield service


async def fill(url: str, owned: int, certificates: int) -> Filled:
    """Fill a database that has the schema."""
    connection = await asyncpg.connect(_as_superuser(url))
    key = new_key()
    try:
        await connection.execute(_COMPANIES, COMPANIES)
        await connection.execute(_CALLER, digest_of(key))
        await connection.execute(_CONNECTIONS, COMPANIES)
        await connection.execute(_GRANTS, COMPANIES)
        await _own(connection, owned)
        facts = msgspec.json.encode(_FACTS).decode()
        await connection.execute(_CERTIFICATES, certificates, owned, SUFFIX_LIST_VERSION, facts)
        await connection.execute("VACUUM ANALYZE")
        await connection.execute("CHECKPOINT")
        own_process = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()"))
        postmaster = own_process.parent()
    finally:
        await connection.close()
    assert postmaster is not None
    return Filled(url, key, owned, certificates, postmaster)


async def _own(connection: "asyncpg.Connection[asyncpg.Record]", owned: int) -> None:
    """Fill the table of ownerships: a million in six seconds, ten million in a minute.

    The indexes are made when it is full, and no row checks that its account exists. It stays
    unlogged, which makes no difference to who reads it.
    """
    indexes = await connection.fetch(
        """
        SELECT indexrelid::regclass::text AS name, pg_get_indexdef(indexrelid) AS definition
        FROM pg_index WHERE indrelid = 'ownership'::regclass AND NOT indisprimary
        """
    )
    await connection.execute("SET maintenance_work_mem = '512MB'")
    await connection.execute("SET session_replication_role = replica")
    await connection.execute("ALTER TABLE ownership SET UNLOGGED")
    for index in indexes:
        await connection.execute(f"DROP INDEX {index['name']}")
    await connection.execute(_OWNERSHIPS, owned, COMPANIES)
    for index in indexes:
        await connection.execute(index["definition"])
    await connection.execute("RESET session_replication_role")
