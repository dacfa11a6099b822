"""How long the pages of an account take that has ten thousand connections, domains, and answers."""

import time
from collections.abc import Iterator

import httpx

from service.tokens import digest_of, new_token
from tests.bench.cluster import CALLER, Bench, Filled
from tests.bench.measuring import Figure

MANY = 10_000
_ROUNDS = 15
_MOST_MS = 50.0

_FILL = (
    """
    INSERT INTO app_user (id, email, name) VALUES (gen_random_uuid(), 'al@harbor.example', 'Al')
    """,
    """
    INSERT INTO membership (account_id, user_id, role) SELECT '{us}'::uuid, id, 'admin' FROM app_user
    """,
    """
    INSERT INTO account (id, name)
    SELECT md5('partner ' || n)::uuid, 'Partner number ' || n FROM generate_series(1, {many}) AS n
    """,
    """
    INSERT INTO connection (id, buyer_id, seller_id, started_at)
    SELECT md5('partnership ' || n)::uuid, '{us}'::uuid, md5('partner ' || n)::uuid, now()
    FROM generate_series(1, {many}) AS n
    """,
    """
    INSERT INTO visibility_grant (id, connection_id, owner_id, viewer_id, started_at)
    SELECT gen_random_uuid(), md5('partnership ' || n)::uuid, '{us}'::uuid,
        md5('partner ' || n)::uuid, now()
    FROM generate_series(1, {many}, 2) AS n
    """,
    """
    INSERT INTO event (actor, action, account_id, detail)
    SELECT 'service', 'connection.started', '{us}'::uuid, jsonb_build_object(
        'partner', jsonb_build_object(
            'id', md5('partner ' || n)::uuid, 'name', 'Partner number ' || n
        )
    )
    FROM generate_series(1, {many}) AS n
    """,
    """
    INSERT INTO domain_claim (
        id, account_id, name, covers_subdomains, code, added_at, begun_at, is_verified, reason,
        last_checked_at, last_verified_at, next_check_at
    )
    SELECT md5('claim ' || n)::uuid, '{us}'::uuid, 'own' || n || '.example', true, 'code ' || n,
        now(), now(), true, NULL, now(), now(), now() + interval '1 day'
    FROM generate_series(1, {many}) AS n
    """,
    """
    INSERT INTO ownership (
        id, account_id, domain, covers_subdomains, method, verified_at, started_at, claim_id
    )
    SELECT gen_random_uuid(), account_id, name, true, 'dns', now(), now(), id FROM domain_claim
    """,
    """
    INSERT INTO answer (id, account_id, api_key_id, domain, status, answered_at)
    SELECT gen_random_uuid(), '{us}'::uuid, '{us}'::uuid, 'site' || n % 500 || '.example', 'none',
        now() - interval '1 hour' * (n % 700)
    FROM generate_series(1, {many}) AS n
    """,
)


def measure(bench: Bench) -> Iterator[Figure]:
    filled = bench.database("pages", owned=2_000, certificates=2_000)
    session = _fill(filled)
    paths = {
        "home": "/",
        "connections": "/connections",
        "search": "/connections?q=number+77",
        "connection": f"/connections/{_id(filled, 'partnership 77')}",
        "pending": "/connections/pending",
        "domains": "/domains",
        "domain": "/domains/own77.example",
        "answers": "/answers",
        "activity": "/activity",
    }
    with (
        bench.service(filled) as service,
        httpx.Client(base_url=service.url, cookies={"session": session}, timeout=60) as client,
    ):
        times: dict[str, list[float]] = {name: [] for name in paths}
        for number in range(-2, _ROUNDS):
            for name, path in paths.items():
                started = time.monotonic()
                client.get(path).raise_for_status()
                if number >= 0:
                    times[name].append((time.monotonic() - started) * 1000)
    for name, values in times.items():
        yield Figure(
            f"pages.{name}_ms",
            f"pages, with {MANY:,} connections, domains, and answers",
            name,
            values,
            "ms",
            at_most=_MOST_MS,
        )


def _fill(filled: Filled) -> str:
    """Give the caller of a database all of that, and return the session of its admin."""
    for statement in _FILL:
        filled.ask(statement.format(many=MANY, us=CALLER))
    filled.ask("ANALYZE")
    token = new_token()
    filled.ask(
        """
        INSERT INTO user_session (id, user_id, token_digest, started_at, expires_at)
        SELECT gen_random_uuid(), id, $1, now(), now() + interval '1 day' FROM app_user
        """,
        digest_of(token),
    )
    return token


def _id(filled: Filled, name: str) -> str:
    return str(filled.ask("SELECT md5($1)::uuid AS id", name)[0]["id"])
