"""Sign-in by email: links, sessions, and information leaks."""

import asyncio
import re
from datetime import timedelta
from typing import Any

import pytest
from litestar import Request

from service.accounts import sign_in
from service.accounts.sign_in import LinkRequest, send_link, sign_out
from service.tokens import link_token
from service.web.networks import network_of
from service.web.pages import Site
from tests.builders import SECRET, TABLES, World, link_of
from tests.surfer import ORIGIN, Surfer, send_links, session_with, sign_in_link, signed_in


async def asked(world: World, email: str) -> Surfer:
    surfer = Surfer(world.client)
    await surfer.go("/sign-in")
    await surfer.send("/sign-in", email=email)
    return surfer


async def is_signed_in(surfer: Surfer) -> bool:
    response = await surfer.go("/connections")
    return response.url.path == "/connections"


async def test_link_signs_in_the_user_it_was_mailed_to(world: World) -> None:
    company, other = await world.company(), await world.company()
    surfer = await signed_in(world, company.email)
    assert company.email in surfer.text
    assert company.name in surfer.text
    assert other.name not in surfer.text


async def test_looking_at_a_link_as_mail_scanners_do_does_not_use_it(world: World) -> None:
    company = await world.company()
    surfer = await asked(world, company.email)
    path = await sign_in_link(world, company.email)
    for _ in range(3):
        await Surfer(world.client).go(path)
    await surfer.go(path)
    await surfer.send(path)
    assert await is_signed_in(surfer)


async def test_link_works_once(world: World) -> None:
    company = await world.company()
    await signed_in(world, company.email)
    thief = Surfer(world.client)
    response = await thief.go(await sign_in_link(world, company.email))
    assert response.status_code == 410
    assert "already used" in thief.text
    assert not await is_signed_in(thief)


async def test_used_link_leads_whoever_is_signed_in_by_it_on(world: World) -> None:
    company = await world.company()
    surfer = await signed_in(world, company.email)
    path = await sign_in_link(world, company.email)
    assert (await surfer.go(path)).url.path == "/"
    assert (await surfer.send(path)).url.path == "/"


async def test_link_that_is_over_says_so_to_whoever_is_signed_in(world: World) -> None:
    company, other = await world.company(), await world.company()
    await signed_in(world, company.email)
    used = await sign_in_link(world, company.email)
    surfer = await signed_in(world, other.email)
    for path, status, why in ((used, 410, "already used"), ("/sign-in/" + "A" * 43, 404, "valid")):
        response = await surfer.go(path)
        assert response.status_code == status
        assert why in surfer.text
        assert other.email in surfer.text
    assert await is_signed_in(surfer)


async def test_link_that_is_over_asks_for_a_new_one_that_leads_to_the_same_page(
    world: World,
) -> None:
    buyer, seller = await world.company(), await world.company()
    invitation = await world.invite(buyer, seller.email)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/sign-in")
    path = await sign_in_link(world, seller.email)
    await world.fetch(
        "UPDATE sign_in_link SET created_at = now() - interval '15 minutes', expires_at = now()"
    )
    assert (await surfer.go(path)).status_code == 410
    assert f'value="{seller.email}"' in surfer.text
    await surfer.send("/sign-in", email=seller.email)
    path = await sign_in_link(world, seller.email)
    await surfer.go(path)
    assert (await surfer.send(path)).url.path == link_of(invitation)


async def test_link_that_is_over_leads_nobody_else_to_its_page(world: World) -> None:
    seller, other = await world.company(), await world.company()
    invitation = await world.invite(await world.company(), seller.email)
    surfer = Surfer(world.client)
    await surfer.go(link_of(invitation))
    await surfer.send(f"{link_of(invitation)}/sign-in")
    await world.fetch("UPDATE sign_in_link SET expires_at = now()")
    await surfer.go(await sign_in_link(world, seller.email))
    await surfer.send("/sign-in", email=other.email)
    path = await sign_in_link(world, other.email)
    await surfer.go(path)
    assert (await surfer.send(path)).url.path == "/"


async def test_link_expires_after_a_quarter_of_an_hour(world: World) -> None:
    company = await world.company()
    surfer = await asked(world, company.email)
    path = await sign_in_link(world, company.email)
    await surfer.go(path)
    await world.fetch(
        "UPDATE sign_in_link SET expires_at = expires_at - $1::interval", sign_in.LINK_LASTS
    )
    response = await surfer.send(path)
    assert response.status_code == 410
    assert "expired" in surfer.text
    assert not await is_signed_in(surfer)


@pytest.mark.parametrize("token", ["x", "A" * 43, "%00", "ä", "x" * 300])
async def test_link_that_is_none_is_said_to_be_none(world: World, token: str) -> None:
    surfer = Surfer(world.client)
    response = await surfer.go(f"/sign-in/{token}")
    assert response.status_code == 404
    assert "valid; request a new one" in surfer.text


async def test_known_and_unknown_address_are_answered_alike(world: World) -> None:
    company = await world.company()
    pages = []
    for email in (company.email, "a0@example.com"):
        surfer = await asked(world, email)
        assert surfer.page is not None
        headers = {**surfer.page.headers, "date": "", "content-length": ""}
        text = re.sub(r'value="[^"]*"', "", surfer.text).replace(email, "")
        pages.append((surfer.page.status_code, headers, text))
    assert pages[0] == pages[1]
    assert len(await world.fetch("SELECT FROM pgqueuer")) == 2
    await send_links(world)
    (row,) = await world.fetch("SELECT email FROM sign_in_link")
    assert row["email"] == company.email
    (mail,) = await world.mails("sign_in")
    assert mail[0] == company.email


async def test_addresses_of_nobody_leave_no_rows(world: World) -> None:
    for _ in range(3):
        await asked(world, "nobody@example.com")
    await send_links(world)
    for table in TABLES:
        rows = await world.fetch(f"SELECT kept::text AS row FROM {table} AS kept")
        assert not [row for row in rows if "nobody@example.com" in row["row"]]


async def test_who_asks_in_anothers_name_a_hundred_times_does_not_keep_that_person_out(
    world: World,
) -> None:
    company = await world.company()
    for _ in range(60):
        await world.fetch(
            "UPDATE sign_in_link SET created_at = created_at - interval '1 minute',"
            " expires_at = expires_at - interval '1 minute'"
        )
        async with world.database.general.transaction() as connection:
            for _ in range(2):
                await send_link(connection, SECRET.encode(), LinkRequest(company.email))
        # There is always a link in the mailbox that works, and for some minutes yet.
        (row,) = await world.fetch("SELECT max(expires_at) - now() AS left FROM sign_in_link")
        assert row["left"] >= timedelta(minutes=5)
    assert len(await world.mails("sign_in")) <= 12
    surfer = await signed_in(world, company.email)
    assert await is_signed_in(surfer)


async def test_used_link_is_followed_by_another_at_once(world: World) -> None:
    company = await world.company()
    for _ in range(8):
        assert await is_signed_in(await signed_in(world, company.email))
    assert len(await world.mails("sign_in")) == 8


async def test_browser_that_asks_too_often_is_refused_and_others_are_not(world: World) -> None:
    company = await world.company()
    surfer = Surfer(world.client)
    await surfer.go("/sign-in")
    statuses = []
    for number in range(21):
        response = await surfer.send("/sign-in", email=f"a{number}@example.com")
        statuses.append(response.status_code)
        await surfer.go("/sign-in")
    assert statuses == [200] * 20 + [429]
    assert await is_signed_in(await signed_in(world, company.email))


async def test_network_that_asks_too_often_is_refused_whatever_the_browser(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sign_in, "ASKED_BY_NETWORK", 2)
    statuses = []
    for address in ("9.9.9.5", "9.9.9.77", "9.9.9.99", "9.9.8.1"):
        surfer = Surfer(world.client)
        await surfer.go("/sign-in")
        headers = {"Origin": ORIGIN, "X-Forwarded-For": f"8.8.8.8, {address}, 10.0.0.1"}
        sent = await surfer.send("/sign-in", headers=headers, email="jo@example.com")
        statuses.append(sent.status_code)
    assert statuses == [200, 200, 429, 200]


@pytest.mark.parametrize(
    ("peer", "forwarded", "network"),
    [
        ("9.9.9.9", "", "9.9.9.0/24"),
        ("9.9.9.9", "8.8.8.8", "9.9.9.0/24"),
        ("127.0.0.1", "8.8.8.8", "8.8.8.0/24"),
        ("10.1.2.3", "1.2.3.4, 8.8.8.8, 192.168.0.7", "8.8.8.0/24"),
        ("::ffff:9.9.9.9", "", "9.9.9.0/24"),
        ("2606:4700:1:2::3", "", "2606:4700:1::/48"),
        ("10.1.2.3", "", None),
        ("10.1.2.3", "nonsense", None),
        ("", "8.8.8.8", None),
    ],
)
def test_network_is_the_clients_behind_our_proxy_and_unknown_if_that_tells_none(
    peer: str, forwarded: str, network: str | None
) -> None:
    scope: Any = {
        "type": "http",
        "client": (peer, 1),
        "headers": [(b"x-forwarded-for", forwarded.encode())] if forwarded else [],
    }
    assert network_of(Request(scope)) == network


async def test_bad_address_is_told_beside_the_form(world: World) -> None:
    surfer = Surfer(world.client)
    await surfer.go("/sign-in")
    response = await surfer.send("/sign-in", email='jo@example <script>"')
    assert response.status_code == 422
    assert "must be an email address" in surfer.text
    assert "<script>" not in response.text


async def test_session_token_is_another_after_signing_in_and_the_old_one_worth_nothing(
    world: World,
) -> None:
    company = await world.company()
    victim = Surfer(world.client)
    victim.cookie = "prepared-by-somebody-else"
    await victim.go("/sign-in")
    await victim.send("/sign-in", email=company.email)
    path = await sign_in_link(world, company.email)
    await victim.go(path)
    await victim.send(path)
    assert await is_signed_in(victim)
    assert victim.cookie != "prepared-by-somebody-else"
    attacker = Surfer(world.client)
    attacker.cookie = "prepared-by-somebody-else"
    assert not await is_signed_in(attacker)


async def test_signing_in_again_ends_the_session_that_browser_had(world: World) -> None:
    company, other = await world.company(), await world.company()
    surfer = await signed_in(world, company.email)
    former = surfer.cookie
    assert former is not None
    await asked(world, other.email)
    path = await sign_in_link(world, other.email)
    await surfer.go(path)
    await surfer.send(path)
    assert other.name in surfer.text
    surfer.cookie = former
    assert not await is_signed_in(surfer)


async def test_signing_out_everywhere_ends_all_sessions_and_open_links(world: World) -> None:
    company = await world.company()
    one, two = await signed_in(world, company.email), await signed_in(world, company.email)
    await asked(world, company.email)
    path = await sign_in_link(world, company.email)
    await one.go("/connections")
    await one.send("/sign-out", everywhere="yes")
    assert not await is_signed_in(one)
    assert not await is_signed_in(two)
    assert (await two.go(path)).status_code == 410


async def test_signing_out_here_leaves_other_sessions(world: World) -> None:
    company = await world.company()
    one, two = await signed_in(world, company.email), await signed_in(world, company.email)
    await one.go("/connections")
    await one.send("/sign-out")
    assert not await is_signed_in(one)
    assert await is_signed_in(two)


async def test_session_ends_after_two_weeks(world: World) -> None:
    surfer = await signed_in(world, (await world.company()).email)
    await world.fetch("UPDATE user_session SET expires_at = expires_at - interval '14 days'")
    assert not await is_signed_in(surfer)


async def test_only_digests_of_tokens_are_kept(world: World) -> None:
    company = await world.company()
    surfer = await signed_in(world, company.email)
    assert surfer.cookie is not None
    token = (await sign_in_link(world, company.email)).rpartition("/")[2]
    for table in ("user_session", "sign_in_link", "mail", "pgqueuer", "invitation"):
        for row in await world.fetch(f"SELECT * FROM {table}"):
            for secret in (surfer.cookie, token):
                assert secret not in str(dict(row))


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://service.evil.example"},
        {"Origin": "https://service"},
        {"Referer": "http://service/sign-in"},
    ],
)
async def test_form_from_elsewhere_is_refused(world: World, headers: dict[str, str]) -> None:
    surfer = await signed_in(world, (await world.company()).email)
    await surfer.go("/connections")
    response = await surfer.send("/sign-out", headers=headers)
    assert response.status_code == 403
    assert await is_signed_in(surfer)


async def test_form_without_this_sessions_token_is_refused(world: World) -> None:
    surfer = await signed_in(world, (await world.company()).email)
    other = Surfer(world.client)
    await other.go("/sign-in")
    (others,) = set(re.findall(r'name="form_token" value="([^"]*)"', other.text))
    for token in ("", "x", others, None):
        await surfer.go("/connections")
        assert (await surfer.send("/sign-out", form_token=token)).status_code == 403
    assert await is_signed_in(surfer)


async def test_link_leads_to_pages_of_ours_alone(world: World) -> None:
    company = await world.company()
    for path in (
        "https://evil.example",
        "//evil.example",
        "/\\evil.example",
        "/connections/../x",
        "/domains/a..b",
        "/sign-out",
    ):
        surfer = Surfer(world.client)
        await surfer.go("/sign-in")
        await surfer.send("/sign-in", email=company.email, next=path)
        await sign_in_link(world, company.email)
        rows = await world.fetch("DELETE FROM sign_in_link RETURNING next_path")
        assert [row["next_path"] for row in rows] == ["/"]


async def test_pages_may_not_be_framed_cached_or_load_from_elsewhere(world: World) -> None:
    for path in ("/sign-in", "/sign-in/x", "/invitations/x", "/connections"):
        response = await Surfer(world.client).go(path)
        assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
        assert "default-src 'none'" in response.headers["content-security-policy"]
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-content-type-options"] == "nosniff"
        assert response.headers["referrer-policy"] == "same-origin"
        assert "//" not in re.sub(r"<!doctype.*?>", "", response.text)
    style = await world.client.get("/static/pages.css")
    assert style.status_code == 200
    assert style.headers["content-type"].startswith("text/css")


async def test_session_cookie_is_out_of_reach_of_scripts_and_other_sites(world: World) -> None:
    cookie = (await Surfer(world.client).go("/sign-in")).headers["set-cookie"]
    assert "HttpOnly" in cookie
    assert "SameSite=lax" in cookie
    assert "Secure" not in cookie


@pytest.mark.parametrize(
    ("public_url", "origin", "cookie"),
    [
        ("https://owners.example", "https://owners.example", "__Host-session"),
        ("https://owners.example:443", "https://owners.example", "__Host-session"),
        ("https://Owners.example:8443", "https://owners.example:8443", "__Host-session"),
        ("http://127.0.0.1:8000", "http://127.0.0.1:8000", "session"),
        ("http://[::1]:80", "http://[::1]", "session"),
    ],
)
def test_origin_and_cookie_follow_from_the_public_url(
    public_url: str, origin: str, cookie: str
) -> None:
    site = Site(public_url, b"secret")
    assert (site.origin, site.cookie) == (origin, cookie)
    assert site.is_secure == cookie.startswith("__Host")


async def test_what_is_over_is_forgotten_a_day_later(world: World) -> None:
    company = await world.company()
    kept = await signed_in(world, company.email)
    await signed_in(world, company.email)
    await world.fetch(
        """
        UPDATE user_session SET expires_at = now() - $1::interval
        WHERE id = (SELECT max(id::text)::uuid FROM user_session)
        """,
        timedelta(days=1, minutes=1),
    )
    await world.fetch("UPDATE sign_in_link SET expires_at = now() - interval '25 hours'")
    async with world.database.general.transaction() as connection:
        await sign_in.purge(connection)
    assert len(await world.fetch("SELECT FROM user_session")) == 1
    assert await world.fetch("SELECT FROM sign_in_link") == []
    assert await world.mails("sign_in") == []
    assert await is_signed_in(kept)


async def test_signing_out_everywhere_waits_for_who_is_signing_in(world: World) -> None:
    company = await world.company()
    for _ in range(2):
        async with world.database.general.transaction() as connection:
            await connection.execute(
                "UPDATE sign_in_link SET created_at = now() - interval '3 min'"
            )
            await send_link(connection, SECRET.encode(), LinkRequest(company.email))
    rows = await world.fetch("SELECT mail_id FROM sign_in_link")
    first, second = (link_token(SECRET.encode(), row["mail_id"]) for row in rows)
    async with world.database.general.transaction() as connection:
        token = (await sign_in.sign_in(connection, first, None)).token
    async with world.database.general.connection() as connection:
        session = await session_with(connection, token)
    assert session is not None

    async def everywhere() -> None:
        async with world.database.general.transaction() as connection:
            await sign_out(connection, session, everywhere=True)

    async with world.database.general.transaction() as connection:
        begun = await sign_in.sign_in(connection, second, None)
        leaving = asyncio.create_task(everywhere())
        await asyncio.sleep(0.2)
        assert not leaving.done()
    await leaving
    async with world.database.general.connection() as connection:
        assert await session_with(connection, begun.token) is None


async def test_how_often_others_asked_for_a_link_is_not_told(world: World) -> None:
    company = await world.company()
    surfer = await asked(world, company.email)
    assert surfer.page is not None
    assert "ratelimit" not in surfer.page.headers


async def test_form_in_another_encoding_is_bad_input(world: World) -> None:
    surfer = Surfer(world.client)
    await surfer.go("/sign-in")
    boundary = b'--x\r\nContent-Disposition: form-data; name="email"\r\n\r\n\xff\xfe\r\n--x--\r\n'
    response = await surfer._client.post(
        "/sign-in",
        content=boundary,
        headers={"Origin": ORIGIN, "Content-Type": "multipart/form-data; boundary=x"},
    )
    assert response.status_code == 422
