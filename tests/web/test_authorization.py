"""Every operation of the API works for whom its document says, and for nobody else.

What is called, with which body, and who may call it, comes from openapi.yaml. The same call that is
refused to others has to work for the account whose resource it is about.
"""

from base64 import b64encode
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import httpx
import pytest
import yaml

from service.accounts import keys
from service.accounts.keys import new_key
from service.ownership import claims
from tests.answers.test_log import sealed
from tests.batches.parts import answered, upload
from tests.builders import Company, World, basic, by, member_of, web_id
from tests.surfer import ORIGIN

DOCUMENT = yaml.safe_load((Path(__file__).parents[2] / "openapi.yaml").read_text())

# What a UUID in a query may be without being about something of an account.
PLACES_IN_LISTS = {"cursor"}

# Resources that nobody has.
UNKNOWN = {
    **dict.fromkeys(
        ("key_id", "user_id", "invitation_id", "connection_id", "as", "answer_id", "batch_id"),
        str(uuid4()),
    ),
    "cert_id": web_id(),
    "name": "unknown.example",
}

# These are about an invitation that the account received, and the others about one that it sent.
ABOUT_RECEIVED = {"acceptInvitation", "declineInvitation"}

# This is about a batch that has not ended, and the others about one that has.
ABOUT_UNFINISHED = {"cancelBatch"}

# These are about resources, but answer anyone with a key.
ANSWER_STRANGERS = {
    "validateCertificateId": "without a vendor, it tells only what the form of the id does",
}


@dataclass(frozen=True)
class Operation:
    """An operation as the document describes it."""

    id: str
    method: str
    path: str
    needs_key: bool
    in_path: tuple[str, ...]
    in_query: tuple[str, ...]
    required: dict[str, str]
    filters: tuple[dict[str, str], ...]
    statuses: frozenset[int]
    media_type: str | None
    body: Any

    @property
    def is_about_a_resource(self) -> bool:
        return bool(self.in_path or self.in_query)


def operation(path: str, method: str, described: Any) -> Operation:
    """Read an operation. Its resources are in the path, or are ids in the query."""
    parameters = described.get("parameters", [])
    content = described.get("requestBody", {}).get("content", {})
    media_type = next(iter(content), None)
    return Operation(
        id=described["operationId"],
        method=method.upper(),
        path=path,
        needs_key=described["security"] != [{}],
        in_path=tuple(each["name"] for each in parameters if each["in"] == "path"),
        in_query=tuple(
            each["name"]
            for each in parameters
            if each["in"] == "query"
            and "uuid" in str(each["schema"])
            and each["name"] not in PLACES_IN_LISTS
        ),
        required={
            each["name"]: each["example"]
            for each in parameters
            if each["in"] == "query" and each["required"]
        },
        filters=tuple(
            {each["name"]: value}
            for each in parameters
            for value in each["schema"].get("enum", ())
            if value is not None
        ),
        statuses=frozenset(map(int, described["responses"])),
        media_type=media_type,
        body=None if media_type is None else content[media_type]["example"],
    )


OPERATIONS = [
    operation(path, method, described)
    for path, methods in DOCUMENT["paths"].items()
    for method, described in methods.items()
]
WITH_KEY = [each for each in OPERATIONS if each.needs_key]
PUBLIC = [each for each in OPERATIONS if not each.needs_key]


def each_of(operations: list[Operation]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("operation", operations, ids=lambda each: each.id)


@dataclass(frozen=True)
class Stage:
    """An account that has one of everything, and those who are not it."""

    world: World
    owner: Company
    stranger: Company
    suspended: Company
    revoked: str
    session: str
    resources: dict[str, str]
    received: str
    unfinished: str

    async def call(
        self, operation: Operation, headers: dict[str, str], resources: dict[str, str] | None = None
    ) -> httpx.Response:
        """Call an operation about the owner's resources, or others."""
        named = dict(self.resources if resources is None else resources)
        if resources is None and operation.id in ABOUT_RECEIVED:
            named["invitation_id"] = self.received
        if resources is None and operation.id in ABOUT_UNFINISHED:
            named["batch_id"] = self.unfinished
        body = (
            {"content": operation.body.encode()}
            if isinstance(operation.body, str)
            else {"json": operation.body}
        )
        media_type = {"Content-Type": operation.media_type} if operation.media_type else {}
        return await self.world.client.request(
            operation.method,
            operation.path.format_map(named),
            params=operation.required | {name: named[name] for name in operation.in_query},
            headers={**media_type, **headers},
            **cast("Any", body),
        )

    def without_ids(self, response: httpx.Response) -> str:
        text = response.text
        for value in (
            *self.resources.values(), self.received, self.unfinished, *UNKNOWN.values()
        ):  # fmt: skip
            text = text.replace(value, "…")
        return text

    def without_a_key(self) -> dict[str, dict[str, str]]:
        """Headers that hold no valid key, whatever else they hold."""
        key = self.owner.key
        return {
            "nothing": {},
            "an unknown key": basic(new_key()),
            "a revoked key": basic(self.revoked),
            "the digits of a key": basic(key.removeprefix("cok_")),
            "a key in capitals": basic(key.upper()),
            "a key and a space": basic(f"{key} "),
            "a key as the user": basic("", user=key),
            "a session as the key": basic(self.session),
            "an empty header": {"Authorization": ""},
            "a scheme alone": {"Authorization": "Basic"},
            "a bare key": {"Authorization": key},
            "another scheme": {"Authorization": f"Bearer {key}"},
            "another scheme for the same": {
                "Authorization": basic(key)["Authorization"].replace("Basic", "Bearer")
            },
            "a key without base64": {"Authorization": f"Basic X:{key}"},
            "no colon": {"Authorization": f"Basic {b64encode(key.encode()).decode()}"},
            "no UTF-8": {"Authorization": f"Basic {b64encode(b'X:' + bytes([255])).decode()}"},
            "a session": {"Cookie": f"session={self.session}"},
            "a session of the site": {
                "Cookie": f"session={self.session}",
                "Origin": ORIGIN,
                "Sec-Fetch-Site": "same-origin",
            },
            "a key in a cookie": {"Cookie": f"session={key}"},
            "a key in another header": {"X-Api-Key": key},
        }


@pytest.fixture
async def stage(world: World, without_dns: None, request: pytest.FixtureRequest) -> Stage:
    # Batches and seals take time, and few operations are about them.
    callspec = getattr(request.node, "callspec", None)
    about = "" if callspec is None else callspec.params["operation"].path
    owner, partner, inviter = [await world.company() for _ in range(3)]
    stranger, suspended = await world.company(), await world.company()
    await world.suspend(suspended)
    await world.connect(partner, owner)
    await member_of(world, owner, "al@owner.example")
    sent = await world.invite(owner, "pat@seller.example")
    received = await world.invite(inviter, owner.email)
    async with world.database.general.transaction() as connection:
        await claims.add(connection, owner.id, "owner.example", by(owner), covers_subdomains=True)
        key_id, _ = await keys.create_key(connection, owner.id)
        revoked_id, revoked = await keys.create_key(connection, owner.id)
        await keys.revoke_own_key(connection, owner.id, revoked_id, by(owner))
    cert_id = web_id()
    line = {"cert_id": cert_id, "insights": {"properties": {"domain": "lead.example"}}}
    imported = await world.client.post("/v1/certificates", headers=owner.headers, json=line)
    assert imported.status_code == 200, imported.text
    assert (await world.ask(owner, cert_id)).status_code == 200
    (answer,) = await world.fetch("SELECT id FROM answer")
    (connected,) = await world.fetch("SELECT id FROM connection")
    (member,) = await world.fetch("SELECT id FROM app_user WHERE email = 'al@owner.example'")
    batch_id, unfinished = uuid4(), uuid4()
    if not about or "batch_id" in about or "answers" in about:
        file = cert_id.encode()
        batch_id = (await answered(world, owner, file))["id"]
        unfinished = (await upload(world, owner, file)).json()["id"]
    if "/log/" in about:
        assert (await world.ask(owner, cert_id)).status_code == 200
        await sealed(world)
    resources = {
        "cert_id": cert_id,
        "name": "owner.example",
        "key_id": key_id,
        "user_id": member["id"],
        "invitation_id": sent.id,
        "connection_id": connected["id"],
        "as": connected["id"],
        "answer_id": answer["id"],
        "batch_id": batch_id,
    }
    return Stage(
        world,
        owner,
        stranger,
        suspended,
        revoked,
        await world.session(owner.email),
        {name: str(value) for name, value in resources.items()},
        received=str(received.id),
        unfinished=str(unfinished),
    )


@each_of(WITH_KEY)
async def test_operation_works_with_a_key_of_the_account_and_with_nothing_else(
    stage: Stage, operation: Operation
) -> None:
    """All refusals are alike: none tells whether a key or a resource was ever there."""
    world, before = stage.world, await stage.world.contents()
    told = set()
    for what, headers in stage.without_a_key().items():
        response = await stage.call(operation, headers)
        assert response.status_code == 401, what
        assert response.headers["www-authenticate"].startswith("Basic "), what
        told.add(response.content)
    told.add((await stage.call(operation, {}, UNKNOWN)).content)
    assert len(told) == 1
    assert (await stage.call(operation, stage.suspended.headers)).status_code == 402
    assert {401, 402} <= operation.statuses
    if operation.method == "GET":
        path = operation.path.format_map(stage.resources)
        assert (await world.client.head(path)).status_code == 401
    assert await world.contents() == before
    if operation.is_about_a_resource:
        expected = 200 if operation.id in ANSWER_STRANGERS else 404
        assert expected in operation.statuses
        refused = await stage.call(operation, stage.stranger.headers)
        absent = await stage.call(operation, stage.stranger.headers, UNKNOWN)
        assert refused.status_code == absent.status_code == expected
        assert stage.without_ids(refused) == stage.without_ids(absent)
        assert await world.contents() == before
    response = await stage.call(operation, stage.owner.headers)
    assert response.is_success, response.text
    assert response.status_code in operation.statuses


async def test_lists_are_of_ones_own(stage: Stage) -> None:
    """In every list, the owner finds what it has, and the stranger nothing of it."""
    company = stage.owner
    secrets = {
        *stage.resources.values(),
        stage.received,
        str(company.id),
        company.name,
        company.email,
    }
    unseen = set(secrets)
    for operation in WITH_KEY:
        if operation.method == "GET" and not operation.in_path:
            for query in ({}, *operation.filters):
                own, others = [
                    await stage.world.client.get(operation.path, params=query, headers=who.headers)
                    for who in (company, stage.stranger)
                ]
                assert own.status_code == others.status_code == 200
                unseen -= {secret for secret in secrets if secret in own.text}
                assert not [secret for secret in secrets if secret in others.text], operation.id
    assert not unseen


@each_of(PUBLIC)
async def test_public_operation_asks_nobody_who_they_are(
    stage: Stage, operation: Operation
) -> None:
    answers = {
        (response.status_code, response.content)
        for headers in (*stage.without_a_key().values(), stage.suspended.headers)
        for response in [await stage.call(operation, headers)]
    }
    assert [status for status, _ in answers] == [200]


async def test_examples_are_of_every_parameter_and_no_other(stage: Stage) -> None:
    named = {name for each in OPERATIONS for name in (*each.in_path, *each.in_query)}
    assert named == set(stage.resources) == set(UNKNOWN)
    ids = {each.id for each in OPERATIONS}
    assert ids.issuperset(ABOUT_RECEIVED | ABOUT_UNFINISHED | ANSWER_STRANGERS.keys())
