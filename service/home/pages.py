"""The home page: what waits for an answer, what was checked, and who sees the account's name."""

from collections.abc import Sequence
from uuid import UUID

import msgspec
from litestar import get
from litestar.di import NamedDependency

from service.accounts.visitors import Visitor, page, seat_of
from service.answers.overview import Overview, overview_of
from service.connections.connections import partners_asking
from service.connections.records import Partner
from service.connections.visibility import viewers_of
from service.invitations.invitations import received_by
from service.invitations.records import Invitation
from service.ownership.claims import owned_names, unproven
from service.ownership.records import Claim
from service.postgres.pools import Connection, Database
from service.tokens import link_token
from service.web.bodies import HttpRequest
from service.web.pages import Page, page_router

# How many of each kind the page has.
_SHOWN = 5


class _Desk(msgspec.Struct, frozen=True):
    """What an account's home page says."""

    invitations: Sequence[Invitation]
    asking: Sequence[Partner]
    unproven: Sequence[Claim]
    seeing: Sequence[Partner]
    owned: Sequence[str]
    overview: Overview


@get("/")
async def show_home(
    request: HttpRequest, visitor: NamedDependency[Visitor], database: NamedDependency[Database]
) -> Page:
    """Show the account at a glance, or, to who isn't signed in, what this is and for whom."""
    state = request.app.state
    if visitor.session is None:
        return page(request, visitor, "welcome", site=state.site)
    async with database.general.connection() as connection:
        seat = await seat_of(request, visitor, connection, "/")
        desk = None
        if seat.account is not None:
            desk = await _desk(connection, seat.account.account_id, seat.user.email)
    links = {each.id: _link(state.secret, each) for each in desk.invitations} if desk else {}
    return page(
        request, visitor, "home", seat=seat, desk=desk, links=links, site=state.site, shown=_SHOWN
    )


async def _desk(connection: Connection, account_id: UUID, email: str) -> _Desk:
    # One more than is shown tells whether there are more.
    return _Desk(
        invitations=await received_by(connection, account_id, email, limit=_SHOWN + 1),
        asking=await partners_asking(connection, account_id, limit=_SHOWN + 1),
        unproven=await unproven(connection, account_id, limit=_SHOWN + 1),
        seeing=await viewers_of(connection, account_id, limit=_SHOWN + 1),
        owned=await owned_names(connection, account_id, limit=_SHOWN + 1),
        overview=await overview_of(connection, account_id),
    )


def _link(secret: bytes, invitation: Invitation) -> str:
    return f"/invitations/{link_token(secret, invitation.mail_id)}"


routes = [page_router(show_home)]
