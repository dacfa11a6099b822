"""Mails: content, injection, and delivery."""

import asyncio
import re
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any, cast
from uuid import UUID

import msgspec
import pytest
import trustme
from aiosmtpd.smtp import AuthResult
from hypothesis import given
from hypothesis import strategies as st
from uuid_utils.compat import uuid7

from service import worker
from service.audit import Actor
from service.invitations import invitations
from service.mail import mails
from service.mail.letters import Tokens, html, letter_of, plain_text, unlinked
from service.mail.mails import Mailer, queue_mail, send_mail
from service.mail.transport import HeaderInjection, MailFailed, checked_header, message
from service.settings import Settings, Smtp
from service.tokens import stop_token
from tests.builders import SECRET, World, link_of, until
from tests.conftest import SETTINGS
from tests.mailbox import Mailbox, link_in, mailbox, text_of

TO = "jo@seller.example"


def mailer(tmp_path: Path, smtp: Smtp | None = None) -> Mailer:
    return Mailer("http://service", SECRET.encode(), SETTINGS.mail_from, smtp, tmp_path / "outbox")


def server(box: Mailbox, **security: Any) -> Smtp:
    return Smtp("127.0.0.1", box.port, **{"security": "none", **security})


@pytest.fixture
def box() -> Iterator[Mailbox]:
    with mailbox() as box:
        yield box


async def queued(world: World, kind: str = "declined", **params: Any) -> UUID:
    async with world.database.general.transaction() as connection:
        return await queue_mail(
            connection, kind, TO, params={"own": "Own Leads", "email": TO, **params}
        )


async def state(world: World, mail_id: UUID) -> tuple[str, str | None]:
    (row,) = await world.fetch("SELECT state, error FROM mail WHERE id = $1", mail_id)
    return row["state"], row["error"]


@asynccontextmanager
async def working(database_url: str, settings: Settings) -> AsyncIterator[None]:
    stopped = asyncio.Event()
    task = asyncio.create_task(worker.work(database_url, settings, stopped))
    yield
    stopped.set()
    await task


async def test_invitation_is_mailed_with_its_link_and_how_to_stop(
    world: World, box: Mailbox, tmp_path: Path
) -> None:
    buyer = await world.company("Harbor Insurance")
    invitation = await world.invite(buyer, TO)
    await send_mail(
        world.database, mailer(tmp_path, server(box)), invitation.mail_id, is_last=False
    )
    mail = box.mail_to(TO)
    link = f"http://service{link_of(invitation)}"
    assert link_in(mail) == link
    assert "sees your company’s name as the owner of your verified domains" in text_of(
        mail
    ).replace("\r\n", " ")
    assert link in text_of(mail, "html")
    stop = (
        f"http://service/invitations/{stop_token(SECRET.encode(), invitation.mail_id)}/unsubscribe"
    )
    assert mail["List-Unsubscribe"] == f"<{stop}>"
    assert f"List-Unsubscribe: <{stop}>\r\n" in box.raw[-1].decode()
    assert stop in text_of(mail).replace("=\r\n", "")
    assert mail["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    assert mail["From"] == "us@service.example"
    assert mail["Subject"] == f"{buyer.name} invited you to connect"
    assert mail["Message-ID"] == f"<{invitation.mail_id}@service.example>"
    assert mail["Auto-Submitted"] == "auto-generated"
    now = await world.invitation(invitation)
    assert (now.delivery, now.sent_count) == ("sent", 1)
    assert now.last_sent_at is not None


async def test_mail_sent_twice_is_the_same_mail(world: World, box: Mailbox, tmp_path: Path) -> None:
    mail_id = await queued(world)
    await send_mail(world.database, mailer(tmp_path, server(box)), mail_id, is_last=False)
    await world.fetch("UPDATE mail SET state = 'sending', sent_at = NULL")
    await send_mail(world.database, mailer(tmp_path, server(box)), mail_id, is_last=False)
    one, two = box.mails
    assert one["Message-ID"] == two["Message-ID"]
    assert text_of(one) == text_of(two)
    await send_mail(world.database, mailer(tmp_path, server(box)), mail_id, is_last=False)
    assert len(box.mails) == 2


async def test_rolled_back_invitation_sends_nothing(world: World) -> None:
    buyer = await world.company()
    async with world.database.general.connection() as connection:
        transaction = connection.transaction()
        await transaction.start()
        await invitations.invite(
            connection,
            SECRET.encode(),
            buyer.id,
            Actor("key", buyer.id, buyer.key_id),
            TO,
            "receive_leads",
        )
        await transaction.rollback()
    for table in ("mail", "pgqueuer", "invitation", "allowance", "event"):
        where = "WHERE action ~ 'invitation'" if table == "event" else ""
        assert await world.fetch(f"SELECT FROM {table} {where}") == []


async def test_cancelled_invitation_that_was_not_sent_yet_is_not(
    world: World, box: Mailbox, tmp_path: Path
) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, TO)
    path = f"/v1/invitations/{invitation.id}/cancel"
    assert (await world.client.post(path, headers=buyer.headers)).status_code == 200
    await send_mail(
        world.database, mailer(tmp_path, server(box)), invitation.mail_id, is_last=False
    )
    assert box.mails == []
    assert (await world.invitation(invitation)).delivery == "cancelled"


async def test_link_to_sign_in_goes_to_users_alone(
    world: World, box: Mailbox, tmp_path: Path
) -> None:
    company = await world.company()
    async with world.database.general.transaction() as connection:
        for email in (company.email, "nobody@example.com"):
            params = {"expires_at": "2026-11-27T14:05:00Z"}
            await queue_mail(connection, "sign_in", email, params=params)
    for row in await world.fetch("SELECT id FROM mail"):
        await send_mail(world.database, mailer(tmp_path, server(box)), row["id"], is_last=False)
    assert [mail["To"] for mail in box.mails] == [company.email]


async def test_mail_that_comes_too_late_is_not_sent(
    world: World, box: Mailbox, tmp_path: Path
) -> None:
    mail_id = await queued(world)
    await world.fetch("UPDATE mail SET not_after = now() - interval '1 second'")
    await send_mail(world.database, mailer(tmp_path, server(box)), mail_id, is_last=False)
    assert box.mails == []
    assert await state(world, mail_id) == ("failed", "it expired before it could be sent")


async def test_refused_address_fails_at_once_and_the_invitation_says_so(
    world: World, box: Mailbox, tmp_path: Path
) -> None:
    box.refused = "550 no such user here"
    invitation = await world.invite(await world.company(), TO)
    await send_mail(
        world.database, mailer(tmp_path, server(box)), invitation.mail_id, is_last=False
    )
    now = await world.invitation(invitation)
    assert now.delivery == "failed"
    assert now.delivery_error == "the mail server refused the address (550)"


@pytest.mark.parametrize("is_last", [False, True])
async def test_server_that_is_busy_is_tried_again_unless_it_was_the_last_time(
    world: World, box: Mailbox, tmp_path: Path, is_last: bool
) -> None:
    box.replies = ["451 try later"]
    mail_id = await queued(world)
    sending = send_mail(world.database, mailer(tmp_path, server(box)), mail_id, is_last=is_last)
    if is_last:
        await sending
    else:
        with pytest.raises(MailFailed):
            await sending
    assert await state(world, mail_id) == (
        "failed" if is_last else "retrying",
        "the mail server can't take mail now (451)",
    )


async def test_dead_server_is_retried_until_it_is_back_and_the_invitation_shows_it(
    world: World, migrated_url: str, tmp_path: Path
) -> None:
    with mailbox() as gone:
        port = gone.port
    invitation = await world.invite(await world.company(), TO)
    settings = msgspec.structs.replace(SETTINGS, smtp=Smtp("127.0.0.1", port, "none"))

    async def is_retrying() -> bool:
        now = await world.invitation(invitation)
        return (
            now.delivery == "retrying" and now.delivery_error == "the mail server can't be reached"
        )

    async with working(migrated_url, settings):
        await until(is_retrying)
        with mailbox(port) as box:
            # Retry now whatever waits for its next attempt.
            async def is_sent() -> bool:
                await world.fetch("UPDATE pgqueuer SET execute_after = now()")
                return (await world.invitation(invitation)).delivery == "sent"

            await until(is_sent)
            assert len(box.mails) == 1


async def test_without_a_server_mails_are_files_in_the_outbox(world: World, tmp_path: Path) -> None:
    mail_id = await queued(world)
    for _ in range(2):
        await send_mail(world.database, mailer(tmp_path), mail_id, is_last=False)
        await world.fetch("UPDATE mail SET state = 'queued', sent_at = NULL")
    (file,) = (tmp_path / "outbox").iterdir()
    assert file.name == f"{mail_id}.eml"
    mail = cast("EmailMessage", message_from_bytes(file.read_bytes(), policy=cast("Any", default)))
    assert mail["To"] == TO
    assert "Nothing was shared." in text_of(mail)


@pytest.fixture
def certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server certificate for this machine, trusted by this process."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "authority.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context


def encrypted(
    security: str, certificate: ssl.SSLContext, seen: list[tuple[bytes, bytes]]
) -> dict[str, Any]:
    """Options for a server that accepts mails only from its users."""

    def check(server: object, session: object, envelope: object, mechanism: str, data: Any) -> Any:
        seen.append((data.login, data.password))
        return AuthResult(success=data.password == b"pass word")

    if security == "tls":
        # aiosmtpd doesn't recognize TLS that is on from the start.
        return {"authenticator": check, "auth_require_tls": False, "ssl_context": certificate}
    return {
        "authenticator": check,
        "auth_required": True,
        "tls_context": certificate,
        "require_starttls": True,
    }


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_encrypted_server_is_used_with_user_and_password(
    world: World, tmp_path: Path, certificate: ssl.SSLContext, security: str
) -> None:
    seen: list[tuple[bytes, bytes]] = []
    mail_id = await queued(world)
    with mailbox(**encrypted(security, certificate, seen)) as box:
        smtp = server(box, security=security, user="us", password="pass word")
        await send_mail(world.database, mailer(tmp_path, smtp), mail_id, is_last=False)
    assert seen == [(b"us", b"pass word")]
    assert len(box.mails) == 1


@pytest.mark.parametrize("security", ["starttls", "tls"])
async def test_server_that_can_not_be_trusted_gets_neither_mail_nor_password(
    world: World,
    tmp_path: Path,
    certificate: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    security: str,
) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")
    seen: list[tuple[bytes, bytes]] = []
    mail_id = await queued(world)
    with mailbox(**encrypted(security, certificate, seen)) as box:
        smtp = server(box, security=security, user="us", password="pass word")
        with pytest.raises(MailFailed, match="can't be reached"):
            await send_mail(world.database, mailer(tmp_path, smtp), mail_id, is_last=False)
    assert (box.mails, seen) == ([], [])


async def test_server_without_starttls_gets_no_mail_where_that_is_asked_for(
    world: World, box: Mailbox, tmp_path: Path
) -> None:
    mail_id = await queued(world)
    with pytest.raises(MailFailed):
        await send_mail(
            world.database,
            mailer(tmp_path, server(box, security="starttls")),
            mail_id,
            is_last=False,
        )
    assert box.mails == []


BREAKS = ["\r\n", "\n", "\r", "\0", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029"]


@given(st.text(max_size=20), st.sampled_from(BREAKS), st.text(max_size=20))
def test_header_with_a_line_break_is_refused(before: str, line_break: str, after: str) -> None:
    value = f"{before}{line_break}{after}"
    with pytest.raises(HeaderInjection):
        checked_header("Subject", value)
    headers: dict[str, Any] = {
        "sender": "us@service.example",
        "recipient": TO,
        "subject": "s",
        "message_id": "<1@x>",
        "headers": {},
    }
    for name in ("sender", "recipient", "subject", "message_id", "headers"):
        with pytest.raises(HeaderInjection):
            message(
                **{**headers, name: {"X-A": value} if name == "headers" else value},
                date=datetime(2026, 1, 1, tzinfo=UTC),
                text="",
                html="",
            )


@pytest.mark.parametrize(
    "kind",
    [
        "accepted", "connected", "declined", "disconnected", "grant_given", "grant_requested",
        "grant_withdrawn", "invitation", "sign_in",
    ],
)  # fmt: skip
def test_what_companies_wrote_is_text_in_html_and_in_one_line_of_the_subject(kind: str) -> None:
    evil = "<script>alert('x')</script> & Co"
    letter = letter_of(
        kind,
        {
            "own": evil, "partner": evil, "inviter": evil, "ended_by": evil, "email": TO,
            "shows": "It does not.", "connection_id": "1", "reason": "receive_leads",
            "note": f"{evil}\nsecond line", "expires_at": "2026-12-24T00:00:00+00:00",
            "is_reminder": "",
        },
        "http://service",
        Tokens("TOKEN", "STOP"),
    )  # fmt: skip
    assert "<script" not in html(letter)
    assert "\n" not in letter.subject
    assert "http://service/" in plain_text(letter)


@pytest.mark.parametrize(
    "name",
    [
        "Harbor Insurance Group",
        "München Leads GmbH",
        "東京リード株式会社" * 13,
        "ü" * 120,
        "A" * 120,
        "Quotes “R” Us, Inc. <x@y.example>",
        "=?utf-8?q?Har=62or?= Insurance",
    ],
)
def test_subject_names_the_company_as_every_mail_program_reads_it(name: str) -> None:
    subject = f"{name} invited you to connect"
    raw = bytes(
        message(
            sender="us@service.example", recipient=TO, subject=subject, message_id="<1@x>",
            date=datetime(2026, 1, 1, tzinfo=UTC), headers={}, text="", html="",
        )
    )  # fmt: skip
    assert raw.isascii()
    # RFC 2047, section 2.
    assert all(len(word) <= 75 for word in re.findall(rb"=\?\S+?\?[bq]\?\S*?\?=", raw))
    read = message_from_bytes(raw, policy=default)["Subject"]
    assert read == subject.replace("=?", "= ?")


@pytest.mark.parametrize(
    "text", ["evil.example/login", "www.evil.example", "https://evil.example", "jo@evil.example"]
)
def test_what_companies_wrote_is_not_made_a_link_of(text: str) -> None:
    shown = unlinked(text)
    assert shown.replace("\u200b", "") == text
    assert "evil.example" not in shown
    assert "@evil" not in shown


async def test_mails_are_forgotten_after_a_month_but_what_invitations_tell(world: World) -> None:
    invitation = await world.invite(await world.company(), TO)
    await queued(world)
    await world.fetch("UPDATE mail SET created_at = created_at - interval '31 days'")
    kept = await queued(world)
    async with world.database.general.transaction() as connection:
        await mails.purge(connection)
    rows = await world.fetch("SELECT id FROM mail")
    assert {row["id"] for row in rows} == {invitation.mail_id, kept}


@pytest.mark.parametrize(
    ("age", "is_kept"),
    [
        (timedelta(days=1, minutes=1), True),
        (timedelta(days=29), True),
        (timedelta(days=30), True),
        (timedelta(days=30, seconds=1), False),
    ],
)
@pytest.mark.parametrize("state", ["sent", "failed", "cancelled", "suppressed"])
async def test_mail_is_kept_for_a_month_and_no_longer(
    world: World, state: str, age: timedelta, is_kept: bool
) -> None:
    await queued(world)
    async with world.database.general.transaction() as connection:
        # In one transaction, because the database's clock stands still there.
        await connection.execute(
            """
            UPDATE mail SET created_at = now() - $1::interval, state = $2,
                sent_at = CASE WHEN $2 = 'sent' THEN now() END
            """,
            age,
            state,
        )
        await mails.purge(connection)
        assert bool(await connection.fetch("SELECT FROM mail")) is is_kept


async def test_every_mail_of_an_invitation_is_kept_and_counted(world: World) -> None:
    buyer = await world.company()
    invitation = await world.invite(buyer, TO)
    path = f"/v1/invitations/{invitation.id}/resend"
    assert (await world.client.post(path, headers=buyer.headers)).status_code == 200
    await world.fetch(
        """
        UPDATE mail SET state = 'sent', sent_at = created_at - interval '1 year',
            created_at = created_at - interval '1 year'
        """
    )
    async with world.database.general.transaction() as connection:
        await mails.purge(connection)
    now = await world.invitation(invitation)
    assert (now.delivery, now.sent_count) == ("sent", 2)
    assert len(await world.mails("invitation")) == 2


async def test_mail_that_is_gone_is_no_error(world: World, tmp_path: Path) -> None:
    await send_mail(world.database, mailer(tmp_path), uuid7(), is_last=False)


def test_what_strangers_wrote_into_dns_is_no_link_and_what_is_copied_stays_as_it_is() -> None:
    code = "activeprospect-domain-verification=oFaug-kU3dPq0ZrT8wYx2mNvB5hLsJ7g"
    host = "in-all-fifty-states-of-the-union-and-more.seller.example"
    letter = letter_of(
        "domain_lapsed",
        {
            "own": "Seller",
            "domain": host,
            "host": host,
            "code": code,
            "hint": "There are other TXT records, such as “see https://evil.example/sign-in now”. "
            f"Add “{code}” at {host}.",
        },
        "http://service",
        Tokens("token", "stop"),
    )
    for text in (plain_text(letter), html(letter)):
        assert "https://evil.example" not in text
        assert "evil.example" not in text
        assert text.count(host) >= 4
        assert text.count(code) == 2
    assert host in letter.subject
    assert host in letter.heading


def test_plain_text_breaks_neither_codes_nor_host_names() -> None:
    code, host = "activeprospect-domain-verification=" + "a-b" * 20, "a-b-" * 15 + "x.example"
    params = {
        "own": "Seller",
        "domain": host,
        "host": host,
        "code": code,
        "hint": "",
        "until": "2026-11-30T14:05:00Z",
    }
    text = plain_text(
        letter_of("domain_failing", params, "http://service", Tokens("token", "stop"))
    )
    assert code in text
    assert text.count(host) >= 3
    assert "November 30, 2026, 2:05 PM UTC" in " ".join(text.split())


@pytest.mark.parametrize(
    ("reply", "of_address", "about"),
    [
        ("550 5.1.1 no such user", True, "recipient"),
        ("550 5.1.2 no such domain", True, "recipient"),
        ("550 5.2.1 mailbox disabled", True, "recipient"),
        ("550 no such user here", True, "recipient"),
        ("554 5.1.1 no such user", False, "recipient"),
        ("550 5.7.1 Relay access denied", True, "operator"),
        ("550 Relaying denied", True, "operator"),
        ("550 5.4.5 Daily user sending limit exceeded", True, "operator"),
        ("504 5.5.2 <localhost>: Helo command rejected: need fully-qualified hostname", True,
         "operator"),
        ("554 5.7.0 message limit exceeded. Try again later.", False, "operator"),
        ("554 5.1.8 bad sender's system address", False, "operator"),
        ("552 5.2.2 mailbox full", True, "operator"),
        ("554 no", False, "operator"),
        ("450 4.2.0 greylisted", True, "operator"),
    ],
)  # fmt: skip
async def test_refusal_is_final_only_if_it_is_about_the_recipient(
    world: World, box: Mailbox, tmp_path: Path, reply: str, of_address: bool, about: str
) -> None:
    if of_address:
        box.refused = reply
    else:
        box.replies = [reply]
    mail_id = await queued(world)
    sending = send_mail(world.database, mailer(tmp_path, server(box)), mail_id, is_last=False)
    if about == "recipient":
        await sending
    else:
        with pytest.raises(MailFailed):
            await sending
    state_now, error = await state(world, mail_id)
    assert state_now == ("failed" if about == "recipient" else "retrying")
    assert error is not None
    assert reply[:3] in error
    if reply.startswith("5"):
        assert ("the operator has to fix" in error) is (about == "operator")


async def test_mail_that_can_not_be_made_is_not_left_as_being_sent(
    world: World, box: Mailbox, tmp_path: Path
) -> None:
    async with world.database.general.transaction() as connection:
        mail_id = await queue_mail(connection, "sign_in", TO, params={})
    await world.fetch("INSERT INTO app_user (id, email) VALUES (gen_random_uuid(), $1)", TO)
    for is_last, expected in ((False, "retrying"), (True, "failed")):
        with pytest.raises(KeyError):
            await send_mail(world.database, mailer(tmp_path, server(box)), mail_id, is_last=is_last)
        assert (await state(world, mail_id))[0] == expected


async def test_outbox_is_for_its_owner_alone_and_says_that_nothing_was_sent(
    world: World, tmp_path: Path
) -> None:
    invitation = await world.invite(await world.company(), TO)
    await send_mail(world.database, mailer(tmp_path, None), invitation.mail_id, is_last=False)
    outbox = tmp_path / "outbox"
    (file,) = outbox.iterdir()
    assert (outbox.stat().st_mode & 0o777, file.stat().st_mode & 0o777) == (0o700, 0o600)
    now = await world.invitation(invitation)
    assert (now.delivery, now.sent_count) == ("written", 1)


async def test_bodies_have_lines_of_at_most_76_characters(
    world: World, box: Mailbox, tmp_path: Path
) -> None:
    company = await world.company()
    response = await world.client.post(
        "/v1/invitations",
        headers=company.headers,
        json={"emails": [TO], "reason": "receive_leads", "note": "ü" * 500},
    )
    assert response.status_code == 201
    (row,) = await world.fetch("SELECT mail_id FROM invitation")
    await send_mail(world.database, mailer(tmp_path, server(box)), row["mail_id"], is_last=False)
    _, _, body = box.raw[-1].partition(b"\r\n\r\n")
    assert max(map(len, body.split(b"\r\n"))) <= 76
