"""Connections: the formal relation between a buyer and a seller, which grants depend on."""

from uuid import UUID

from uuid_utils.compat import uuid7

from service import audit
from service.accounts.accounts import name_of
from service.accounts.members import mail_admins
from service.audit import Actor
from service.connections import queries
from service.connections.records import Partner
from service.errors import Conflict, NotFound
from service.postgres.pools import Connection


async def connect(
    connection: Connection,
    *,
    buyer_id: UUID,
    seller_id: UUID,
    actor: Actor = audit.OPERATOR,
    invitation_id: UUID | None = None,
) -> UUID:
    """Connect two accounts if they aren't yet. Return the connection's id. Needs a transaction.

    Raises `Conflict` if both are the same account.
    """
    if buyer_id == seller_id:
        raise Conflict("an account can't connect to itself")
    now = await queries.lock_pair(connection, buyer_id, seller_id)
    live = await queries.select_live_connection(connection, buyer_id, seller_id)
    if live is not None:
        return live
    connection_id = uuid7()
    await queries.insert_connection(connection, connection_id, buyer_id, seller_id, now)
    await audit.record_between(
        connection,
        "connection.started",
        buyer_id,
        seller_id,
        actor=actor,
        connection_id=connection_id,
        buyer_id=buyer_id,
        seller_id=seller_id,
        invitation_id=invitation_id,
    )
    return connection_id


async def disconnect(
    connection: Connection, *, buyer_id: UUID, seller_id: UUID, actor: Actor = audit.OPERATOR
) -> None:
    """End a connection, with all grants and grant requests in both directions. Needs a transaction.

    Emails both sides, unless the operator does it.

    Raises `NotFound` if they are not connected in these roles.
    """
    now = await queries.lock_pair(connection, buyer_id, seller_id)
    live = await queries.select_live_connection(connection, buyer_id, seller_id)
    if live is None:
        raise NotFound("connection", f"{buyer_id} with {seller_id}")
    for owner_id, viewer_id in ((buyer_id, seller_id), (seller_id, buyer_id)):
        await queries.end_grant_request(connection, owner_id, viewer_id, now, "disconnected")
        if await queries.end_grant(connection, owner_id, viewer_id, now):
            await audit.record_between(
                connection,
                "grant.ended",
                owner_id,
                viewer_id,
                actor=actor,
                connection_id=live,
                owner_id=owner_id,
                viewer_id=viewer_id,
            )
    await queries.end_connection(connection, live, now)
    await audit.record_between(
        connection,
        "connection.ended",
        buyer_id,
        seller_id,
        actor=actor,
        connection_id=live,
        buyer_id=buyer_id,
        seller_id=seller_id,
    )
    if actor.account_id is not None:
        ended_by = await name_of(connection, actor.account_id)
        buyer, seller = await name_of(connection, buyer_id), await name_of(connection, seller_id)
        is_last = not await queries.select_live_connection_between(connection, buyer_id, seller_id)
        # Sorted, so that no two transactions deadlock.
        for own_id, partner_id in sorted(((buyer_id, seller_id), (seller_id, buyer_id))):
            await mail_admins(
                connection,
                own_id,
                "disconnected" if is_last else "one_connection_ended",
                partner_id,
                partner=buyer if partner_id == buyer_id else seller,
                buyer=buyer,
                seller=seller,
                ended_by=ended_by,
            )


partners_of_email = queries.select_partners_of_email
partners_asking = queries.select_partners_asking


async def find_partner(connection: Connection, account_id: UUID, connection_id: UUID) -> Partner:
    """Return an account's view of one of its live connections. Raises `NotFound`."""
    partner = await queries.select_partner(connection, account_id, connection_id)
    if partner is None:
        raise NotFound("connection", str(connection_id))
    return partner


async def end(connection: Connection, account_id: UUID, connection_id: UUID, actor: Actor) -> None:
    """Disconnect on behalf of one side. Needs a transaction. Raises `NotFound`."""
    partner = await find_partner(connection, account_id, connection_id)
    buyer_id, seller_id = account_id, partner.partner_id
    if partner.role == "seller":
        buyer_id, seller_id = seller_id, buyer_id
    await disconnect(connection, buyer_id=buyer_id, seller_id=seller_id, actor=actor)
