"""The pages where an account invites: what is pasted, previewed, sent, sent again, and canceled."""

import pytest

from service.invitations.invitations import MAX_EMAILS
from tests.builders import Company, World
from tests.surfer import Surfer, signed_in

INVITE, PENDING = "/connections/invite", "/connections/pending"
ASKS = {"reason": "domain_ownership_visibility", "do": "send"}


@pytest.fixture
async def buyer(world: World) -> Company:
    return await world.company("Harbor Insurance Group", "al@harbor.example")


@pytest.fixture
async def surfer(world: World, buyer: Company) -> Surfer:
    surfer = await signed_in(world, buyer.email)
    await surfer.go(INVITE)
    return surfer


async def invited(world: World) -> list[str]:
    return [
        row["email"] for row in await world.fetch("SELECT email FROM invitation ORDER BY email")
    ]


async def test_addresses_are_taken_in_any_form_each_once(world: World, surfer: Surfer) -> None:
    pasted = (
        'Jo Seller <Jo@One.example>; "Sam" (sam@two.example),\njo@one.example\tkim@three.example'
    )
    await surfer.send(INVITE, emails=pasted, **ASKS)
    assert await invited(world) == ["jo@one.example", "kim@three.example", "sam@two.example"]
    assert surfer.text.count("Invited.") == 3


async def test_form_says_whom_it_is_about_until_it_is_sent(surfer: Surfer) -> None:
    assert "You’re inviting" not in surfer.text
    await surfer.go(f"{INVITE}?about=cheap-quotes.example")
    assert "the company behind <strong>cheap-quotes.example</strong>" in surfer.text
    await surfer.send(INVITE, emails="nobody", **ASKS)
    assert "the company behind <strong>cheap-quotes.example</strong>" in surfer.text


async def test_preview_shows_the_email_and_sends_nothing(world: World, surfer: Surfer) -> None:
    typed = {"emails": "jo@one.example sam@two.example", "note": "Nice to meet you. <b>Al</b>"}
    response = await surfer.send(INVITE, **{**ASKS, "do": "preview"}, **typed)
    assert "2 addresses: jo@one.example, sam@two.example" in surfer.text
    preview = surfer.text.partition('id="preview"')[2]
    assert "Harbor Insurance Group" in preview
    assert "Nice to meet you." in preview
    assert "<b>Al</b>" not in response.text
    assert await invited(world) == []
    assert await world.mails("invitation") == []
    await surfer.send(INVITE, **ASKS, **typed)
    assert len(await world.mails("invitation")) == 2


async def test_double_click_invites_once(world: World, surfer: Surfer) -> None:
    for said in ("Invited.", "Already invited."):
        await surfer.go(INVITE)
        await surfer.send(INVITE, emails="jo@one.example", **ASKS)
        assert said in surfer.text
    assert len(await world.mails("invitation")) == 1


async def test_address_that_fails_leaves_the_others_invited(world: World, surfer: Surfer) -> None:
    response = await surfer.send(
        INVITE, emails="jo@one.example, @two.example, al@harbor.example", **ASKS
    )
    assert response.status_code == 200
    assert "Not invited" in surfer.text
    assert "jo@one.example" in await invited(world)
    assert "@two.example" not in await invited(world)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"emails": "nobody"}, "at least one, such as jo@example.com"),
        (
            {"emails": " ".join(f"p{n}@one.example" for n in range(MAX_EMAILS + 1))},
            f"at most {MAX_EMAILS} at a time",
        ),
        ({"reason": "join_account"}, "one of the reasons below"),
        ({"note": "See https://evil.example"}, "web address"),
        ({"note": "x" * 501}, "at most 500 visible characters"),
    ],
)
async def test_what_can_not_be_sent_is_said_and_nothing_typed_is_lost(
    world: World, surfer: Surfer, fields: dict[str, str], said: str
) -> None:
    sent = {"emails": "jo@one.example", "note": "Hello", **ASKS, **fields}
    response = await surfer.send(INVITE, **sent)
    assert response.status_code == 422
    assert said in surfer.text.partition('role="alert"')[2].partition("</p>")[0]
    assert sent["emails"] in surfer.text
    assert sent["note"] in surfer.text
    assert await invited(world) == []


async def test_whom_we_know_already_is_asked_for_its_name(
    world: World, buyer: Company, surfer: Surfer
) -> None:
    seller = await world.company("BrightQuote Media", "jo@brightquote.example")
    await world.connect(buyer, seller)
    (connection,) = await world.fetch("SELECT id FROM connection")
    await surfer.go(f"/connections/{connection['id']}")
    await surfer.send(f"/connections/{connection['id']}", do="ask")
    assert "You asked on" in surfer.text
    assert await world.mails("grant_requested") == [(seller.email, "queued")]
    await surfer.send(f"/connections/{connection['id']}", do="ask")
    assert len(await world.mails("grant_requested")) == 1
    await surfer.send(f"/connections/{connection['id']}", do="withdraw")
    assert "Ask to see their name" in surfer.text


async def test_pending_invitations_are_sent_again_and_canceled(
    world: World, surfer: Surfer
) -> None:
    await surfer.send(INVITE, emails="jo@one.example", **ASKS)
    (row,) = await world.fetch("SELECT id FROM invitation")
    await surfer.go(PENDING)
    assert "jo@one.example" in surfer.text
    await surfer.send(PENDING, invitation_id=str(row["id"]), do="resend")
    assert len(await world.mails("invitation")) == 2
    for _ in range(2):
        await surfer.go(INVITE)
        await surfer.send(PENDING, invitation_id=str(row["id"]), do="cancel")
        assert "jo@one.example" not in surfer.text.partition("<table")[2]
    await surfer.go(INVITE)
    assert (await surfer.send(PENDING, invitation_id="x", do="cancel")).status_code == 422


async def test_expired_invitations_are_listed_and_can_be_sent_again(
    world: World, surfer: Surfer
) -> None:
    await surfer.send(INVITE, emails="jo@one.example", **ASKS)
    await world.fetch("UPDATE invitation SET expires_at = now() - interval '1 day'")
    await surfer.go(PENDING)
    assert "Nobody answered these within 30 days" in surfer.text
    (row,) = await world.fetch("SELECT id FROM invitation")
    await surfer.send(PENDING, invitation_id=str(row["id"]), do="resend")
    assert "Nobody answered these" not in surfer.text
    assert "jo@one.example" in surfer.text


async def test_invitation_received_is_reviewed_by_its_addressee_alone(
    world: World, buyer: Company, surfer: Surfer
) -> None:
    seller = await world.company("BrightQuote Media", "jo@brightquote.example")
    await world.invite(seller, buyer.email)
    await surfer.go(PENDING)
    path = surfer.text.partition('class="button" href="/invitations/')[2].partition('"')[0]
    await surfer.go(f"/invitations/{path}")
    assert "BrightQuote Media" in surfer.text
    assert await world.fetch("SELECT FROM connection") == []
