"""The answering statement finds everything by index, however large the tables are.

`make bench` runs it on a million certificates. These tests check that its plan has no scans.
"""

import json
from typing import Any

from service.insights import queries
from service.postgres.migrations import migrate
from service.postgres.pools import Connection, connect, open_database
from tests.conftest import fresh_database

DOMAINS = 20_000

FILL = f"""
INSERT INTO account (id, name)
    SELECT md5('account ' || n)::uuid, 'Account ' || n
    FROM generate_series(1, 2000) AS n;
INSERT INTO api_key (id, account_id, digest)
    SELECT md5('key ' || n)::uuid, md5('account ' || n)::uuid, sha256(n::text::bytea)
    FROM generate_series(1, 2000) AS n;
INSERT INTO ownership (id, account_id, domain, covers_subdomains, method, verified_at, started_at)
    SELECT md5('ownership ' || n)::uuid, md5('account ' || n % 2000 + 1)::uuid,
        'domain' || n || '.example', true, 'attested', now(), now()
    FROM generate_series(1, {DOMAINS}) AS n;
INSERT INTO certificate (cert_id, kind, host, covering_names, suffix_list, created_at, facts)
    SELECT lpad(n::text, 40, '0'), 'web', 'shop.domain' || n || '.example',
        ARRAY['shop.domain' || n || '.example', 'domain' || n || '.example'], '1', now(), '{{}}'
    FROM generate_series(1, {DOMAINS}) AS n;
INSERT INTO connection (id, buyer_id, seller_id, started_at)
    SELECT md5('connection ' || n)::uuid, md5('account ' || n)::uuid,
        md5('account ' || n % 2000 + 1)::uuid, now()
    FROM generate_series(1, 2000) AS n;
INSERT INTO visibility_grant (id, connection_id, owner_id, viewer_id, started_at)
    SELECT md5('grant ' || n)::uuid, md5('connection ' || n)::uuid,
        md5('account ' || n % 2000 + 1)::uuid, md5('account ' || n)::uuid, now()
    FROM generate_series(1, 2000) AS n;
"""


def nodes(plan: dict[str, Any]) -> list[dict[str, Any]]:
    return [plan, *(node for child in plan.get("Plans", []) for node in nodes(child))]


async def test_answers_are_found_by_index_however_many_domains_there_are(server_url: str) -> None:
    async with (
        fresh_database(server_url) as url,
        connect(url) as unhurried,
        open_database(url) as database,
    ):
        await migrate(url)
        async with database.answering.connection() as connection:
            # Prepared while the tables are empty, as in a service that starts before it has data.
            await connection.execute(
                "PREPARE answering (uuid[], bytea[], text[], boolean[], boolean[], jsonb[], text, "
                "interval, interval, interval, text[]) AS " + queries._INSERT_ANSWERS
            )
            await unhurried.execute(FILL)
            await assert_only_indexes_are_used(connection)
            await unhurried.execute("ANALYZE")
            await assert_only_indexes_are_used(connection)


async def assert_only_indexes_are_used(connection: Connection) -> None:
    explained = await connection.fetchval(
        f"""
        EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) EXECUTE answering (
            ARRAY[gen_random_uuid(), gen_random_uuid()],
            ARRAY[sha256('7'), sha256('8')],
            ARRAY[lpad('7', 40, '0'), lpad('{DOMAINS}', 40, '0')],
            ARRAY[true, true],
            ARRAY[true, true],
            ARRAY[
                '{{"needed": "host", "emails": "a,b"}}', '{{"retain": {{"reference": "lead 1"}}}}'
            ]::jsonb[],
            '1', '93 days', '1 day', '15 minutes', ARRAY['expires_at']
        )
        """
    )
    plan = json.loads(explained)[0]["Plan"]
    found = nodes(plan)
    assert {node["Relation Name"] for node in found if "Relation Name" in node} >= {
        "account", "api_key", "certificate", "connection", "ownership", "visibility_grant",
    }  # fmt: skip
    assert {node["Node Type"] for node in found}.isdisjoint({"Seq Scan", "Hash Join", "Merge Join"})
    # Two questions that read a handful of index pages each.
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 200
