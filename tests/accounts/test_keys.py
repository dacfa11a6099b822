"""API keys: parsing, storage, and revocation."""

import base64

import pytest

from service.accounts import keys
from service.accounts.keys import key_of, new_key
from service.errors import InvalidInput, NotFound, Unauthorized
from service.tokens import digest_of
from tests.builders import World, basic


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
