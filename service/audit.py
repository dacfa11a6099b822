"""The record of what changed. Written in the transaction that makes the change, or not at all."""

from uuid import UUID

import msgspec

from service.database import Connection

OPERATOR = "operator"


async def record(
    connection: Connection,
    action: str,
    *account_ids: UUID,
    actor: str = OPERATOR,
    **detail: object,
) -> None:
    """Add an event for each account it concerns, or one that concerns none: who did what.

    `detail` is JSON-encodable.
    """
    await connection.executemany(
        "INSERT INTO event (actor, action, account_id, detail) VALUES ($1, $2, $3, $4)",
        [
            (actor, action, account_id, msgspec.json.encode(detail).decode())
            for account_id in account_ids or (None,)
        ],
    )


async def happened(connection: Connection, action: str) -> bool:
    """Whether there is an event of that action that concerns no account."""
    return await connection.fetchval(
        "SELECT EXISTS (SELECT FROM event WHERE action = $1 AND account_id IS NULL)", action
    )
