"""Members: permissions for each account, and the last admin can't leave."""

import asyncio
from collections.abc import Awaitable, Callable
from uuid import UUID

import pytest

from service.accounts import members
from service.accounts.records import User
from service.errors import Conflict, Forbidden, InvalidInput
from service.postgres.pools import Connection
from tests.builders import Company, World, by, make_member, member_of, until
from tests.parties import MEMBERS, partners, party, problem, two
from tests.surfer import signed_in

AL = "al@x.example"

Change = Callable[[Connection, Company, UUID], Awaitable[object]]


async def demote(connection: Connection, company: Company, user_id: UUID) -> None:
    await members.change_role(connection, company.id, user_id, "member", by(company))


async def remove(connection: Connection, company: Company, user_id: UUID) -> None:
    await members.remove_member(connection, company.id, user_id, by(company))


async def user_of(world: World, email: str) -> User:
    async with world.database.general.connection() as connection:
        user = await members.find_user(connection, email)
    assert user is not None
    return user


async def roles(world: World, company: Company) -> dict[str, str]:
    rows = await world.fetch(
        """
        SELECT email, role FROM membership JOIN app_user ON app_user.id = user_id
        WHERE account_id = $1
        """,
        company.id,
    )
    return {row["email"]: row["role"] for row in rows}


@pytest.mark.parametrize("other", [None, "member"])
@pytest.mark.parametrize("change", [demote, remove])
async def test_last_admin_stays(world: World, change: Change, other: str | None) -> None:
    company = await world.company()
    if other:
        await member_of(world, company, AL, other)
    before = await roles(world, company)
    user = await user_of(world, company.email)
    async with world.database.general.transaction() as connection:
        with pytest.raises(Conflict):
            await change(connection, company, user.id)
    assert await roles(world, company) == before


@pytest.mark.parametrize("change", [demote, remove])
async def test_one_of_two_admins_may_go(world: World, change: Change) -> None:
    company = await world.company()
    await member_of(world, company, AL, "admin")
    user = await user_of(world, company.email)
    async with world.database.general.transaction() as connection:
        await change(connection, company, user.id)
    assert (await roles(world, company))[AL] == "admin"


@pytest.mark.parametrize("change", [demote, remove])
async def test_member_may_go_though_there_is_one_admin_alone(world: World, change: Change) -> None:
    company = await world.company()
    await member_of(world, company, AL)
    user = await user_of(world, AL)
    async with world.database.general.transaction() as connection:
        await change(connection, company, user.id)
    assert (await roles(world, company))[company.email] == "admin"


@pytest.mark.parametrize("first", [demote, remove])
@pytest.mark.parametrize("second", [demote, remove])
async def test_two_admins_who_go_at_once_leave_one(
    world: World, first: Change, second: Change
) -> None:
    company = await world.company()
    await member_of(world, company, AL, "admin")
    one, other = await user_of(world, company.email), await user_of(world, AL)

    async def meanwhile() -> None:
        async with world.database.general.transaction() as connection:
            await second(connection, company, other.id)

    async with world.database.general.transaction() as connection:
        await first(connection, company, one.id)
        leaving = asyncio.create_task(meanwhile())
        await until(lambda: blocked_or_done(world, leaving))
    with pytest.raises(Conflict):
        await leaving
    assert (await roles(world, company))[AL] == "admin"


async def blocked_or_done(world: World, task: asyncio.Task[None]) -> bool:
    """Whether a task is done, or something waits for a lock."""
    waiting = await world.fetch(
        """
        SELECT FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock'
        """
    )
    return task.done() or bool(waiting)


async def test_admin_alone_can_act_for_an_account(world: World) -> None:
    company, stranger = await world.company(), await world.company()
    await member_of(world, company, AL)
    async with world.database.general.transaction() as connection:
        admin = await user_of(world, company.email)
        acting = await members.account_of_admin(connection, admin, str(company.id))
        assert acting == company.id
        for email in (AL, stranger.email):
            with pytest.raises(Forbidden):
                await members.account_of_admin(
                    connection, await user_of(world, email), str(company.id)
                )
        for no_id in ("", "x", company.name):
            with pytest.raises(InvalidInput):
                await members.account_of_admin(connection, admin, no_id)


async def test_nobody_acts_for_an_account_that_is_suspended(world: World) -> None:
    company = await world.company()
    await world.suspend(company)
    admin = await user_of(world, company.email)
    async with world.database.general.transaction() as connection:
        with pytest.raises(Forbidden):
            await members.account_of_admin(connection, admin, str(company.id))
        assert await members.memberships_of(connection, admin.id) == []
        assert await members.belongs_anywhere(connection, admin.id)


@pytest.mark.parametrize("change", [demote, remove])
async def test_admin_stays_one_until_what_it_does_is_done(world: World, change: Change) -> None:
    company = await world.company()
    await member_of(world, company, AL, "admin")
    admin = await user_of(world, company.email)

    async def meanwhile() -> None:
        async with world.database.general.transaction() as connection:
            await change(connection, company, admin.id)

    async with world.database.general.transaction() as connection:
        await members.account_of_admin(connection, admin, str(company.id))
        changing = asyncio.create_task(meanwhile())
        await until(lambda: blocked_or_done(world, changing))
        assert not changing.done()
    await changing
    async with world.database.general.transaction() as connection:
        with pytest.raises(Forbidden):
            await members.account_of_admin(connection, admin, str(company.id))


@pytest.mark.parametrize(
    ("path", "form"),
    [
        ("/domains", {"do": "add", "names": "a.example"}),
        ("/domains/own.example", {"do": "verify"}),
        ("/domains/own.example", {"do": "cover", "covers_subdomains": "yes"}),
        ("/domains/own.example", {"do": "remove"}),
        *(("/connections/{id}", {"do": do}) for do in ("show", "hide", "decline", "disconnect")),
    ],
)
async def test_member_of_one_account_is_no_admin_of_it_for_being_one_of_another(
    world: World, path: str, form: dict[str, str]
) -> None:
    buyer, seller, connection = await partners(world)
    await seller.do("POST", "/v1/domains", {"names": ["own.example"]})
    await make_member(world, seller, await party(world), "member")
    (row,) = await world.fetch("SELECT email FROM app_user ORDER BY created_at DESC LIMIT 1")
    events = len(await seller.pages("/v1/events"))
    surfer = await signed_in(world, row["email"])
    await surfer.go("/connections")
    target = path.format(id=connection.rpartition("/")[2])
    response = await surfer.send(target, account_id=str(seller.id), **form)
    assert response.status_code == 403
    assert len(await seller.pages("/v1/events")) == events
    del buyer


async def test_what_changes_in_one_account_leaves_a_members_other_account_alone(
    world: World,
) -> None:
    one, other = await two(world)
    user_id = await make_member(world, other, one, "member")
    await member_of(world, one, AL, "admin")
    promoted = await other.do("PATCH", f"{MEMBERS}/{user_id}", {"role": "admin"})
    assert promoted.json()["role"] == "admin"
    await other.do("PATCH", f"{MEMBERS}/{user_id}", {"role": "member"})
    assert await roles(world, one) == {one.email: "admin", AL: "admin"}
    assert await roles(world, other) == {other.email: "admin", one.email: "member"}
    assert (await one.do("DELETE", f"{MEMBERS}/{user_id}")).status_code == 204
    assert await roles(world, one) == {AL: "admin"}
    assert await roles(world, other) == {other.email: "admin", one.email: "member"}
    # A member of another account looks like a user that doesn't exist.
    problem(await one.do("PATCH", f"{MEMBERS}/{user_id}", {"role": "admin"}), 404)


async def test_other_admins_of_other_accounts_do_not_count(world: World) -> None:
    one, other = await two(world)
    await make_member(world, other, one, "admin")
    problem(await one.do("DELETE", f"{MEMBERS}/{await one.user_id()}"), 409)
    assert await roles(world, one) == {one.email: "admin"}


async def test_member_of_two_accounts_has_in_each_the_role_it_has_there(world: World) -> None:
    one, other = await two(world)
    user_id = await make_member(world, other, one, "member")
    async with world.database.general.transaction() as connection:
        found = await members.memberships_of(connection, user_id)
        assert {(each.account_id, each.role) for each in found} == {
            (one.id, "admin"),
            (other.id, "member"),
        }
        assert await members.is_member(connection, one.id, one.email)
        assert await members.is_member(connection, other.id, one.email)
        assert not await members.is_member(connection, one.id, other.email)


async def test_role_of_one_who_is_a_member_stays_when_added_again(world: World) -> None:
    company = await world.company()
    admin = await user_of(world, company.email)
    async with world.database.general.transaction() as connection:
        await members.add_member(connection, company.id, admin.id, "member", by(company))
    assert await roles(world, company) == {company.email: "admin"}


async def test_removed_member_sees_nothing_of_the_account_from_the_next_page_on(
    world: World,
) -> None:
    company, partner = await two(world)
    await world.connect(company, partner)
    path = await company.member(AL)
    surfer = await signed_in(world, AL)
    await surfer.go("/connections")
    assert partner.name in surfer.text
    await company.do("DELETE", path)
    await surfer.go("/connections")
    assert partner.name not in surfer.text
    assert company.name not in surfer.text


async def test_notices_go_to_the_admins_of_the_account_alone(world: World) -> None:
    company, other = await two(world)
    await member_of(world, company, AL)
    await member_of(world, company, "bo@x.example", "admin")
    async with world.database.general.transaction() as connection:
        await members.mail_admins(connection, company.id, "declined", "x", email="jo@x.example")
    assert {to for to, _ in await world.mails("declined")} == {company.email, "bo@x.example"}
    del other
