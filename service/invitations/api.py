"""The management API for invitations to connect or to join an account."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated, Literal
from uuid import UUID

import msgspec
from litestar import Response, get, post
from litestar.di import NamedDependency
from litestar.params import PathParameter, QueryParameter
from msgspec import UNSET, UnsetType

from service.accounts.accounts import checked_email
from service.accounts.keys import actor_of
from service.accounts.records import Caller, Role
from service.connections.views import ConnectionView, PartnerAccount, connection_view
from service.errors import InvalidInput, NotFound
from service.invitations import acceptance, invitations, queries
from service.invitations.invitations import GrantRequested, Invited, Sent
from service.invitations.records import Invitation, InvitationState, Reason
from service.mail.records import MailState
from service.postgres.pools import Connection, Database
from service.web.bodies import MAX_BODY, HttpRequest, json_of
from service.web.carrying_out import carried_out_for_each, carried_out_once
from service.web.documents import KEYED, documented, json_body, problems
from service.web.idempotency import Answered
from service.web.parameters import IdCursor, IdempotencyKey, Limit, page_of
from service.web.problems import Problem

_WITH_BODY = {**KEYED, **problems(400, 408, 413, 415, 422)}

_InvitationId = Annotated[UUID, PathParameter()]


ReasonToConnect = Literal[
    "receive_leads",
    "send_leads",
    "domain_ownership_visibility",
    "confirm_domain_ownership",
    "share_lead_quality_reports",
]


class NewInvitations(msgspec.Struct, forbid_unknown_fields=True):
    """Whom to invite, and why. We keep `vendor_label` for linking later; only you see it."""

    emails: Annotated[list[str], msgspec.Meta(min_length=1, max_length=invitations.MAX_EMAILS)]
    reason: ReasonToConnect
    note: Annotated[str, msgspec.Meta(max_length=invitations.MAX_NOTE)] | None = None
    vendor_label: Annotated[str, msgspec.Meta(max_length=invitations.MAX_LABEL)] | None = None


class NewMembers(msgspec.Struct, forbid_unknown_fields=True):
    """Which colleagues to invite to your account, and in which role."""

    emails: Annotated[list[str], msgspec.Meta(min_length=1, max_length=invitations.MAX_EMAILS)]
    role: Role = "member"
    note: Annotated[str, msgspec.Meta(max_length=invitations.MAX_NOTE)] | None = None


class Acceptance(msgspec.Struct, forbid_unknown_fields=True):
    """How you accept an invitation.

    `shows_name`: whether the inviter may see your name, if it asks to. Yes, unless you say no.
    `terms`: the `terms` of the invitation you saw. If they have changed, nothing is accepted.
    """

    shows_name: bool | None = None
    terms: str | None = None


class Delivery(msgspec.Struct, omit_defaults=True):
    """What happened to the latest email.

    It is `suppressed` if the recipient opted out, and `written` to a file if the operator has no
    mail server configured.
    """

    state: MailState
    error: str | UnsetType = UNSET


class InvitationItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    """The result for one address: an invitation, a grant request to a partner, or an error."""

    email: str
    status_code: int | UnsetType = UNSET
    error: Problem | UnsetType = UNSET
    grant_requested: ConnectionView | UnsetType = UNSET
    id: UUID | UnsetType = UNSET
    direction: Literal["sent", "received"] | UnsetType = UNSET
    inviter: PartnerAccount | UnsetType = UNSET
    reason: Reason | UnsetType = UNSET
    state: InvitationState | UnsetType = UNSET
    created_at: datetime | UnsetType = UNSET
    expires_at: datetime | UnsetType = UNSET
    role: Role | UnsetType = UNSET
    note: str | UnsetType = UNSET
    ended_at: datetime | UnsetType = UNSET
    connection_id: UUID | UnsetType = UNSET
    vendor_label: str | UnsetType = UNSET
    sent_count: int | UnsetType = UNSET
    last_sent_at: datetime | UnsetType = UNSET
    delivery: Delivery | UnsetType = UNSET
    terms: str | UnsetType = UNSET


class InvitationView(InvitationItem, kw_only=True, omit_defaults=True):
    """An invitation that your account sent, or that a member of your account received."""

    id: UUID
    direction: Literal["sent", "received"]
    inviter: PartnerAccount
    reason: Reason
    state: InvitationState
    created_at: datetime
    expires_at: datetime


class InvitationReport(msgspec.Struct):
    """The result for each address, in the order you sent them."""

    items: list[InvitationItem]


class NobodyInvited(Problem, omit_defaults=True):
    """Why nobody was invited. If it's because of the addresses, each item has its own error."""

    items: list[InvitationItem] | UnsetType = UNSET


class InvitationList(msgspec.Struct):
    """Invitations, newest first. `next` is the cursor for older ones, or `null`."""

    items: list[InvitationView]
    next: UUID | None


@post(
    "/v1/invitations",
    status_code=201,
    tags=["Invitations"],
    operation_id="invite",
    operation_class=json_body(NewInvitations),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(InvitationReport, "You already invited or asked everyone"),
        201: documented(InvitationReport, "Everyone is invited or asked"),
        207: documented(InvitationReport, "Mixed: see each item's status_code"),
        **_WITH_BODY,
        **problems(409, 422, 429, kind=NobodyInvited),
    },
)
async def invite(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    idempotency_key: IdempotencyKey = None,
) -> Response[bytes]:
    """Invite up to 50 email addresses to connect.

    If an invitation for the same reason is pending, you get that invitation back. If you are
    already connected to the address's account, the two reasons about domain ownership ask it for a
    grant instead (`grant_requested`). Other reasons fail if you are already connected in that role.
    """
    wanted = await json_of(request, NewInvitations)
    return await _invite_all(
        request,
        database,
        caller,
        idempotency_key,
        wanted.emails,
        reason=wanted.reason,
        note=wanted.note,
        vendor_label=wanted.vendor_label,
    )


@post(
    "/v1/account/members",
    status_code=201,
    tags=["Account"],
    operation_id="inviteMembers",
    operation_class=json_body(NewMembers),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(InvitationReport, "You already invited everyone"),
        201: documented(InvitationReport, "Everyone is invited"),
        207: documented(InvitationReport, "Mixed: see each item's status_code"),
        **_WITH_BODY,
        **problems(409, 422, 429, kind=NobodyInvited),
    },
)
async def invite_members(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    idempotency_key: IdempotencyKey = None,
) -> Response[bytes]:
    """Invite up to 50 colleagues to your account. They become members when they accept."""
    wanted = await json_of(request, NewMembers)
    return await _invite_all(
        request,
        database,
        caller,
        idempotency_key,
        wanted.emails,
        reason="join_account",
        note=wanted.note,
        role=wanted.role,
    )


@get(
    "/v1/invitations",
    tags=["Invitations"],
    operation_id="listInvitations",
    security=[{"Basic": []}],
    responses={200: documented(InvitationList, "OK"), **KEYED, **problems(422)},
)
async def list_invitations(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    direction: Annotated[Literal["sent", "received"], QueryParameter()] = "sent",
    invitation_state: Annotated[InvitationState | None, QueryParameter(name="state")] = None,
    reason: Annotated[Reason | None, QueryParameter()] = None,
    email: Annotated[str | None, QueryParameter(max_length=254)] = None,
    cursor: IdCursor = None,
    limit: Limit = 50,
) -> InvitationList:
    """List the invitations that your account sent or that its members received, newest first."""
    select = (
        queries.select_sent_invitations
        if direction == "sent"
        else queries.select_received_invitations
    )
    async with database.general.connection() as connection:
        found = await select(
            connection,
            caller.account_id,
            before=cursor,
            state=invitation_state,
            reason=reason,
            email=email and _as_kept(email),
            limit=limit + 1,
        )
    items, following = page_of(found, limit, lambda invitation: invitation.id)
    return InvitationList([_invitation(each, caller) for each in items], following)


@get(
    "/v1/invitations/{invitation_id:uuid}",
    tags=["Invitations"],
    operation_id="getInvitation",
    security=[{"Basic": []}],
    responses={200: documented(InvitationView, "OK"), **KEYED, **problems(404)},
)
async def get_invitation(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    invitation_id: _InvitationId,
) -> InvitationView:
    """Get an invitation that your account sent or that one of its members received."""
    async with database.general.connection() as connection:
        found = await queries.select_invitation(connection, invitation_id)
        if found is None or found.inviter_id != caller.account_id:
            found = await _received(connection, caller, invitation_id)
    return _invitation(found, caller)


@post(
    "/v1/invitations/{invitation_id:uuid}/resend",
    status_code=200,
    tags=["Invitations"],
    operation_id="resendInvitation",
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(InvitationView, "OK"),
        **KEYED,
        **problems(404, 408, 409, 413, 415, 422),
    },
)
async def resend_invitation(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    invitation_id: _InvitationId,
    idempotency_key: IdempotencyKey = None,
) -> Response[bytes]:
    """Resend a pending or expired invitation. It gets a new link, which works for 30 days."""

    async def work(connection: Connection) -> Answered:
        sent = await invitations.resend(
            connection,
            request.app.state.secret,
            caller.account_id,
            invitation_id,
            actor_of(caller),
        )
        return Answered(200, msgspec.json.encode(_invitation(sent, caller)))

    return await carried_out_once(request, database, caller.account_id, idempotency_key, work)


@post(
    "/v1/invitations/{invitation_id:uuid}/cancel",
    status_code=200,
    tags=["Invitations"],
    operation_id="cancelInvitation",
    security=[{"Basic": []}],
    responses={200: documented(InvitationView, "OK"), **KEYED, **problems(404, 409)},
)
async def cancel_invitation(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    invitation_id: _InvitationId,
) -> InvitationView:
    """Cancel a pending invitation. Canceling it again changes nothing."""
    async with database.general.transaction() as connection:
        cancelled = await invitations.cancel(
            connection, caller.account_id, invitation_id, actor_of(caller)
        )
    return _invitation(cancelled, caller)


@post(
    "/v1/invitations/{invitation_id:uuid}/accept",
    status_code=200,
    tags=["Invitations"],
    operation_id="acceptInvitation",
    operation_class=json_body(Acceptance, required=False),
    security=[{"Basic": []}],
    request_max_body_size=MAX_BODY,
    responses={
        200: documented(InvitationView, "OK"),
        **_WITH_BODY,
        **problems(404, 409),
    },
)
async def accept_invitation(
    request: HttpRequest,
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    invitation_id: _InvitationId,
) -> InvitationView:
    """Accept an invitation that a member received. Accepting it again changes nothing."""
    wanted = await json_of(request, Acceptance)
    async with database.general.transaction() as connection:
        own = await queries.select_invitation(connection, invitation_id)
        if own is None or own.inviter_id != caller.account_id:
            await _received(connection, caller, invitation_id)
        accepted = await acceptance.accept(
            connection,
            invitation_id,
            caller.account_id,
            actor_of(caller),
            shows_name=wanted.shows_name,
            terms=wanted.terms,
        )
    return _invitation(accepted, caller)


@post(
    "/v1/invitations/{invitation_id:uuid}/decline",
    status_code=200,
    tags=["Invitations"],
    operation_id="declineInvitation",
    security=[{"Basic": []}],
    responses={200: documented(InvitationView, "OK"), **KEYED, **problems(404, 409)},
)
async def decline_invitation(
    caller: NamedDependency[Caller],
    database: NamedDependency[Database],
    invitation_id: _InvitationId,
) -> InvitationView:
    """Decline an invitation that a member received. Declining it again changes nothing."""
    async with database.general.transaction() as connection:
        await _received(connection, caller, invitation_id)
        await invitations.decline(connection, invitation_id)
        declined = await _received(connection, caller, invitation_id)
    return _invitation(declined, caller)


async def _invite_all(
    request: HttpRequest,
    database: Database,
    caller: Caller,
    key: str | None,
    emails: Sequence[str],
    *,
    reason: Reason,
    note: str | None,
    vendor_label: str | None = None,
    role: Role | None = None,
) -> Response[bytes]:
    invitations.checked_note(note)

    async def one(connection: Connection, email: str) -> tuple[int, InvitationItem]:
        invited = await invitations.invite(
            connection,
            request.app.state.secret,
            caller.account_id,
            actor_of(caller),
            email,
            reason,
            role=role,
            note=note,
            vendor_label=vendor_label,
        )
        return _invited(email, invited, caller)

    async def done(connection: Connection, emails: Sequence[str]) -> dict[str, object]:
        pending = await invitations.pending_to(connection, caller.account_id, emails, reason, role)
        return {email: _invited(email, Sent(each, False), caller)[1] for email, each in pending}

    return await carried_out_for_each(
        request,
        database,
        caller.account_id,
        key,
        emails,
        one,
        done,
        lambda email, error: InvitationItem(email=email, status_code=error.status, error=error),
        order=invitations.turn_of,
    )


def _as_kept(email: str) -> str:
    """Return an address to look for as we keep it; as it is if it is none."""
    try:
        return checked_email(email)
    except InvalidInput:
        return email.strip().lower()


def _invited(email: str, invited: Invited, caller: Caller) -> tuple[int, InvitationItem]:
    status = 201 if invited.is_new else 200
    item: InvitationItem
    match invited:
        case Sent(invitation):
            item = _invitation(invitation, caller)
        case GrantRequested(partner):
            item = InvitationItem(email=email, grant_requested=connection_view(partner))
    item.status_code = status
    return status, item


async def _received(connection: Connection, caller: Caller, invitation_id: UUID) -> Invitation:
    found = await queries.select_received_invitation(connection, caller.account_id, invitation_id)
    if found is None:
        raise NotFound("invitation", str(invitation_id))
    return found


def _invitation(invitation: Invitation, caller: Caller) -> InvitationView:
    is_sent = invitation.inviter_id == caller.account_id
    view = InvitationView(
        id=invitation.id,
        direction="sent" if is_sent else "received",
        inviter=PartnerAccount(invitation.inviter_id, invitation.inviter_name),
        email=invitation.email,
        reason=invitation.reason,
        state=invitation.state,
        created_at=invitation.created_at,
        expires_at=invitation.expires_at,
        role=invitation.role or UNSET,
        note=invitation.note or UNSET,
        ended_at=invitation.ended_at or UNSET,
        connection_id=invitation.connection_id or UNSET,
    )
    if is_sent:
        view.vendor_label = invitation.vendor_label or UNSET
        view.sent_count = invitation.sent_count
        view.last_sent_at = invitation.last_sent_at or UNSET
        view.delivery = Delivery(invitation.delivery, invitation.delivery_error or UNSET)
    elif invitation.state == "pending":
        view.terms = acceptance.terms_of(invitation)
    return view


routes = [
    invite,
    invite_members,
    list_invitations,
    get_invitation,
    resend_invitation,
    cancel_invitation,
    accept_invitation,
    decline_invitation,
]
