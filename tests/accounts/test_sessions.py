"""Sign-in links and sessions: how long they last, what ends them, and the session cookie."""

import asyncio
import re
from datetime import timedelta
from http.cookies import Morsel, SimpleCookie

import httpx
import msgspec
import pytest

from service.accounts import sign_in
from service.accounts.records import Session
from service.accounts.sign_in import LinkRequest, SignedIn, send_link
from service.app import create_app
from service.errors import NoLongerOpen, NotFound
from service.postgres.pools import Connection
from tests.builders import SECRET, World, until
from tests.conftest import SETTINGS, living
from tests.surfer import Surfer, session_with, sign_in_link, signed_in

SECOND = timedelta(seconds=1)


async def mailed(world: World, email: str) -> str:
    """Mail a sign-in link to an address, and return its token."""
    async with world.database.general.transaction() as connection:
        await send_link(connection, SECRET.encode(), LinkRequest(email))
    return (await sign_in_link(world, email)).rpartition("/")[2]


async def started(world: World, email: str) -> str:
    """Start a session, and return its token."""
    token = await mailed(world, email)
    async with world.database.general.transaction() as connection:
        return (await sign_in.sign_in(connection, token, None)).token


async def lives(world: World, token: str) -> bool:
    async with world.database.general.connection() as connection:
        return await session_with(connection, token) is not None


async def session_of(world: World, token: str) -> Session:
    async with world.database.general.connection() as connection:
        session = await session_with(connection, token)
    assert session is not None
    return session


async def age_link(connection: Connection, age: timedelta) -> None:
    """Backdate the link. Exact to the microsecond, since a transaction's clock stands still."""
    await connection.execute(
        """
        UPDATE sign_in_link
        SET created_at = now() - $1::interval,
            expires_at = now() - $1::interval + (expires_at - created_at)
        """,
        age,
    )


async def age_session(connection: Connection, age: timedelta) -> None:
    """Backdate the session, exact to the microsecond."""
    await connection.execute(
        """
        UPDATE user_session
        SET started_at = now() - $1::interval,
            expires_at = now() - $1::interval + (expires_at - started_at)
        """,
        age,
    )


@pytest.mark.parametrize(
    ("age", "is_good"),
    [
        (timedelta(0), True),
        (timedelta(minutes=15) - SECOND, True),
        (timedelta(minutes=15), False),
        (timedelta(minutes=15) + SECOND, False),
    ],
)
async def test_link_is_good_for_fifteen_minutes_and_no_longer(
    world: World, age: timedelta, is_good: bool
) -> None:
    company = await world.company()
    token = await mailed(world, company.email)
    async with world.database.general.transaction() as connection:
        await age_link(connection, age)
        if is_good:
            assert (await sign_in.find_link(connection, token)).email == company.email
            assert (await sign_in.sign_in(connection, token, None)).link.email == company.email
        else:
            for use in (
                sign_in.find_link(connection, token),
                sign_in.sign_in(connection, token, None),
            ):
                with pytest.raises(NoLongerOpen, match="expired"):
                    await use
    assert bool(await world.fetch("SELECT FROM user_session")) is is_good


async def test_mail_with_a_link_is_not_sent_once_the_link_is_good_no_more(world: World) -> None:
    company = await world.company()
    await mailed(world, company.email)
    (row,) = await world.fetch(
        """
        SELECT not_after = expires_at AS together
        FROM mail JOIN sign_in_link ON sign_in_link.mail_id = mail.id
        """
    )
    assert row["together"]


async def test_link_that_is_used_twice_at_once_begins_one_session(world: World) -> None:
    company = await world.company()
    token = await mailed(world, company.email)

    async def again() -> SignedIn:
        async with world.database.general.transaction() as connection:
            return await sign_in.sign_in(connection, token, None)

    async def second_waits() -> bool:
        waiting = await world.fetch(
            """
            SELECT FROM pg_stat_activity
            WHERE datname = current_database() AND wait_event_type = 'Lock'
            """
        )
        return second.done() or bool(waiting)

    async with world.database.general.transaction() as connection:
        first = await sign_in.sign_in(connection, token, None)
        # The second sign-in has seen an unused link and is about to use it.
        second = asyncio.create_task(again())
        await until(second_waits)
    with pytest.raises(NoLongerOpen):
        await second
    assert len(await world.fetch("SELECT FROM user_session")) == 1
    assert await lives(world, first.token)


async def test_two_browsers_that_send_one_link_at_once_get_one_session(world: World) -> None:
    company = await world.company()
    path = f"/sign-in/{await mailed(world, company.email)}"
    surfers = [Surfer(world.client) for _ in range(4)]
    for surfer in surfers:
        await surfer.go(path)
    responses = await asyncio.gather(*(surfer.send(path) for surfer in surfers))
    assert sorted(each.status_code for each in responses) == [200, 410, 410, 410]
    assert len(await world.fetch("SELECT FROM user_session")) == 1


async def test_link_of_a_user_who_is_gone_signs_nobody_in(world: World) -> None:
    company = await world.company()
    token = await mailed(world, company.email)
    await world.fetch("UPDATE app_user SET email = 'other@example.com'")
    with pytest.raises(NotFound):
        async with world.database.general.transaction() as connection:
            await sign_in.sign_in(connection, token, None)
    assert await world.fetch("SELECT FROM user_session") == []


async def test_used_link_leaves_the_others_of_that_address_good(world: World) -> None:
    company = await world.company()
    one = await mailed(world, company.email)
    await world.fetch("UPDATE sign_in_link SET created_at = created_at - interval '3 minutes'")
    other = await mailed(world, company.email)
    assert one != other
    async with world.database.general.transaction() as connection:
        await sign_in.sign_in(connection, one, None)
        assert await sign_in.sign_in(connection, other, None)


@pytest.mark.parametrize(
    ("age", "lives_on"),
    [
        (timedelta(0), True),
        (timedelta(days=14) - SECOND, True),
        (timedelta(days=14), False),
        (timedelta(days=14) + SECOND, False),
    ],
)
async def test_session_lasts_for_fourteen_days_and_no_longer(
    world: World, age: timedelta, lives_on: bool
) -> None:
    token = await started(world, (await world.company()).email)
    async with world.database.general.transaction() as connection:
        await age_session(connection, age)
        assert (await session_with(connection, token) is not None) is lives_on


@pytest.mark.parametrize("everywhere", [False, True])
async def test_ended_session_is_nobodys_and_does_not_come_back(
    world: World, everywhere: bool
) -> None:
    company = await world.company()
    token = await started(world, company.email)
    session = await session_of(world, token)
    async with world.database.general.transaction() as connection:
        await sign_in.sign_out(connection, session, everywhere=everywhere)
        assert await session_with(connection, token) is None
    assert not await lives(world, token)
    assert await lives(world, await started(world, company.email))
    assert not await lives(world, token)


@pytest.mark.parametrize("everywhere", [False, True])
async def test_when_a_session_ended_stays_as_it_was(world: World, everywhere: bool) -> None:
    token = await started(world, (await world.company()).email)
    session = await session_of(world, token)
    ends = []
    for _ in range(2):
        async with world.database.general.transaction() as connection:
            await sign_in.sign_out(connection, session, everywhere=everywhere)
        (row,) = await world.fetch("SELECT ended_at FROM user_session")
        ends.append(row["ended_at"])
    assert ends[0] is not None
    assert ends[0] == ends[1]


async def test_signing_out_everywhere_leaves_other_users_alone(world: World) -> None:
    company, other = await world.company(), await world.company()
    leaving = [await started(world, company.email) for _ in range(3)]
    staying = await started(world, other.email)
    theirs, others = await mailed(world, company.email), await mailed(world, other.email)
    session = await session_of(world, leaving[0])
    async with world.database.general.transaction() as connection:
        await sign_in.sign_out(connection, session, everywhere=True)
    assert [await lives(world, token) for token in leaving] == [False] * 3
    assert await lives(world, staying)
    async with world.database.general.connection() as connection:
        with pytest.raises(NoLongerOpen):
            await sign_in.find_link(connection, theirs)
        assert (await sign_in.find_link(connection, others)).email == other.email


async def test_signing_out_here_leaves_other_users_and_open_links_alone(world: World) -> None:
    company, other = await world.company(), await world.company()
    here, there = await started(world, company.email), await started(world, company.email)
    others, link = await started(world, other.email), await mailed(world, company.email)
    session = await session_of(world, here)
    async with world.database.general.transaction() as connection:
        await sign_in.sign_out(connection, session, everywhere=False)
    assert [await lives(world, token) for token in (here, there, others)] == [False, True, True]
    async with world.database.general.connection() as connection:
        assert await sign_in.find_link(connection, link)


async def test_cookie_of_an_ended_session_reaches_no_page_and_no_form(world: World) -> None:
    company = await world.company()
    surfer = await signed_in(world, company.email)
    await surfer.go("/connections")
    await world.fetch("UPDATE user_session SET ended_at = now()")
    response = await surfer.send("/domains", account_id=str(company.id), do="add", name="a.example")
    assert response.url.path == "/sign-in"
    assert await world.fetch("SELECT FROM domain_claim") == []
    for page in ("/connections", "/domains"):
        assert (await surfer.go(page)).url.path == "/sign-in"


@pytest.mark.parametrize(
    ("age", "is_kept"),
    [(timedelta(hours=23), True), (timedelta(hours=24), True), (timedelta(hours=25), False)],
)
async def test_links_and_sessions_are_forgotten_a_day_after_their_end(
    world: World, age: timedelta, is_kept: bool
) -> None:
    await started(world, (await world.company()).email)
    async with world.database.general.transaction() as connection:
        for table in ("sign_in_link", "user_session"):
            await connection.execute(f"UPDATE {table} SET expires_at = now() - $1::interval", age)
        await sign_in.purge(connection)
        for table in ("sign_in_link", "user_session", "mail"):
            assert bool(await connection.fetch(f"SELECT FROM {table}")) is is_kept, table


def cookie_of(response: httpx.Response) -> Morsel[str]:
    """The only cookie that a response sets."""
    (header,) = response.headers.get_list("set-cookie")
    (cookie,) = SimpleCookie(header).values()
    return cookie


@pytest.mark.parametrize(
    ("public_url", "name", "is_secure"),
    [
        ("https://owners.example", "__Host-session", True),
        ("http://owners.example", "session", False),
    ],
)
async def test_session_cookie_is_for_this_host_alone_and_lasts_as_long_as_a_session(
    world: World, migrated_url: str, public_url: str, name: str, is_secure: bool
) -> None:
    company = await world.company()
    settings = msgspec.structs.replace(SETTINGS, public_url=public_url)
    path = f"/sign-in/{await mailed(world, company.email)}"
    async with (
        living(create_app(migrated_url, settings)) as client,
        httpx.AsyncClient(transport=client._transport, base_url=public_url) as browser,
    ):
        page = await browser.get(path)
        (form_token,) = re.findall(r'name="form_token" value="([^"]*)"', page.text)
        used = await browser.post(
            path, data={"form_token": form_token}, headers={"Origin": public_url}
        )
        then = await browser.get("/connections")
    assert used.status_code == 303
    assert company.name in then.text
    assert "set-cookie" not in then.headers
    before, after = cookie_of(page), cookie_of(used)
    assert before.value != after.value
    expected: dict[str, object] = {
        "path": "/",
        "max-age": str(14 * 24 * 60 * 60),
        "httponly": True,
        "samesite": "lax",
    }
    for cookie in (before, after):
        assert cookie.key == name
        # In particular no Domain attribute, which would send the cookie to other hosts.
        attributes = {attribute: value for attribute, value in cookie.items() if value}
        assert attributes == expected | ({"secure": True} if is_secure else {})


async def test_own_sessions_are_listed_until_they_end(world: World) -> None:
    us, other = await world.company(), await world.company()
    await signed_in(world, other.email)
    elsewhere = await signed_in(world, us.email)
    await world.fetch("UPDATE sign_in_link SET created_at = now() - interval '1 hour'")
    here = await signed_in(world, us.email)
    await here.go("/memberships")
    assert here.text.count("Signed in on") == 2
    assert here.text.count("This browser") == 1
    await elsewhere.go("/memberships")
    await elsewhere.send("/sign-out")
    await here.go("/memberships")
    assert here.text.count("Signed in on") == 1
