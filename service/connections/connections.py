"""Connections: the formal relation of a buyer and a seller, which grants stand on."""

from uuid import UUID

from uuid_utils.compat import uuid7

from service import audit
from service.connections import queries
from service.database import Connection
from service.errors import Conflict, NotFound


async def connect(connection: Connection, *, buyer_id: UUID, seller_id: UUID) -> UUID:
    """Connect two accounts, if they are not. The id of their connection. Needs a transaction.

    Raises `Conflict` for an account and itself.
    """
    if buyer_id == seller_id:
        raise Conflict("an account can't be connected to itself")
    now = await queries.lock_pair(connection, buyer_id, seller_id)
    live = await queries.select_live_connection(connection, buyer_id, seller_id)
    if live is not None:
        return live
    connection_id = uuid7()
    await queries.insert_connection(connection, connection_id, buyer_id, seller_id, now)
    await audit.record(
        connection,
        "connection.started",
        buyer_id,
        seller_id,
        buyer_id=buyer_id,
        seller_id=seller_id,
    )
    return connection_id


async def disconnect(connection: Connection, *, buyer_id: UUID, seller_id: UUID) -> None:
    """End a connection and every grant between the two, in either direction. Needs a transaction.

    Raises `NotFound` if they are not connected so.
    """
    now = await queries.lock_pair(connection, buyer_id, seller_id)
    live = await queries.select_live_connection(connection, buyer_id, seller_id)
    if live is None:
        raise NotFound("connection of", f"{buyer_id} with {seller_id}")
    for owner_id, viewer_id in ((buyer_id, seller_id), (seller_id, buyer_id)):
        if await queries.end_grant(connection, owner_id, viewer_id, now):
            await audit.record(
                connection,
                "grant.ended",
                owner_id,
                viewer_id,
                owner_id=owner_id,
                viewer_id=viewer_id,
            )
    await queries.end_connection(connection, live, now)
    await audit.record(
        connection, "connection.ended", buyer_id, seller_id, buyer_id=buyer_id, seller_id=seller_id
    )
