"""The endpoint, against the same one as a Python team would first write it; see `tests.bench.peer`.

Before they are compared, both are asked about certificates of every outcome, and have to answer alike.
"""

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Any, NamedTuple

import httpx

from service.postgres.pools import open_database
from service.tokens import digest_of
from tests.bench.cluster import Bench, Filled, cert_id
from tests.bench.load import ALL, Load, asking
from tests.bench.measuring import Figure, cpu_figures, in_turns
from tests.bench.processes import serving, target_of
from tests.builders import basic

_CONNECTIONS = 64
_SECONDS = 2

# How many of the ordinary certificates are asked about. Some are the caller's to see, some not.
_ORDINARY = 40

_WRONG = "cok_wrong"
_SUSPENDED = "cok_suspended"

# Outcomes that ordinary certificates don't have. Account 4 shows its name to the caller, and account
# 1 doesn't.
_SPECIAL = """
WITH suspended AS (
    INSERT INTO account (id, name, suspended_at)
    VALUES (md5('suspended')::uuid, 'Suspended company', now())
), key AS (
    INSERT INTO api_key (id, account_id, digest)
    VALUES (gen_random_uuid(), md5('suspended')::uuid, $1)
), owned AS (
    INSERT INTO ownership (id, account_id, domain, covers_subdomains, method, verified_at, started_at)
    VALUES
        (gen_random_uuid(), md5('account 0')::uuid, 'own.example', true, 'attested', now(), now()),
        (gen_random_uuid(), md5('account 4')::uuid, 'exact.example', false, 'attested', now(), now()),
        (gen_random_uuid(), md5('suspended')::uuid, 'gone.example', true, 'attested', now(), now())
)
INSERT INTO certificate
    (cert_id, kind, account_id, imported_by, host, covering_names, suffix_list, created_at,
        expires_at, facts)
SELECT rpad(cert_id, 40, '0'), kind, md5(account)::uuid, md5(imported_by)::uuid, host,
    CASE WHEN host IS NOT NULL THEN ARRAY[host, substr(host, strpos(host, '.') + 1)] END,
    CASE WHEN host IS NOT NULL THEN record.suffix_list END,
    now() - interval '1 hour', now() + ends, facts::jsonb
FROM (SELECT suffix_list FROM certificate WHERE host IS NOT NULL LIMIT 1) AS record, (VALUES
    ('own', 'web', NULL, NULL, 'www.own.example', interval '1 day', '{"is_masked": false}'),
    ('exact', 'web', NULL, NULL, 'exact.example', '1 day', '{}'),
    ('below', 'web', NULL, NULL, 'www.exact.example', '1 day', '{}'),
    ('suspended', 'web', NULL, NULL, 'www.gone.example', '1 day', '{}'),
    ('unknown-site', 'web', 'account 4', NULL, NULL, '1 day', '{}'),
    ('masked', 'web', 'account 1', NULL, NULL, '1 day', '{"is_masked": true}'),
    ('mobile', 'mobile', 'account 4', NULL, NULL, '1 day', '{"ip": "192.0.2.1", "domain": "x"}'),
    ('nobodys', 'mobile', NULL, NULL, NULL, '1 day', '{}'),
    ('0.meta', 'meta', 'account 1', NULL, NULL, '1 day', '{}'),
    ('mine', 'web', NULL, 'account 0', 'www.own.example', '1 day', '{}'),
    ('anothers', 'web', NULL, 'account 1', 'www.own.example', '1 day', '{}'),
    ('expired', 'web', NULL, NULL, 'www.own.example', '-1 minute', '{}')
) AS special (cert_id, kind, account, imported_by, host, ends, facts)
RETURNING cert_id
"""


def measure(bench: Bench) -> Iterator[Figure]:
    filled = bench.database()
    special = [cert for (cert,) in filled.ask(_SPECIAL, digest_of(_SUSPENDED))]
    size = asyncio.run(_connections(filled.url))
    with ExitStack() as stack:
        targets = {"ours": target_of(stack.enter_context(bench.service(filled)))}
        for kind in ("orm", "text"):
            log = bench.directory / f"peer-{kind}.log"
            arguments = (kind, filled.url, str(size))
            targets[kind] = stack.enter_context(serving("tests.bench.peer", log, *arguments))
        check_alike([target.url for target in targets.values()], filled, special)
        load = Load(filled)
        rounds = in_turns(
            {
                name: partial(load.turn, target, _CONNECTIONS, _SECONDS)
                for name, target in targets.items()
            }
        )
    for name, case in (
        ("orm", "FastAPI, SQLAlchemy's ORM"),
        ("text", "FastAPI, SQLAlchemy, one text query"),
    ):
        at_least = {"orm": 25.0, "text": 10.0}[name]
        yield Figure(
            f"peer.ratio_{name}",
            case,
            "our calls, as a multiple of its",
            rounds.ratios("rate", "ours", name),
            at_least=at_least,
        )
        yield Figure(f"peer.{name}.rps", case, "its calls", rounds.values("rate", name), "/s")
        yield from cpu_figures(f"peer.{name}", case, rounds, name)


async def _connections(url: str) -> int:
    """How many connections a process of the service has at most."""
    async with open_database(url) as database:
        return sum(use.most for use in database.uses.values())


def check_alike(urls: Sequence[str], filled: Filled, special: Sequence[str]) -> None:
    """Check that all give the same answers, of every outcome there is."""
    ordinary = [cert_id(number) for number in range(1, _ORDINARY + 1)]
    seen = set()
    with httpx.Client() as client:
        for asked in (*ordinary, *special, cert_id(0)):
            for key in (filled.key, _WRONG, _SUSPENDED):
                told = [_told(client, f"{url}/{asked}", key) for url in urls]
                for status, body, age in told:
                    assert (status, body) == told[0][:2], (asked, told)
                    assert abs(age - told[0].age) <= 2, (asked, told)
                seen.add(_outcome(told[0]))
    assert seen == {"named", "verified", "none", "not_applicable", 401, 402, 404}, seen


class _Told(NamedTuple):
    """A status, a body without what differs from answer to answer, and the certificate's age."""

    status: int
    body: Any
    age: int


def _told(client: httpx.Client, url: str, key: str) -> _Told:
    response = client.post(url, headers=basic(key), json=asking(ALL))
    body, age = response.json(), 0
    if response.status_code == 200:
        properties = body["insights"]["properties"]
        age = properties.pop("age_seconds") or 0
        del properties["confirmed_owner_detail"]["answer_id"]
    return _Told(response.status_code, body, age)


def _outcome(told: _Told) -> str | int:
    if told.status != 200:
        return told.status
    status: str = told.body["insights"]["properties"]["confirmed_owner_detail"]["status"]
    return status
