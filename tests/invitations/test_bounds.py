"""The limits on invitations: how many may be sent, and how long they stay open."""

from datetime import timedelta
from typing import Any, NamedTuple

import pytest

from service.invitations import invitations
from tests.builders import World
from tests.parties import problem, two

DAY = timedelta(days=1)
MONTH = timedelta(days=30)


class Limit(NamedTuple):
    """What is counted, the limit per day, and which other invitations still pass or don't."""

    what: str
    number: int
    others_free: tuple[int, str]
    others_held_up: tuple[int, str] | None


# Each pair is the inviter (0 or 1, for the first or second account) and the invited address.
LIMITS = [
    Limit("invitations", 200, (1, "jo@one.example"), (0, "al@two.example")),
    Limit("invitations to this address", 5, (0, "al@one.example"), None),
    Limit("invitations to this address", 5, (1, "jo@one.example"), None),
    Limit("invitations to", 20, (0, "al@one.example"), (1, "JO@one.example")),
    Limit("invitations to domain", 2000, (1, "jo@two.example"), (1, "al@ONE.example")),
]


async def used(world: World, what: str, number: int) -> None:
    await world.fetch("UPDATE allowance SET used = $2 WHERE what = $1", what, number)


@pytest.mark.parametrize("limit", LIMITS, ids=lambda limit: f"{limit.what} {limit.others_free[0]}")
async def test_so_many_are_sent_a_day_and_not_one_more(world: World, limit: Limit) -> None:
    parties = await two(world)
    company = parties[0]

    async def invite(who: int, email: str, reason: str = "share_lead_quality_reports") -> Any:
        return await parties[who].invite(email, reason=reason)

    invitation = await company.invited("jo@one.example")
    await used(world, limit.what, limit.number - 1)
    assert (await invite(0, "jo@one.example", "send_leads")).status_code == 201
    over = await invite(0, "jo@one.example", "domain_ownership_visibility")
    problem(over, 429)
    # Resending counts too.
    problem(await company.do("POST", f"{invitation}/resend"), 429)
    assert (await invite(*limit.others_free)).status_code == 201
    if limit.others_held_up is not None:
        problem(await invite(*limit.others_held_up), 429)
    # The limit resets at the end of the day.
    (row,) = await world.fetch(
        "SELECT bool_and(since = date_trunc('day', now(), 'UTC')) AS is_day FROM allowance"
    )
    assert row["is_day"]
    await world.fetch("UPDATE allowance SET since = since - interval '1 day'")
    assert (await invite(0, "jo@one.example", "domain_ownership_visibility")).status_code == 201


async def test_invitation_that_stands_already_costs_nothing(world: World) -> None:
    company, _ = await two(world)
    for _ in range(3):
        response = await company.invite("jo@one.example")
    assert response.status_code == 200
    rows = await world.fetch("SELECT used FROM allowance")
    assert [row["used"] for row in rows] == [1] * 4


async def lets_pass(world: World, time: timedelta) -> None:
    """Backdate everything that happened to invitations."""
    await world.fetch(
        """
        UPDATE invitation SET created_at = created_at - $1::interval,
            expires_at = expires_at - $1::interval
        """,
        time,
    )


async def opened(world: World) -> list[str]:
    rows = await world.fetch("SELECT state FROM invitation ORDER BY id")
    return [row["state"] for row in rows]


@pytest.mark.parametrize(
    ("age", "is_open"),
    [
        (timedelta(0), True),
        (MONTH - timedelta(seconds=20), True),
        (MONTH, False),
        (2 * MONTH, False),
    ],
)
@pytest.mark.parametrize("action", ["accept", "decline", "cancel", "expire_due"])
async def test_invitation_is_open_for_thirty_days(
    world: World, action: str, age: timedelta, is_open: bool
) -> None:
    inviter, recipient = await two(world)
    invitation = await inviter.invited(recipient.email)
    await lets_pass(world, age)
    for who in (inviter, recipient):
        assert (await who.see(invitation))["state"] == ("pending" if is_open else "expired")
    if action == "expire_due":
        async with world.database.general.transaction() as connection:
            assert await invitations.expire_due(connection) == (not is_open)
        assert await opened(world) == ["pending" if is_open else "expired"]
    else:
        who = inviter if action == "cancel" else recipient
        response = await who.do("POST", f"{invitation}/{action}")
        assert response.status_code == (200 if is_open else 409)


async def ends(world: World) -> tuple[timedelta, bool]:
    """How much longer the only invitation is open, and whether its mail has the same deadline."""
    (row,) = await world.fetch(
        """
        SELECT invitation.expires_at - now() AS rest, invitation.expires_at = mail.not_after AS agree
        FROM invitation JOIN mail ON mail.id = invitation.mail_id
        """
    )
    return row["rest"], row["agree"]


@pytest.mark.parametrize("age", [timedelta(0), 29 * DAY, 31 * DAY])
async def test_sent_again_it_is_open_for_thirty_days_from_then(
    world: World, age: timedelta
) -> None:
    inviter, recipient = await two(world)
    invitation = await inviter.invited(recipient.email)
    await lets_pass(world, age)
    assert (await inviter.do("POST", f"{invitation}/resend")).status_code == 200
    rest, agree = await ends(world)
    assert MONTH - timedelta(seconds=20) < rest <= MONTH
    assert agree
    await lets_pass(world, MONTH)
    assert (await recipient.see(invitation))["state"] == "expired"


async def test_mail_says_the_end_that_the_invitation_has(world: World) -> None:
    inviter, recipient = await two(world)
    seen = await inviter.see(await inviter.invited(recipient.email))
    assert (await ends(world))[1]
    (row,) = await world.fetch("SELECT params::jsonb ->> 'expires_at' AS told FROM mail")
    assert row["told"] == seen["expires_at"]


async def test_opting_out_leaves_what_is_over_as_it_ended(world: World) -> None:
    inviter, recipient = await two(world)
    await inviter.invited(recipient.email)
    await lets_pass(world, MONTH)
    await inviter.invited(recipient.email, "send_leads")
    rows = await world.fetch("SELECT id FROM invitation ORDER BY id")
    async with world.database.general.transaction() as connection:
        second = await invitations.existing(connection, rows[1]["id"])
    await world.opt_out(second, of_all=False)
    assert await opened(world) == ["pending", "declined"]
    async with world.database.general.transaction() as connection:
        assert await invitations.expire_due(connection) == 1


@pytest.mark.parametrize(
    "note",
    [
        "See https://evil.example",
        "or www.evil.example",
        "mailto:jo@evil.example",
        "a\u200bb",
        "turned \u202e around",
        "bell \x07",
        "x" * 501,
    ],
)
async def test_note_is_visible_text_without_web_addresses(world: World, note: str) -> None:
    company, _ = await two(world)
    problem(await company.invite("jo@x.example", note=note), 422, "note")
    assert await company.pages("/v1/invitations") == []


@pytest.mark.parametrize("note", ["We buy from you.\n\nJo", "x" * 500, "Grüße, 東京", " padded "])
async def test_note_may_be_in_any_language_and_have_lines(world: World, note: str) -> None:
    company, _ = await two(world)
    response = await company.invite("jo@x.example", note=note)
    assert response.status_code == 201
    assert response.json()["items"][0]["note"] == note.strip()


async def test_inviter_is_mailed_that_an_invitation_was_declined(world: World) -> None:
    inviter, recipient = await two(world)
    invitation = await inviter.invited(recipient.email)
    for _ in range(2):
        await recipient.do("POST", f"{invitation}/decline")
    assert await world.mails("declined") == [(inviter.email, "queued")]
