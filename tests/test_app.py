"""Everything around the endpoint: health, readiness, metrics, errors, documents, logs."""

import asyncio
import io
import json
import logging
import sys
import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest
import structlog
import yaml

from service.app import create_app, openapi_yaml
from service.demo import demo, examples
from service.postgres.migrations import migrate
from service.postgres.pools import Database
from service.processes import logs
from service.processes.logs import configure_logs
from service.web import front
from tests.builders import World, basic, web_id
from tests.conftest import SETTINGS, living

OPENAPI = Path(__file__).parent.parent / "openapi.yaml"
NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


async def test_health_and_readiness(world: World) -> None:
    assert (await world.client.get("/health")).json()["status"] == "ok"
    assert (await world.client.get("/ready")).json() == {"status": "ready"}


async def test_process_without_a_database_lives_but_is_not_ready_and_answers_no_owner() -> None:
    async with living(create_app(NOWHERE, SETTINGS)) as client:
        assert (await client.get("/health")).status_code == 200
        for response in (
            await client.get("/ready"),
            await client.post(
                f"/{web_id()}",
                headers=basic("cok_1"),
                json={"insights": {"properties": ["confirmed_owner"]}},
            ),
            await client.post("/malformed", headers=basic("cok_1"), json={}),
            await client.post("/v1/certificates", headers=basic("cok_1"), content=b""),
        ):
            assert response.status_code == 503
            assert response.headers["retry-after"] == "1"
            assert "Account" not in response.text


async def test_unavailable_answer_has_the_v4_shape() -> None:
    async with living(create_app(NOWHERE, SETTINGS)) as client:
        response = await client.post(
            f"/{web_id()}", headers=basic("cok_1"), json={"insights": {"properties": []}}
        )
    assert response.json() == {
        "outcome": "error",
        "reason": "the database can't be reached, or is too busy",
    }


@pytest.mark.parametrize("table", ["answer", "visibility_grant", "certificate", "account"])
async def test_process_is_not_ready_while_no_answer_can_be_recorded(
    world: World, table: str
) -> None:
    async with world.database.general.transaction() as connection:
        await connection.execute(f"LOCK TABLE {table} IN ACCESS EXCLUSIVE MODE")
        began = time.monotonic()
        checks = [world.client.get("/ready") for _ in range(20)]
        assert {each.status_code for each in await asyncio.gather(*checks)} == {503}
        assert time.monotonic() - began < 2
    assert (await world.client.get("/ready")).status_code == 200


async def test_process_is_not_ready_on_a_read_only_database(
    empty_database_url: str, shared_database: Database
) -> None:
    await migrate(empty_database_url)
    name = urlsplit(empty_database_url).path.removeprefix("/")
    async with living(create_app(empty_database_url, SETTINGS)) as client:
        assert (await client.get("/ready")).status_code == 200
    async with shared_database.general.connection() as connection:
        await connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with living(create_app(empty_database_url, SETTINGS)) as client:
        assert (await client.get("/ready")).status_code == 503


async def test_readiness_leaves_nothing_behind(world: World) -> None:
    assert (await world.client.get("/ready")).status_code == 200
    assert await world.fetch("SELECT FROM answer") == []


async def test_requests_beyond_what_a_process_has_in_progress_are_refused_at_once(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(front, "MOST_REQUESTS", 0)
    company = await world.company()
    began = time.monotonic()
    for response in (
        await world.ask(company, web_id()),
        await world.client.get("/v1/account", headers=company.headers),
        await world.client.get("/"),
    ):
        assert response.status_code == 503
        assert response.headers["Retry-After"] == "1"
    assert time.monotonic() - began < 0.25
    for path in ("/health", "/ready", "/metrics"):
        assert (await world.client.get(path)).status_code == 200


async def test_process_is_not_ready_before_its_schema_is(empty_database_url: str) -> None:
    async with living(create_app(empty_database_url, SETTINGS)) as client:
        response = await client.get("/ready")
        assert response.status_code == 503
        assert "confirmed-owner migrate" in response.json()["detail"]


async def test_unexpected_error_tells_nothing_and_is_logged_without_values(world: World) -> None:
    viewer, cert_id = await world.company(), await world.certificate(domain="secret.example")
    await world.fetch("ALTER TABLE answer RENAME TO gone")
    try:
        with structlog.testing.capture_logs() as logged:
            response = await world.ask(viewer, cert_id)
    finally:
        await world.fetch("ALTER TABLE gone RENAME TO answer")
    assert response.status_code == 500
    assert response.json() == {"outcome": "error", "reason": "An unexpected error occurred"}
    line, access = logged
    assert (access["event"], access["path"], access["status"]) == ("request", "/{cert_id}", 500)
    assert (line["event"], line["error"]) == ("unexpected error", "UndefinedTableError")
    assert any("insert_answers" in frame for frame in line["where"])
    for secret in (viewer.key, cert_id, "secret.example"):
        assert secret not in str(logged)


async def test_operation_that_is_not_offered_is_named(world: World) -> None:
    viewer = await world.company()
    response = await world.client.post(
        f"/{web_id()}", headers=viewer.headers, json={"verify": {"advertiser_name": "A"}}
    )
    assert response.status_code == 403
    assert response.json() == {
        "outcome": "error",
        "reason": "Unavailable product requested",
        "errors": {"detail": "this service does not offer the verify operation"},
    }


async def test_unknown_path_is_a_problem_document(world: World) -> None:
    response = await world.client.get("/v1/nothing")
    assert response.status_code == 404
    assert response.headers["content-type"] == "application/problem+json"
    assert response.json()["status"] == 404


async def test_metrics_count_answers_and_refusals(world: World) -> None:
    viewer = await world.company()
    before = await counts(world.client)
    await world.ask(viewer, await world.certificate(domain="example.com"))
    await world.ask(viewer, web_id())
    after = await counts(world.client)
    changed = {
        name: after[name] - before.get(name, 0) for name in after if after[name] != before.get(name)
    }
    assert changed['confirmed_owner_requests_total{status="200"}'] == 1
    assert changed['confirmed_owner_requests_total{status="404"}'] == 1
    assert changed['confirmed_owner_answers_total{status="none"}'] == 1
    assert changed["confirmed_owner_batch_size_count"] == 2


async def counts(client: httpx.AsyncClient) -> dict[str, float]:
    lines = (await client.get("/metrics")).text.splitlines()
    pairs = [line.rsplit(" ", 1) for line in lines if line.startswith("confirmed_owner_")]
    return {name: float(value) for name, value in pairs if not name.endswith("_created")}


async def test_committed_openapi_document_is_the_codes(world: World) -> None:
    assert OPENAPI.read_text() == openapi_yaml(), "run “make openapi”"
    del world


async def test_documentation_is_served_and_loads_nothing_from_elsewhere(world: World) -> None:
    page = await world.client.get("/schema")
    assert page.status_code == 200
    assert "https://" not in page.text.split("spec:")[0]
    for name in ("swagger-ui-bundle.js", "swagger-ui.css", "swagger-ui-standalone-preset.js"):
        assert f"/schema/static/{name}" in page.text
        assert (await world.client.get(f"/schema/static/{name}")).status_code == 200
    document = await world.client.get("/schema/openapi.json")
    assert "/{cert_id}" in document.json()["paths"]


@pytest.fixture
def json_logs(monkeypatch: pytest.MonkeyPatch) -> Iterator[io.StringIO]:
    """Where the log goes as JSON during a test."""
    written, root = io.StringIO(), logging.getLogger()
    handlers, level = root.handlers, root.level
    for stream in ("stderr", "__stderr__"):
        monkeypatch.setattr(sys, stream, written)
    monkeypatch.setattr(logs, "_plain", None)
    configure_logs("json")
    yield written
    root.handlers, root.level = handlers, level
    # Otherwise loggers that later tests use first would keep these settings.
    structlog.reset_defaults()


def test_log_lines_for_machines_are_json(json_logs: io.StringIO) -> None:
    logging.getLogger("_granian").warning("a library's line")
    line = json.loads(json_logs.getvalue())
    assert line["event"] == "a library's line"
    assert line["level"] == "warning"
    assert line["timestamp"]


def test_line_of_a_request_looks_like_any_other(json_logs: io.StringIO) -> None:
    told: Any = {
        "method": "POST", "path": "/{cert_id}", "status": 200, "milliseconds": 1.5,
        "request_id": "one",
    }  # fmt: skip
    logs.log_request(**told)
    structlog.get_logger("another").info("request", **told)
    direct, usual = map(json.loads, json_logs.getvalue().splitlines())
    when = [datetime.fromisoformat(line.pop("timestamp")) for line in (direct, usual)]
    assert direct == usual
    assert timedelta() <= when[1] - when[0] < timedelta(seconds=5)


def test_examples_are_the_demos() -> None:
    assert (examples.HARBOR, examples.BRIGHT) == (demo.HARBOR, demo.BRIGHT)
    assert demo._cert_id(1, "web") == examples.CERTIFICATE
    assert f"`{demo._key(demo.HARBOR)}`" in OPENAPI.read_text()


def test_every_operation_is_described_with_an_example_and_its_security() -> None:
    document = yaml.safe_load(OPENAPI.read_text())
    seen = set()
    for path in document["paths"].values():
        for method, operation in path.items():
            if method not in ("get", "post", "put", "patch", "delete"):
                continue
            name = operation["operationId"]
            seen.add(name)
            assert operation["summary"], name
            assert len(operation["summary"]) < 80, name
            assert operation["description"], name
            assert operation["security"] in ([{"Basic": []}], [{}]), name
            for parameter in operation.get("parameters", ()):
                assert parameter["in"] != "path" or "example" in parameter, name
            bodies = [
                operation.get("requestBody"),
                operation["responses"][min(operation["responses"])],
            ]
            for body in filter(None, bodies):
                for content in body.get("content", {}).values():
                    assert "example" in content, name
    assert seen == set(examples.EXAMPLES)


async def test_examples_of_the_demo_work_after_it_is_loaded(world: World) -> None:
    async with world.database.general.transaction() as connection:
        loaded = await demo.load(connection, "http://service")
    headers = basic(loaded.accounts[demo.HARBOR].api_key)
    asked = examples.EXAMPLES["runOperations"]
    response = await world.client.post(
        f"/{asked.parameters['cert_id']}", headers=headers, json=asked.request
    )
    told = response.json()["insights"]["properties"]
    assert told["confirmed_owner"] == demo.BRIGHT
    for path, name in (
        ("/v1/certificates", "importCertificates"),
        ("/v1/invitations", "invite"),
        ("/v1/account/members", "inviteMembers"),
        ("/v1/account/keys", "createKey"),
        ("/v1/domains", "addDomains"),
    ):
        body = examples.EXAMPLES[name].request
        if isinstance(body, str):
            response = await world.client.post(
                path, headers={**headers, "Content-Type": "application/x-ndjson"}, content=body
            )
        else:
            response = await world.client.post(path, headers=headers, json=body)
        assert response.status_code in (200, 201), response.text


async def test_document_is_served_as_yaml(world: World) -> None:
    response = await world.client.get("/schema/openapi.yaml")
    assert yaml.safe_load(response.text) == yaml.safe_load(OPENAPI.read_text())
