"""What the operator sees of what is going on, as a command and as metrics."""

import asyncio
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import msgspec
import pytest
from prometheus_client import REGISTRY

from service import allowance
from service.app import create_app
from service.errors import LimitReached, ServiceError
from service.insights.upstream import FAILURES_BEFORE_OPEN, Vendor
from service.mail.records import Unsent
from service.ownership.records import DueChecks
from service.postgres.load import Load
from service.postgres.pools import open_database
from service.processes.queue import Depth, enqueue
from service.processes.shared_metrics import Process, Told
from service.status import readings
from service.status.readings import Disk, Known, read_known
from service.status.report import Report, in_words, report_of
from service.web import front
from tests.builders import World, web_id
from tests.conftest import SETTINGS, living
from tests.running import COMMAND, as_json, confirmed_owner, environment, invoked, running

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
QUIET = Known(Load(10**9, 10, 100), [], Unsent(0, 0, 0), DueChecks(0, 0, 0.0), [])
ROOMY = Disk(100 * 10**9, 50 * 10**9)
BOTH = [Process(1, "serving", 0.5), Process(2, "jobs", 0.5)]


def seen(env: dict[str, str], *, is_quiet: bool = False, **expected: int) -> Any:
    """The status, once it shows that many processes of each role, and if asked for, no trouble."""
    deadline = time.monotonic() + 15
    while True:
        status = as_json("status", env=env)
        roles = [process["role"] for process in status["processes"]]
        is_expected = {role: roles.count(role) for role in set(roles)} == expected
        if is_expected and not (is_quiet and status["attention"]):
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.2)


def test_running_processes_are_shown_on_any_address_and_killed_ones_are_not(
    env: dict[str, str], tmp_path: Path
) -> None:
    env |= {"WORKERS": "2", "HOST": "0.0.0.0"}  # noqa: S104 - it has no data
    with running(env, tmp_path / "log") as service:
        # What has just started may still wait for its first connections.
        before = seen(env, is_quiet=True, serving=2, jobs=1)
        pids = {process["pid"] for process in before["processes"]}
        assert pids == {each.pid for each in (*service.workers(), *service.job_workers())}
        pools = {(pool["role"], pool["pool"]): pool for pool in before["connections"]}
        assert pools["serving", "general"]["most"] == 16
        killed = service.workers()[0]
        killed.kill()
        killed.wait(5)
        after = seen(env, serving=2, jobs=1)
        assert killed.pid not in {process["pid"] for process in after["processes"]}
        text = httpx.get(f"{service.url}/metrics").text
        assert f'pid="{killed.pid}"' not in text
        assert 'connections_most{pool="general",role="serving"} 16.0' in text
        # Without the database, the rest is shown.
        away = as_json("status", env={**env, "DATABASE_URL": NOWHERE}, expect=1)
        assert len(away["processes"]) == 3
        assert away["database"] is None
        assert any("can't connect to the database" in each for each in away["attention"])
    words = invoked("status", env=env).stdout
    assert "The service is not running on this STATE_DIR." in words
    assert "Nothing needs attention" not in words


def test_status_starts_nothing_and_makes_nothing(state_dir: Path) -> None:
    words = confirmed_owner("status", env=environment(state_dir), expect=1).stdout.decode()
    assert "the embedded PostgreSQL is not running" in words
    assert not state_dir.exists()


def test_status_leaves_an_old_schema_as_it_is(env: dict[str, str]) -> None:
    for _ in range(2):
        status = as_json("status", env=env, expect=1)
        assert "confirmed-owner migrate" in status["database_problem"]


def test_worker_of_its_own_is_shown(env: dict[str, str], tmp_path: Path) -> None:
    as_json("migrate", env=env)
    with (tmp_path / "log").open("wb") as log:
        worker = subprocess.Popen([*COMMAND, "worker"], env=env, stderr=log)
    try:
        assert seen(env, jobs=1)["processes"][0]["pid"] == worker.pid
    finally:
        worker.terminate()
        worker.wait(15)
    assert seen(env)["processes"] == []


async def test_what_the_database_knows_is_counted(world: World) -> None:
    company, other, suspended = [await world.company() for _ in range(3)]
    async with world.database.general.transaction() as connection:
        await enqueue(connection, "one", b"", b"", b"", b"", b"")
        await connection.execute("UPDATE pgqueuer SET execute_after = now() - interval '90 s'")
        await connection.execute(
            """
            UPDATE pgqueuer SET status = 'picked', heartbeat = now() - seconds * interval '1 s'
            FROM (
                SELECT id, row_number() OVER () * 20 AS seconds FROM pgqueuer LIMIT 2
            ) AS chosen WHERE chosen.id = pgqueuer.id
            """
        )
        await connection.execute(
            """
            UPDATE pgqueuer SET execute_after = now() + interval '1 h' WHERE id = (
                SELECT max(id) FROM pgqueuer WHERE status = 'queued'
            )
            """
        )
        for state, days in (
            ("queued", 0), ("sending", 0), ("retrying", 0), ("failed", 0), ("failed", 2),
            ("cancelled", 0), ("retrying", 9),
        ):  # fmt: skip
            await connection.execute(
                """
                INSERT INTO mail (id, kind, recipient, params, state, created_at)
                VALUES ($1, 'x', 'a@b.example', '{}', $2, now() - $3 * interval '1 day')
                """,
                uuid4(), state, days,
            )  # fmt: skip
        for owner, due in ((company, -1), (company, -9), (company, 9), (suspended, -9)):
            await connection.execute(
                """
                INSERT INTO domain_claim (
                    id, account_id, name, covers_subdomains, code, added_at, next_check_at
                ) VALUES ($1, $2, $3, false, $3, now(), now() + $4 * interval '1 min')
                """,
                uuid4(), owner.id, f"{uuid4().hex}.example", due,
            )  # fmt: skip
        await connection.execute(
            "UPDATE account SET suspended_at = now() WHERE id = $1", suspended.id
        )
        await connection.execute(
            "INSERT INTO account_limit (account_id, purchases) VALUES ($1, 1)", company.id
        )
        for who in (company, other):
            await allowance.take(connection, "calls to the vendor", str(who.id), 10)
        await allowance.take(connection, "sign-in", "jo@example.com", 10)
        known = await read_known(connection)
    (queue,) = known.queues
    assert msgspec.structs.replace(queue, oldest=0) == Depth("one", 2, 1, 1, 1, 0)
    assert 90 <= queue.oldest < 100
    assert known.mails == Unsent(queued=2, retrying=1, failed=1)
    assert (known.checks.due, known.checks.overdue) == (2, 1)
    assert 540 <= known.checks.oldest < 550
    assert known.bought_out == [company.name]
    assert known.load.bytes > 1_000_000
    assert 0 < known.load.connections < known.load.most_connections


async def metrics_of(client: httpx.AsyncClient) -> dict[str, float]:
    lines = (await client.get("/metrics")).text.splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if not line.startswith("#")]
    return {name.removeprefix("confirmed_owner_"): float(value) for name, value in pairs}


async def test_metrics_have_what_the_database_knows_at_most_so_old(
    world: World, migrated_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with living(create_app(migrated_url, SETTINGS)) as client:
        assert (await metrics_of(client))["database_read"] == 1
        await world.fetch(
            """
            INSERT INTO pgqueuer (priority, entrypoint, status, execute_after)
            VALUES (0, 'one', 'queued', now() - interval '1 min')
            """
        )
        waiting = 'jobs{job="one",state="waiting"}'
        assert waiting not in await metrics_of(client)
        monkeypatch.setattr(readings, "KEPT_FOR", 0.0)
        found = await metrics_of(client)
        assert found[waiting] == 1
        assert found['job_oldest_seconds{job="one"}'] >= 60
        assert found["database_read"] == 1
        assert found["disk_bytes"] > found["disk_free_bytes"] > 0


async def test_metrics_neither_fail_nor_hang_without_the_database(
    world: World, migrated_url: str
) -> None:
    async with living(create_app(NOWHERE, SETTINGS)) as client:
        found = await metrics_of(client)
        assert found["database_read"] == 0
        assert "database_bytes" not in found
        assert "requests_in_progress" in found
    async with living(create_app(migrated_url, SETTINGS)) as client:
        assert (await client.get("/ready")).status_code == 200
        async with world.database.general.transaction() as connection:
            await connection.execute("LOCK TABLE mail IN ACCESS EXCLUSIVE MODE")
            began = time.monotonic()
            scraping = asyncio.create_task(metrics_of(client))
            await asyncio.sleep(0.1)
            # Readiness doesn't wait for the metrics' numbers.
            assert (await client.get("/ready")).status_code == 200
            assert not scraping.done()
            assert (await scraping)["database_read"] == 0
            assert time.monotonic() - began < 2.5


async def test_pools_tell_what_is_in_use_and_who_waits(migrated_url: str) -> None:
    async with open_database(migrated_url, general=1) as database:
        assert database.uses["general"] == (0, 0, 1)
        async with database.general.connection():
            assert database.uses["general"] == (1, 0, 1)

            async def take() -> None:
                async with database.general.connection():
                    pass

            waiting = asyncio.create_task(take())
            await asyncio.sleep(0.05)
            assert database.uses["general"] == (1, 1, 1)
        await waiting
        assert database.uses["general"] == (0, 0, 1)
        assert database.uses["answering"].in_use == 0


def value(name: str, **labels: str) -> float:
    return REGISTRY.get_sample_value(f"confirmed_owner_{name}", labels) or 0.0


async def test_refusals_are_counted_by_reason_and_limits_by_name(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    company = await world.company()
    before = value("refused_total", reason="overloaded")
    monkeypatch.setattr(front, "MOST_REQUESTS", 0)
    await world.ask(company, web_id())
    await world.client.get("/v1/account", headers=company.headers)
    assert value("refused_total", reason="overloaded") == before + 2
    monkeypatch.undo()
    before = value("refused_total", reason="unavailable")
    async with living(create_app(NOWHERE, SETTINGS)) as client:
        await client.get("/v1/account", headers=company.headers)
    assert value("refused_total", reason="unavailable") == before + 1
    before = value("limits_reached_total", limit="tries")
    async with world.database.general.connection() as connection:
        await allowance.take(connection, "tries", "me", 1)
        assert value("limits_reached_total", limit="tries") == before
        with pytest.raises(LimitReached):
            await allowance.take(connection, "tries", "me", 1)
    assert value("limits_reached_total", limit="tries") == before + 1


@pytest.mark.parametrize(
    ("failing", "whom"),
    [(httpx.ConnectError("no"), "everyone"), (httpx.ReadError("no"), "account")],
    ids=["unreachable", "failing"],
)
async def test_open_circuit_breakers_are_told_of(failing: Exception, whom: str) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failing

    async with httpx.AsyncClient(transport=httpx.MockTransport(fail), base_url="http://v") as http:
        vendor = Vendor(http, 6.0)
        account_id = uuid4()
        for _ in range(FAILURES_BEFORE_OPEN):
            vendor.tell()
            assert value("upstream_breakers_open", whom=whom) == 0
            with pytest.raises(ServiceError):
                await vendor.run(account_id, web_id(), b"{}", retains=True)
        vendor.tell()
    found = {each: value("upstream_breakers_open", whom=each) for each in ("everyone", "account")}
    assert found == {"everyone": 0, "account": 0, whom: 1}


def reported(
    known: Known | str = QUIET,
    processes: Sequence[Process] = BOTH,
    disk: Disk = ROOMY,
    **samples: tuple[dict[str, str], float],
) -> Report:
    told = {f"confirmed_owner_{name}": [sample] for name, sample in samples.items()}
    return report_of(Told(processes, told), known, disk)


def test_quiet_service_needs_no_attention() -> None:
    report = reported(refused_total=({"reason": "overloaded"}, 7.0), requests_in_progress=({}, 3.0))
    assert report.attention == []
    words = in_words(report)
    assert "overloaded: 7" in words
    assert "3 in progress" in words
    assert "1.0 GB, 10 of 100 connections" in words
    assert "50.0 GB of 100.0 GB free (50%)" in words
    assert words.endswith("Nothing needs attention.")


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (reported(processes=[]), "not running"),
        (reported(processes=BOTH[:1]), "does background jobs"),
        (reported(processes=[*BOTH, Process(3, "serving", 11.0)]), "3 (serving) hangs"),
        (reported("it is gone"), "can't be asked: it is gone"),
        (reported(database_down=({"role": "serving"}, 1.0)), "doesn't respond to 1"),
        (reported(upstream_breakers_open=({"whom": "everyone"}, 1.0)), "can't be reached"),
        (reported(upstream_breakers_open=({"whom": "account"}, 2.0)), "for 2 accounts"),
        (reported(disk=Disk(100, 4)), "nearly full"),
        (reported(msgspec.structs.replace(QUIET, load=Load(1, 91, 100))), "max_connections"),
        (reported(msgspec.structs.replace(QUIET, mails=Unsent(0, 2, 0))), "2 emails"),
        (
            reported(msgspec.structs.replace(QUIET, checks=DueChecks(9, 8, 600.0))),
            "8 checks of domains are overdue, the oldest due for 10 min",
        ),
        (reported(msgspec.structs.replace(QUIET, bought_out=["Acme"])), "Acme has used up"),
        (
            reported(msgspec.structs.replace(QUIET, queues=[Depth("a", 1, 0, 0, 0, 61.0)])),
            "“a” has waited for 1 min",
        ),
        (
            reported(msgspec.structs.replace(QUIET, queues=[Depth("a", 0, 0, 0, 3, 0.0)])),
            "died at 3 jobs “a”",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_what_needs_attention_is_said_in_words(report: Report, words: str) -> None:
    assert len(report.attention) == 1
    assert words in report.attention[0]
    assert in_words(report).split("NEEDS ATTENTION\n")[1] == f"- {report.attention[0]}"


def test_waiting_for_connections_needs_attention() -> None:
    of = {"role": "serving", "pool": "general"}
    report = reported(
        connections=(of, 8.0), connections_most=(of, 8.0), connections_awaited=(of, 5.0)
    )
    assert report.attention == ["5 wait for a connection of the pool “general” (serving)."]
    assert "serving: general 8 of 8 (5 wait)" in in_words(report)


def test_jobs_that_wait_for_seconds_or_are_tried_later_need_no_attention() -> None:
    queues = [Depth("a", 5, 3, 2, 0, 59.0)]
    assert reported(msgspec.structs.replace(QUIET, queues=queues)).attention == []
