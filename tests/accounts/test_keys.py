"""API keys: parsing, storage, and revocation."""

import base64
import re
from datetime import datetime, timedelta

import pytest

from service.accounts import keys
from service.accounts.keys import MOST_KEYS, key_of, new_key
from service.accounts.used_keys import UsedKeys
from service.errors import InvalidInput, NotFound, Unauthorized
from service.tokens import digest_of
from tests.builders import World, basic, member_of
from tests.parties import party, problem
from tests.surfer import signed_in


def test_key_has_a_prefix_and_192_random_bits() -> None:
    key = new_key()
    assert key.startswith("cok_")
    assert len(bytes.fromhex(key.removeprefix("cok_"))) == 24
    assert key != new_key()


@pytest.mark.parametrize("user", ["API", "X", "", "someone@example.com"])
def test_user_name_is_ignored(user: str) -> None:
    assert key_of(basic("cok_1", user)["Authorization"]) == "cok_1"


def test_everything_after_the_first_colon_is_the_key() -> None:
    assert key_of(basic("a:b", "X")["Authorization"]) == "a:b"


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Basic",
        "Basic !!!",
        "Bearer cok_1",
        "Basic " + base64.b64encode(b"no colon").decode(),
        "Basic " + base64.b64encode(b"X:").decode(),
        "Basic " + base64.b64encode(b"X:\xff\xfe").decode(),
    ],
)
def test_header_without_a_key_is_unauthorized(header: str | None) -> None:
    with pytest.raises(Unauthorized):
        key_of(header)


async def test_key_is_kept_as_a_digest_only(world: World) -> None:
    company = await world.company()
    (row,) = await world.fetch("SELECT api_key::text AS whole, digest FROM api_key")
    assert row["digest"] == digest_of(company.key)
    assert company.key not in row["whole"]
    (event,) = await world.fetch("SELECT detail FROM event WHERE action = 'key.created'")
    assert company.key not in event["detail"]


async def test_revoked_key_is_refused_with_the_next_call(world: World) -> None:
    company = await world.company()
    cert_id = await world.certificate(domain="example.com")
    assert (await world.ask(company, cert_id)).status_code == 200
    async with world.database.general.transaction() as connection:
        assert await keys.revoke_key(connection, str(company.key_id)) == company.id
    assert (await world.ask(company, cert_id)).status_code == 401
    async with world.database.general.transaction() as connection:
        with pytest.raises(NotFound):
            await keys.revoke_key(connection, str(company.key_id))


async def test_other_keys_of_the_account_live_on(world: World) -> None:
    company = await world.company()
    async with world.database.general.transaction() as connection:
        _, second = await keys.create_key(connection, company.id)
        await keys.revoke_key(connection, str(company.key_id))
    cert_id = await world.certificate(domain="example.com")
    response = await world.client.post(
        f"/{cert_id}", headers=basic(second), json={"insights": {"properties": []}}
    )
    assert response.status_code == 200


async def test_revoking_what_is_no_key_id_says_what_would_be(world: World) -> None:
    async with world.database.general.transaction() as connection:
        with pytest.raises(InvalidInput, match="the id that “key create” printed"):
            await keys.revoke_key(connection, "cok_123")


async def test_account_manages_its_keys_by_itself(world: World) -> None:
    company, other = await party(world), await party(world)
    response = await company.do("POST", "/v1/account/keys", {"name": " Lead  intake "})
    assert response.status_code == 201
    created = response.json()
    assert created["key"].startswith("cok_")
    headers = basic(created["key"])
    listed = (await world.client.get("/v1/account/keys", headers=headers)).json()["items"]
    assert [item["name"] for item in listed] == ["Lead intake", None]
    assert created["key"] not in str(listed)
    assert (await other.do("DELETE", f"/v1/account/keys/{created['id']}")).status_code == 404
    path = f"/v1/account/keys/{created['id']}"
    assert (await world.client.delete(path, headers=headers)).status_code == 204
    assert (await world.client.get("/v1/account", headers=headers)).status_code == 401
    assert (await company.do("DELETE", path)).status_code == 404
    events = [
        (each["action"], each["by"]["kind"], each["detail"]["name"])
        for each in (await company.do("GET", "/v1/events?limit=2")).json()["items"]
    ]
    assert events == [("key.revoked", "key", "Lead intake"), ("key.created", "key", "Lead intake")]


@pytest.mark.parametrize("name", ["", " ", "x" * 101, "a\u200bb", None, 5])
async def test_name_of_a_key_is_visible_text(world: World, name: object) -> None:
    company = await party(world)
    problem(await company.do("POST", "/v1/account/keys", {"name": name}), 422, "name")
    assert len((await company.do("GET", "/v1/account/keys")).json()["items"]) == 1


async def test_account_has_so_many_keys_and_no_more(world: World) -> None:
    company = await party(world)
    for number in range(MOST_KEYS - 1):
        async with world.database.general.transaction() as connection:
            await keys.create_key(connection, company.id, name=f"k{number}")
    problem(await company.do("POST", "/v1/account/keys", {"name": "one more"}), 409)


async def test_last_use_of_a_key_is_written_now_and_then(world: World) -> None:
    company, unused = await world.company(), await world.company()
    used_keys, cert_id = UsedKeys(), await world.certificate(domain="example.com")
    before = await now(world)
    await world.ask(company, cert_id)
    used_keys.note(digest_of(company.key))
    await used_keys.write(world.database)
    await used_keys.write(world.database)
    async with world.database.general.connection() as connection:
        (key,) = await keys.keys_of(connection, company.id)
        (other,) = await keys.keys_of(connection, unused.id)
    assert key.last_used_at is not None
    assert key.last_used_at >= before - timedelta(seconds=1)
    assert other.last_used_at is None


async def test_admin_manages_keys_on_a_page_and_a_member_does_not(world: World) -> None:
    company, other = await world.company(), await world.company()
    await member_of(world, company, "m@x.example", "member")
    surfer = await signed_in(world, company.email)
    await surfer.go("/keys")
    await surfer.send("/keys", account_id=str(company.id), name="Intake", do="create")
    # Once to copy, and once in the first call.
    (key,) = set(re.findall("cok_[0-9a-f]{48}", surfer.text))
    assert (await world.client.get("/v1/account", headers=basic(key))).status_code == 200
    await surfer.go("/keys")
    assert key not in surfer.text
    rows = await world.fetch("SELECT id FROM api_key WHERE name = 'Intake'")
    for who in (await signed_in(world, "m@x.example"), await signed_in(world, other.email)):
        await who.go("/keys")
        for do in ("create", "revoke"):
            response = await who.send(
                "/keys", account_id=str(company.id), key_id=str(rows[0]["id"]), name="x", do=do
            )
            assert response.status_code == 403
    await surfer.go("/keys")
    await surfer.send("/keys", account_id=str(company.id), key_id=str(rows[0]["id"]), do="revoke")
    assert (await world.client.get("/v1/account", headers=basic(key))).status_code == 401


async def now(world: World) -> datetime:
    (row,) = await world.fetch("SELECT now() AS now")
    moment: datetime = row["now"]
    return moment
