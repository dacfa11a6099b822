"""Grants: an owner lets one viewer see its name, for as long as they are connected."""

from uuid import UUID

from uuid_utils.compat import uuid7

from service import audit
from service.connections import queries
from service.database import Connection
from service.errors import Conflict, NotFound


async def grant(connection: Connection, *, owner_id: UUID, viewer_id: UUID) -> UUID:
    """Let a viewer see an owner's name, if it does not. The id of the grant. Needs a transaction.

    Raises `Conflict` if the two are not connected.
    """
    now = await queries.lock_pair(connection, owner_id, viewer_id)
    connection_id = await queries.select_live_connection_between(connection, owner_id, viewer_id)
    if connection_id is None:
        raise Conflict("a grant needs a live connection between the two accounts")
    live = await queries.select_live_grant(connection, owner_id, viewer_id)
    if live is not None:
        return live
    grant_id = uuid7()
    await queries.insert_grant(connection, grant_id, connection_id, owner_id, viewer_id, now)
    await audit.record(
        connection, "grant.started", owner_id, viewer_id, owner_id=owner_id, viewer_id=viewer_id
    )
    return grant_id


async def revoke(connection: Connection, *, owner_id: UUID, viewer_id: UUID) -> None:
    """Hide an owner's name from a viewer again. Needs a transaction.

    Raises `NotFound` if there is no such grant in force.
    """
    now = await queries.lock_pair(connection, owner_id, viewer_id)
    if not await queries.end_grant(connection, owner_id, viewer_id, now):
        raise NotFound("grant of", f"{owner_id} to {viewer_id}")
    await audit.record(
        connection, "grant.ended", owner_id, viewer_id, owner_id=owner_id, viewer_id=viewer_id
    )
