"""The pages where an account invites, and sees which invitations wait for an answer."""

import re
from collections.abc import Mapping, Sequence
from typing import Annotated, get_args
from uuid import UUID

import msgspec
from litestar import get, post
from litestar.di import NamedDependency
from litestar.params import QueryParameter

from service.accounts.accounts import name_of
from service.accounts.members import account_of_admin
from service.accounts.visitors import Seat, Visitor, form_of, go_on, id_in, page, seat_of, user_of
from service.audit import Actor
from service.errors import Conflict, InvalidInput, LimitReached, ServiceError, shorten
from service.invitations import invitations, queries
from service.invitations.invitations import GrantRequested, Invited
from service.invitations.records import Invitation, Reason
from service.mail.letters import Tokens, letter_of, plain_text
from service.postgres.pools import Connection, Database
from service.tokens import link_token
from service.web.bodies import HttpRequest
from service.web.pages import Page, Site
from service.web.parameters import page_of

_Before = Annotated[UUID | None, QueryParameter()]

# How many rows a page has.
_SHOWN = 50

_REASONS = [reason for reason in get_args(Reason) if reason != "join_account"]

# What separates addresses, however they are pasted. In “Jo Seller <jo@example.com>”, the name goes.
_BETWEEN = re.compile(r"[\s,;<>()\[\]\"]+")


class _Outcome(msgspec.Struct, frozen=True):
    """What became of one address."""

    email: str
    kind: str
    text: str


@get("/connections/pending")
async def show_pending(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    before: _Before = None,
) -> Page:
    """Show the invitations to connect that wait for an answer, and those that expired without."""
    return await _pending(request, visitor, database, before=before)


@post("/connections/pending", status_code=200)
async def change_pending(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Resend or cancel an invitation."""
    form = await form_of(request, visitor)
    user = user_of(visitor, "/connections/pending")
    try:
        async with database.general.transaction() as connection:
            account_id = await account_of_admin(connection, user, form.get("account_id", ""))
            invitation_id = id_in(form, "invitation_id", "an invitation")
            actor = Actor("user", account_id, user.id)
            match form.get("do"):
                case "resend":
                    secret = request.app.state.secret
                    await invitations.resend(connection, secret, account_id, invitation_id, actor)
                case "cancel":
                    await invitations.cancel(connection, account_id, invitation_id, actor)
                case other:
                    raise InvalidInput("do", other or "", "resend or cancel")
    except (Conflict, LimitReached) as error:
        return await _pending(request, visitor, database, error=str(error))
    return go_on(request, "/connections/pending")


async def _pending(
    request: HttpRequest,
    visitor: Visitor,
    database: Database,
    *,
    before: UUID | None = None,
    error: str | None = None,
) -> Page:
    sent: Sequence[Invitation] = ()
    received, expired, older = sent, sent, None
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/connections/pending")
        if seat.account is not None:
            own_id = seat.account.account_id
            received = await queries.select_received_invitations(
                connection, own_id, state="pending", limit=_SHOWN
            )
            found = await queries.select_sent_invitations(
                connection, own_id, before=before, state="pending", joins=False, limit=_SHOWN + 1
            )
            sent, older = page_of(found, _SHOWN, lambda invitation: invitation.id)
            expired = await queries.select_sent_invitations(
                connection, own_id, state="expired", joins=False, limit=_SHOWN
            )
    secret = request.app.state.secret
    return page(
        request,
        visitor,
        "connections_pending",
        seat=seat,
        status=200 if error is None else 409,
        received=received,
        # Only to who received them, as if the email had been opened.
        links={
            each.id: f"/invitations/{link_token(secret, each.mail_id)}"
            for each in received
            if each.email == seat.user.email
        },
        sent=sent,
        expired=expired,
        older=older,
        error=error,
    )


@get("/connections/invite")
async def show_invite(
    request: HttpRequest,
    visitor: NamedDependency[Visitor],
    database: NamedDependency[Database],
    reason: Annotated[str, QueryParameter(max_length=100)] = "",
    about: Annotated[str, QueryParameter(max_length=300)] = "",
) -> Page:
    """Show the form that invites to connect. `about` is whom: a partner, a vendor, or a site."""
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/connections/invite")
    return _invite_form(request, visitor, seat, {"reason": reason, "about": about})


@post("/connections/invite", status_code=200)
async def invite(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show the email that would be sent, or invite several addresses to connect."""
    form = await form_of(request, visitor)
    user = user_of(visitor, "/connections/invite")
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/connections/invite")
    try:
        async with database.general.transaction() as connection:
            account_id = await account_of_admin(connection, user, form.get("account_id", ""))
            emails, reason = _emails_of(form), _reason_of(form)
            note = invitations.checked_note(form.get("note"))
            match form.get("do"):
                case "preview":
                    letter = await _letter(request, connection, account_id, reason, note)
                    return _invite_form(request, visitor, seat, form, emails=emails, letter=letter)
                case "send":
                    outcomes = await _invite_each(
                        request,
                        connection,
                        Actor("user", account_id, user.id),
                        emails,
                        reason,
                        note,
                    )
                case other:
                    raise InvalidInput("do", other or "", "preview or send")
    except InvalidInput as error:
        return _invite_form(request, visitor, seat, form, error=str(error))
    failed = [each for each in outcomes if each.kind == "bad"]
    return page(
        request,
        visitor,
        "invited",
        seat=seat,
        status=200 if len(failed) < len(outcomes) else 422,
        outcomes=outcomes,
        reason=reason,
    )


def _invite_form(
    request: HttpRequest,
    visitor: Visitor,
    seat: Seat,
    form: Mapping[str, str],
    *,
    error: str | None = None,
    **preview: object,
) -> Page:
    return page(
        request,
        visitor,
        "invite",
        seat=seat,
        status=200 if error is None else 422,
        form=form,
        reasons=_REASONS,
        most_emails=invitations.MAX_EMAILS,
        longest_note=invitations.MAX_NOTE,
        error=error,
        **preview,
    )


async def _letter(
    request: HttpRequest,
    connection: Connection,
    account_id: UUID,
    reason: Reason,
    note: str | None,
) -> tuple[str, str]:
    """Return the subject and the text of the email that inviting would send."""
    site: Site = request.app.state.site
    expires_at = await queries.select_end(connection, invitations.LASTS)
    params = {
        "inviter": await name_of(connection, account_id),
        "reason": reason,
        "note": note,
        "expires_at": expires_at.isoformat(),
        "is_reminder": False,
    }
    letter = letter_of("invitation", params, site.public_url, Tokens("…", "…"))
    return letter.subject, plain_text(letter)


def _reason_of(form: Mapping[str, str]) -> Reason:
    for reason in _REASONS:
        if form.get("reason") == reason:
            return reason
    raise InvalidInput("reason", form.get("reason", ""), "one of the reasons below")


def _emails_of(form: Mapping[str, str]) -> list[str]:
    """Return the addresses in a text, each once. Raises `InvalidInput`."""
    text = form.get("emails", "")
    emails = list(dict.fromkeys(word for word in _BETWEEN.split(text) if "@" in word))
    if not emails:
        raise InvalidInput("email_addresses", shorten(text), "at least one, such as jo@example.com")
    if len(emails) > invitations.MAX_EMAILS:
        expected = f"at most {invitations.MAX_EMAILS} at a time"
        raise InvalidInput("email_addresses", str(len(emails)), expected)
    return emails


async def _invite_each(
    request: HttpRequest,
    connection: Connection,
    actor: Actor,
    emails: Sequence[str],
    reason: Reason,
    note: str | None,
) -> list[_Outcome]:
    """Invite each address. If that fails for one, nothing is left of it, and the others go on."""
    outcomes = []
    secret, account_id = request.app.state.secret, actor.account_id
    assert account_id is not None
    for email in sorted(emails, key=invitations.turn_of):
        try:
            async with connection.transaction():
                done = await invitations.invite(
                    connection, secret, account_id, actor, email, reason, note=note
                )
        except ServiceError as error:
            outcomes.append(_Outcome(email, "bad", str(error)))
        else:
            outcomes.append(_Outcome(email, "good", _told_of(done)))
    return outcomes


def _told_of(done: Invited) -> str:
    match done:
        case GrantRequested(partner):
            return f"already connected, so we asked {partner.partner_name} to show its name"
        case _:
            return "invited" if done.is_new else "already invited"


handlers = [show_pending, change_pending, show_invite, invite]
