"""Accounts: the first admin, look-up, and events."""

import pytest

from service.accounts import accounts
from service.errors import Conflict, InvalidInput, NotFound
from tests.builders import World


async def test_account_has_its_creator_as_admin_and_users_are_one_by_address(world: World) -> None:
    async with world.database.general.transaction() as connection:
        for name in ("First, Inc.", "Second, Inc."):
            await accounts.create_account(connection, name, " Jo@Example.COM ")
    rows = await world.fetch(
        """
        SELECT account.name, email, role FROM membership
        JOIN account ON account.id = account_id JOIN app_user ON app_user.id = user_id
        ORDER BY account.name
        """
    )
    assert [tuple(row) for row in rows] == [
        ("First, Inc.", "jo@example.com", "admin"),
        ("Second, Inc.", "jo@example.com", "admin"),
    ]
    assert len(await world.fetch("SELECT 1 FROM app_user")) == 1


@pytest.mark.parametrize(
    "email",
    [
        "",
        "jo",
        "jo@",
        "@example.com",
        "a b@example.com",
        "jo@example",
        "a@b@c.com",
        "jo@example.com\r\nBcc: x@example.com",
        "j" * 250 + "@example.com",
    ],
)
def test_address_that_is_none_is_refused(email: str) -> None:
    with pytest.raises(InvalidInput, match="email must be an email address"):
        accounts.checked_email(email)


async def test_account_is_found_by_id_or_exact_name(world: World) -> None:
    company = await world.company("Acme, Inc.")
    async with world.database.general.connection() as connection:
        for called in (str(company.id), "Acme, Inc."):
            assert (await accounts.find_account(connection, called)).id == company.id
        for called in ("acme, inc.", "Acme", "", "%"):
            with pytest.raises(NotFound):
                await accounts.find_account(connection, called)


async def test_suspending_twice_and_reinstating_twice_are_conflicts(world: World) -> None:
    company = await world.company()
    await world.suspend(company)
    with pytest.raises(Conflict):
        await world.suspend(company)
    await world.reinstate(company)
    with pytest.raises(Conflict):
        await world.reinstate(company)
    rows = await world.fetch(
        "SELECT action FROM event WHERE account_id = $1 ORDER BY id", company.id
    )
    assert [row["action"] for row in rows] == [
        "account.created",
        "key.created",
        "account.suspended",
        "account.reinstated",
    ]


async def test_renaming_records_the_former_name(world: World) -> None:
    company = await world.company("First Name")
    await world.rename(company, "Second Name")
    (event,) = await world.fetch("SELECT detail FROM event WHERE action = 'account.renamed'")
    assert "First Name" in event["detail"]
    assert "Second Name" in event["detail"]
