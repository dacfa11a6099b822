"""Rules for all management API requests: keys, bodies, queries, idempotency."""

import asyncio
from typing import Any
from uuid import uuid4

import httpx
import pytest

from service.accounts import keys
from service.app import create_app
from tests.builders import Company, World
from tests.conftest import SETTINGS
from tests.parties import (
    ACCOUNT,
    CONNECTIONS,
    EVENTS,
    INVITATIONS,
    MEMBERS,
    VISIBILITY,
    partners,
    party,
    problem,
    two,
)

ID_ROUTES = [
    ("GET", "/v1/invitations/{invitation}"),
    *(("POST", f"/v1/invitations/{{invitation}}/{do}") for do in ("resend", "cancel")),
    *(("POST", f"/v1/invitations/{{invitation}}/{do}") for do in ("accept", "decline")),
    *((method, "/v1/connections/{connection}") for method in ("GET", "DELETE")),
    *((method, "/v1/connections/{connection}/grant") for method in ("PUT", "DELETE")),
    *((method, "/v1/connections/{connection}/grant-request") for method in ("POST", "DELETE")),
    *((method, "/v1/account/members/{member}") for method in ("PATCH", "DELETE")),
    ("GET", "/v1/account/visibility?as={connection}"),
]


ROUTES = [
    *(("GET", path) for path in (INVITATIONS, CONNECTIONS, VISIBILITY, ACCOUNT, MEMBERS, EVENTS)),
    *(("POST", path) for path in (INVITATIONS, MEMBERS)),
    ("PATCH", ACCOUNT),
    *ID_ROUTES,
]


BAD_VALUES: dict[str, list[object]] = {
    "emails": [[], [f"jo{number}@x.example" for number in range(51)], "jo@x.example", None],
    "emails[0]": [[7]],
    "reason": ["be_friends", 7, None],
    "note": ["See https://x.example/offer", "See www.x.example", "n" * 501, ["n"]],
    "vendor_label": [7],
    "colour": ["red"],
}


@pytest.mark.parametrize(
    ("field", "value"), [(field, value) for field in BAD_VALUES for value in BAD_VALUES[field]]
)
async def test_bad_unknown_or_missing_field_is_refused_by_its_name(
    world: World, field: str, value: object
) -> None:
    company = await party(world)
    body: dict[str, object] = {"emails": ["jo@x.example"], "reason": "receive_leads"}
    body[field.removesuffix("[0]")] = value
    body = {name: value for name, value in body.items() if value is not None}
    problem(await company.do("POST", INVITATIONS, body), 422, field)
    assert await company.pages(INVITATIONS) == []


@pytest.mark.parametrize(
    "path",
    [
        *(f"{INVITATIONS}?{name}=x" for name in ("state", "reason", "direction", "cursor")),
        *(f"{INVITATIONS}?limit={limit}" for limit in (0, 101)),
        f"{CONNECTIONS}?role=friend",
        f"{VISIBILITY}?as=x",
        f"{EVENTS}?cursor=x",
    ],
)
async def test_bad_query_is_refused_by_its_name(world: World, path: str) -> None:
    name = path.partition("?")[2].partition("=")[0]
    problem(await (await party(world)).do("GET", path), 422, name)


@pytest.mark.parametrize("at_once", [False, True])
async def test_request_with_the_same_key_is_carried_out_once(world: World, at_once: bool) -> None:
    buyer, _, path = await partners(world)
    resend = f"{await buyer.invited('jo@one.example')}/resend"
    invite = {"emails": ["jo@two.example", "bad"], "reason": "receive_leads"}
    for target, body in ((INVITATIONS, invite), (resend, None), (f"{path}/grant-request", None)):
        calls = [buyer.do("POST", target, body, f"key of {target}") for _ in range(2)]
        if at_once:
            one, other = await asyncio.gather(*calls)
        else:
            one, other = [await each for each in calls]
        assert one.status_code < 300, one.text
        assert (other.status_code, other.content) == (one.status_code, one.content), target
    mails = [to for to, _ in await world.mails("invitation")]
    assert mails == ["jo@one.example", "jo@one.example", "jo@two.example"]
    actions = [event["action"] for event in await buyer.pages(EVENTS)]
    assert actions.count("invitation.created") == 2
    assert actions.count("invitation.resent") == actions.count("grant.requested") == 1


async def test_key_is_for_one_request_of_one_account(world: World) -> None:
    one, other = await two(world)
    first = await one.invite("jo@x.example", key="k")
    invitation = f"{INVITATIONS}/{first.json()['items'][0]['id']}"
    problem(await one.invite("al@x.example", key="k"), 409)
    problem(await one.do("POST", f"{invitation}/resend", key="k"), 409)
    theirs = await other.invite("jo@x.example", key="k")
    assert theirs.status_code == 201
    assert theirs.json()["items"][0]["inviter"]["id"] == str(other.id)
    await one.do("POST", f"{invitation}/cancel")
    again = await one.invite("jo@x.example", key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    assert len(await one.pages(INVITATIONS)) == 1


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_nothing_is_done_or_told_without_a_key(world: World, method: str, path: str) -> None:
    buyer, _, connection = await partners(world)
    path = path.format(
        invitation=(await buyer.invited("jo@x.example")).rpartition("/")[2],
        connection=connection.rpartition("/")[2],
        member=await buyer.user_id(),
    )
    without = await world.client.request(method, path)
    unknown = await world.client.request(method, path, auth=("X", "no such key"))
    assert problem(without, 401) == problem(unknown, 401)
    assert "www-authenticate" in without.headers


@pytest.mark.parametrize(("method", "path"), ID_ROUTES)
async def test_ids_of_others_are_like_unknown_ones(world: World, method: str, path: str) -> None:
    buyer, _, connection = await partners(world)
    stranger = await party(world)
    ids = {
        "invitation": (await buyer.invited("jo@x.example")).rpartition("/")[2],
        "connection": connection.rpartition("/")[2],
        "member": await buyer.user_id(),
    }
    unknown = str(uuid4())
    body = {"role": "member"} if method == "PATCH" else None
    of_other = await stranger.do(method, path.format(**ids), body)
    of_nobody = await stranger.do(method, path.format(**dict.fromkeys(ids, unknown)), body)
    problem(of_other, 404)
    problem(of_nobody, 404)
    (other,) = [each for each in ids.values() if each in path.format(**ids)]
    assert of_other.text.replace(other, unknown) == of_nobody.text


async def test_body_that_does_not_arrive_holds_no_connection_to_the_database(
    world: World,
) -> None:
    company = await world.company()

    async def stalled() -> Any:
        await asyncio.sleep(1.5)
        yield b"{}"

    headers = {**company.headers, "Idempotency-Key": "k", "Content-Type": "application/json"}
    path = f"/v1/invitations/{company.id}/resend"
    stalling = [
        asyncio.create_task(world.client.post(path, headers=headers, content=stalled()))
        for _ in range(12)
    ]
    await asyncio.sleep(0.1)
    response = await asyncio.wait_for(world.client.get("/ready"), 1)
    assert response.status_code == 200
    assert {each.status_code for each in await asyncio.gather(*stalling)} == {404}


async def test_nul_in_a_filter_is_bad_input(world: World) -> None:
    company = await world.company()
    for path in ("/v1/invitations?email=%00", "/v1/events?action=a%00", "/v1/domains?cursor=%00"):
        response = await world.client.get(path, headers=company.headers)
        assert response.status_code == 422
        assert "NUL" in response.json()["detail"]


async def test_misspelt_filter_filters_nothing_and_is_refused(world: World) -> None:
    company = await world.company()
    response = await world.client.get("/v1/invitations?sate=pending", headers=company.headers)
    assert response.status_code == 422
    assert "sate" in response.json()["detail"]


PATHS = create_app("postgresql://", SETTINGS).openapi_schema.to_schema()["paths"]

# Every route that requires a key, from the API document.
OPERATIONS = [
    (method.upper(), path)
    for path, methods in PATHS.items()
    for method, operation in methods.items()
    if operation["security"] != [{}]
]


def test_every_route_of_the_api_needs_a_key_but_the_probes() -> None:
    assert PATHS.keys() - {path for _, path in OPERATIONS} == {
        "/health",
        "/ready",
        "/v1/log/checkpoint",
        "/v1/log/key",
        "/v1/log/proof",
    }
    assert len(OPERATIONS) >= len(ROUTES)


async def called(world: World, company: Company, method: str, path: str) -> httpx.Response:
    """The response to a call with existing ids."""
    ids = {
        "cert_id": await world.certificate(domain="a.example"),
        "name": "a.example",
        **dict.fromkeys(
            ("answer_id", "batch_id", "connection_id", "invitation_id", "key_id", "user_id"),
            str(uuid4()),
        ),
    }
    return await world.client.request(method, path.format(**ids), headers=company.headers)


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_revoked_key_is_refused_by_every_route(world: World, method: str, path: str) -> None:
    company, nobody = await two(world)
    assert (await called(world, company, method, path)).status_code not in (401, 402)
    async with world.database.general.transaction() as connection:
        await keys.revoke_key(connection, str(company.key_id))
    await world.fetch("DELETE FROM api_key WHERE id = $1", nobody.key_id)
    revoked, unknown = [await called(world, each, method, path) for each in (company, nobody)]
    assert revoked.status_code == 401
    assert (revoked.content, revoked.headers["www-authenticate"]) == (
        unknown.content,
        unknown.headers["www-authenticate"],
    )


@pytest.mark.parametrize(("method", "path"), OPERATIONS)
async def test_key_of_a_suspended_account_is_refused_by_every_route_until_it_is_reinstated(
    world: World, method: str, path: str
) -> None:
    company = await party(world)
    await world.suspend(company)
    assert (await called(world, company, method, path)).status_code == 402
    await world.reinstate(company)
    assert (await called(world, company, method, path)).status_code not in (401, 402)


async def test_revoked_key_does_nothing_at_any_route(world: World) -> None:
    buyer, _, connection = await partners(world)
    invitation = await buyer.invited("jo@x.example")
    member = await buyer.member("al@x.example")
    async with world.database.general.transaction() as transaction:
        await keys.revoke_key(transaction, str(buyer.key_id))
    events = await world.fetch("SELECT id FROM event")
    for method, path, body in (
        ("PATCH", ACCOUNT, {"name": "Another Name"}),
        ("PATCH", member, {"role": "admin"}),
        ("DELETE", member, None),
        ("POST", INVITATIONS, {"emails": ["al@x.example"], "reason": "receive_leads"}),
        ("POST", MEMBERS, {"emails": ["bo@x.example"], "role": "member"}),
        ("POST", f"{invitation}/resend", None),
        ("POST", f"{invitation}/cancel", None),
        ("PUT", f"{connection}/grant", None),
        ("POST", f"{connection}/grant-request", None),
        ("DELETE", connection, None),
        ("POST", "/v1/domains", {"names": ["a.example"]}),
    ):
        problem(await buyer.do(method, path, body), 401)
    assert await world.fetch("SELECT id FROM event") == events
