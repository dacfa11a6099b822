"""Every change leaves an event, and each side sees only what it may know."""

from collections.abc import Awaitable, Callable
from typing import Any
from uuid import UUID

import pytest

from service import audit
from service.accounts import accounts, keys, members
from service.audit import Actor, ActorKind
from service.errors import Conflict, NotFound
from tests.builders import World, by, link_of
from tests.parties import ACCOUNT, CONNECTIONS, EVENTS, MEMBERS, Party, partners, party, two
from tests.surfer import Surfer, signed_in

OPERATOR = {"kind": "operator"}

Told = tuple[str, dict[str, Any], dict[str, Any]]
"""An event as an account is told of it: what, by whom, and more."""


async def trail(company: Party) -> list[Told]:
    """An account's events since its creation, oldest first."""
    events = await company.pages(EVENTS)
    told = [(event["action"], event["by"], event["detail"]) for event in reversed(events)]
    assert [action for action, *_ in told[:2]] == ["account.created", "key.created"]
    return told[2:]


def own_key(company: Party) -> dict[str, str]:
    return {"kind": "key", "key_id": str(company.key_id)}


async def keys_come_and_go(world: World, company: Party) -> list[Told]:
    async with world.database.general.transaction() as connection:
        key_id, _ = await keys.create_key(connection, company.id)
        await keys.revoke_key(connection, str(key_id))
    detail = {"key_id": str(key_id)}
    return [("key.created", OPERATOR, detail), ("key.revoked", OPERATOR, detail)]


async def name_is_changed_by_the_account(world: World, company: Party) -> list[Told]:
    await company.do("PATCH", ACCOUNT, {"name": "Another Name"})
    names = {"name": "Another Name", "formerly": company.name}
    return [("account.renamed", own_key(company), names)]


async def name_is_changed_by_the_operator(world: World, company: Party) -> list[Told]:
    await world.rename(company, "Another Name")
    return [("account.renamed", OPERATOR, {"name": "Another Name", "formerly": company.name})]


async def account_is_suspended_and_reinstated(world: World, company: Party) -> list[Told]:
    await world.suspend(company)
    await world.reinstate(company)
    return [("account.suspended", OPERATOR, {}), ("account.reinstated", OPERATOR, {})]


async def limits_are_set(world: World, company: Party) -> list[Told]:
    async with world.database.general.transaction() as connection:
        await accounts.set_limits(connection, company.id, {"calls": 5, "purchases": None})
    return [("account.limited", OPERATOR, {"limits": {"calls": 5, "purchases": None}})]


async def role_is_changed(world: World, company: Party) -> list[Told]:
    member = await company.member("al@x.example")
    for role in ("admin", "member"):
        await company.do("PATCH", member, {"role": role})
    return [
        ("member.role_changed", own_key(company), {"email": "al@x.example", "role": role})
        for role in ("admin", "member")
    ]


async def member_is_removed(world: World, company: Party) -> list[Told]:
    await company.do("DELETE", await company.member("al@x.example", "admin"))
    return [("member.removed", own_key(company), {"email": "al@x.example", "role": "admin"})]


async def someone_joins(world: World, company: Party) -> list[Told]:
    invitation = await world.invite(company, "al@x.example", "join_account")
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/accept", your_name="Al")
    (row,) = await world.fetch("SELECT id FROM app_user WHERE email = 'al@x.example'")
    al = {"kind": "user", "email": "al@x.example"}
    about = {
        "invitation_id": str(invitation.id),
        "email": "al@x.example",
        "reason": "join_account",
    }
    return [
        ("invitation.created", own_key(company), about),
        ("member.added", al, {"user_id": str(row["id"]), "role": "member"}),
        ("invitation.accepted", al, about),
    ]


CHANGES = [
    keys_come_and_go,
    name_is_changed_by_the_account,
    name_is_changed_by_the_operator,
    account_is_suspended_and_reinstated,
    limits_are_set,
    role_is_changed,
    member_is_removed,
    someone_joins,
]


@pytest.mark.parametrize("change", CHANGES)
async def test_each_change_leaves_an_event_that_says_what_and_who(
    world: World, change: Callable[[World, Party], Awaitable[list[Told]]]
) -> None:
    company, other = await two(world)
    assert await trail(company) == []
    expected = await change(world, company)
    assert await trail(company) == expected
    assert await trail(other) == []


async def test_account_that_a_user_made_says_so(world: World) -> None:
    company = await party(world)
    user_id = UUID(await company.user_id())
    async with world.database.general.transaction() as connection:
        made = await accounts.create_account(connection, "New Leads", company.email, user_id)
        events = await audit.events_of(connection, made.id, before=None, action=None, limit=10)
    (event,) = events
    assert (event.action, event.by) == (
        "account.created",
        audit.EventActor("user", email=company.email),
    )
    assert bytes(event.detail) == b'{"name": "New Leads"}'


async def test_what_changes_nothing_leaves_no_event(world: World) -> None:
    company = await party(world)
    admin, nobody = await company.user_id(), "00000000-0000-0000-0000-000000000000"
    await company.do("PATCH", ACCOUNT, {"name": company.name})
    for method, path, body in (
        ("PATCH", f"{MEMBERS}/{admin}", {"role": "admin"}),
        ("PATCH", f"{MEMBERS}/{admin}", {"role": "member"}),
        ("DELETE", f"{MEMBERS}/{admin}", None),
        ("PATCH", f"{MEMBERS}/{nobody}", {"role": "admin"}),
        ("DELETE", f"{MEMBERS}/{nobody}", None),
    ):
        await company.do(method, path, body)
    async with world.database.general.transaction() as connection:
        await members.add_member(connection, company.id, UUID(admin), "member", by(company))
        with pytest.raises(NotFound):
            await keys.revoke_key(connection, nobody)
        with pytest.raises(Conflict):
            await accounts.reinstate_account(connection, company.id)
    assert await trail(company) == []


@pytest.mark.parametrize("kind", ["key", "user", "operator", "service", "recipient"])
async def test_who_did_it_is_told_to_the_doers_side_alone(world: World, kind: ActorKind) -> None:
    doer, partner, third = await party(world), await party(world), await party(world)
    user_id = await doer.user_id()
    actor, told = {
        "key": (by(doer), own_key(doer)),
        "user": (Actor("user", doer.id, UUID(user_id)), {"kind": "user", "email": doer.email}),
    }.get(kind, (Actor(kind), {"kind": kind}))
    async with world.database.general.transaction() as connection:
        await audit.record_between(connection, "test.done", doer.id, partner.id, actor=actor, n=1)
        await audit.record(connection, "test.done", doer.id, partner.id, actor=actor, n=2)
    others = {"kind": "partner"} if actor.account_id else told
    for who, whom, seen in ((doer, partner, told), (partner, doer, others)):
        about = {"id": str(whom.id), "name": whom.name}
        assert await trail(who) == [
            ("test.done", seen, {"n": 1, "partner": about}),
            ("test.done", seen, {"n": 2}),
        ]
    events = str(await partner.pages(EVENTS))
    for secret in (doer.email, str(doer.key_id), user_id):
        assert secret not in events
    assert await trail(third) == []


async def test_user_at_a_page_is_a_partner_to_the_other_side(world: World) -> None:
    buyer, seller, path = await partners(world)
    surfer = await signed_in(world, seller.email)
    page = path.removeprefix("/v1")
    await surfer.go(page)
    for do in ("show", "hide", "disconnect"):
        await surfer.send(page, account_id=str(seller.id), do=do)
        await surfer.go(page)
    for who, told in (
        (seller, {"kind": "user", "email": seller.email}),
        (buyer, {"kind": "partner"}),
    ):
        did = [(action, doer) for action, doer, _ in await trail(who)][1:]
        assert did == [
            (action, told) for action in ("grant.started", "grant.ended", "connection.ended")
        ]
    seen = str(await buyer.pages(EVENTS))
    assert seller.email not in seen
    assert await seller.user_id() not in seen


async def test_member_of_both_sides_is_told_to_the_side_it_acted_for(world: World) -> None:
    one, other = await two(world)
    # The same person belongs to both. The one they didn't act for sees “partner”.
    user_id = UUID(await one.user_id())
    await world.fetch("INSERT INTO membership VALUES ($1, $2, 'admin')", other.id, user_id)
    actor = Actor("user", one.id, user_id)
    async with world.database.general.transaction() as connection:
        await audit.record_between(connection, "test.done", one.id, other.id, actor=actor)
    assert [told for _, told, _ in await trail(one)] == [{"kind": "user", "email": one.email}]
    assert [told for _, told, _ in await trail(other)] == [{"kind": "partner"}]


async def test_event_keeps_the_name_the_partner_had_then(world: World) -> None:
    buyer, seller, _ = await partners(world)
    await world.rename(seller, "Later Name")
    ((action, _, detail),) = await trail(buyer)
    assert (action, detail["partner"]["name"]) == ("connection.started", seller.name)
    assert (await buyer.see(CONNECTIONS))["items"][0]["partner"]["name"] == "Later Name"


async def test_event_of_an_account_did_not_happen_to_the_service(world: World) -> None:
    company = await party(world)
    async with world.database.general.transaction() as connection:
        await audit.record(connection, "test.done", company.id)
        assert not await audit.happened(connection, "test.done")
        await audit.record(connection, "test.done")
        assert await audit.happened(connection, "test.done")
        assert not await audit.happened(connection, "test.other")
