"""Requests carried out only once, however often they are sent: the `Idempotency-Key` header.

What a request created and its response commit together. The same request with the same key gets the
same response, in any process and even concurrently. A request that created nothing runs again if
repeated. Keys belong to an account.
"""

import hashlib
from uuid import UUID

import msgspec

from service.errors import Conflict, InvalidInput
from service.postgres.pools import Connection

LONGEST_KEY = 255


class Answered(msgspec.Struct, frozen=True):
    """A response: its HTTP status, its JSON body, and whether anything was done."""

    status: int
    body: bytes
    is_new: bool = True


def check_key(key: str) -> None:
    """Raises `InvalidInput`."""
    if not (key.isascii() and key.isprintable() and 1 <= len(key) <= LONGEST_KEY):
        raise InvalidInput("Idempotency-Key", key, f"1 to {LONGEST_KEY} printable ASCII characters")


async def lock_key(connection: Connection, account_id: UUID, key: str) -> None:
    """Wait until no other request with that key is in progress. Needs a transaction."""
    await connection.execute(
        "SELECT pg_advisory_xact_lock(hashtextextended('request ' || $1 || ' ' || $2, 0))",
        str(account_id),
        key,
    )


async def answered_before(
    connection: Connection, account_id: UUID, key: str, request: bytes
) -> Answered | None:
    """Return the earlier response to a request, which is everything that tells it from any other.

    Raises `Conflict` if another request used the key.
    """
    row = await connection.fetchrow(
        """
        SELECT request_digest, status, body FROM idempotent_request
        WHERE account_id = $1 AND key = $2
        """,
        account_id,
        key,
    )
    if row is None:
        return None
    if row["request_digest"] != _digest_of(request):
        raise Conflict("another request already used this Idempotency-Key")
    return Answered(row["status"], row["body"])


async def remember(
    connection: Connection, account_id: UUID, key: str, request: bytes, answered: Answered
) -> None:
    """Save the response to a request, in the transaction that carries it out."""
    await connection.execute(
        """
        INSERT INTO idempotent_request (account_id, key, request_digest, status, body)
        VALUES ($1, $2, $3, $4, $5)
        """,
        account_id,
        key,
        _digest_of(request),
        answered.status,
        answered.body,
    )


async def purge(connection: Connection) -> None:
    """Delete keys after a day."""
    await connection.execute(
        "DELETE FROM idempotent_request WHERE created_at < now() - interval '1 day'"
    )


def _digest_of(request: bytes) -> bytes:
    return hashlib.sha256(request).digest()
