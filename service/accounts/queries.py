"""The statements about accounts, their members and their keys."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from uuid import UUID

import asyncpg
import msgspec

from service.database import Connection
from service.errors import InvalidName


class Account(msgspec.Struct, frozen=True):
    """An account as it stands."""

    id: UUID
    name: str
    suspended_at: datetime | None


class Caller(msgspec.Struct, frozen=True):
    """The account whose API key came with a request, and the key."""

    account_id: UUID
    name: str
    api_key_id: UUID
    suspended_at: datetime | None


async def insert_account(
    connection: Connection, account_id: UUID, name: str, skeleton: str
) -> None:
    """Raises `InvalidName` if another account's name has the skeleton."""
    with _names_unlike(name):
        await connection.execute(
            "INSERT INTO account (id, name, name_skeleton) VALUES ($1, $2, $3)",
            account_id,
            name,
            skeleton,
        )


async def update_account_name(
    connection: Connection, account_id: UUID, name: str, skeleton: str
) -> None:
    """Raises `InvalidName` if another account's name has the skeleton."""
    with _names_unlike(name):
        await connection.execute(
            "UPDATE account SET name = $2, name_skeleton = $3 WHERE id = $1",
            account_id,
            name,
            skeleton,
        )


async def update_account_suspended(
    connection: Connection, account_id: UUID, suspended: bool
) -> bool:
    """Whether that changed anything."""
    changed = await connection.fetchval(
        """
        UPDATE account SET suspended_at = CASE WHEN $2 THEN clock_timestamp() END
        WHERE id = $1 AND (suspended_at IS NOT NULL) <> $2
        RETURNING id
        """,
        account_id,
        suspended,
    )
    return changed is not None


async def select_accounts_called(connection: Connection, ids_or_names: list[str]) -> list[Account]:
    """The accounts with one of these ids or exact names."""
    rows = await connection.fetch(
        "SELECT id, name, suspended_at FROM account WHERE id::text = ANY($1) OR name = ANY($1)",
        ids_or_names,
    )
    return [Account(*row) for row in rows]


async def upsert_user(connection: Connection, user_id: UUID, email: str) -> UUID:
    """The id of the user with that e-mail address, who is new if the address is."""
    return await connection.fetchval(
        """
        INSERT INTO app_user (id, email) VALUES ($1, $2)
        ON CONFLICT (email) DO UPDATE SET email = excluded.email
        RETURNING id
        """,
        user_id,
        email,
    )


async def insert_membership(
    connection: Connection, account_id: UUID, user_id: UUID, role: str
) -> None:
    await connection.execute(
        "INSERT INTO membership (account_id, user_id, role) VALUES ($1, $2, $3)",
        account_id,
        user_id,
        role,
    )


async def insert_api_key(
    connection: Connection, key_id: UUID, account_id: UUID, digest: bytes
) -> None:
    await connection.execute(
        "INSERT INTO api_key (id, account_id, digest) VALUES ($1, $2, $3)",
        key_id,
        account_id,
        digest,
    )


async def update_api_key_revoked(connection: Connection, key_id: UUID) -> UUID | None:
    """The account whose live key that was; None if there is no such live key."""
    return await connection.fetchval(
        """
        UPDATE api_key SET revoked_at = clock_timestamp()
        WHERE id = $1 AND revoked_at IS NULL RETURNING account_id
        """,
        key_id,
    )


async def select_caller(connection: Connection, digest: bytes) -> Caller | None:
    row = await connection.fetchrow(
        """
        SELECT account.id, account.name, api_key.id, account.suspended_at
        FROM api_key JOIN account ON account.id = api_key.account_id
        WHERE api_key.digest = $1 AND api_key.revoked_at IS NULL
        """,
        digest,
    )
    return None if row is None else Caller(*row)


async def select_key_holders(connection: Connection, digests: list[bytes]) -> dict[bytes, UUID]:
    """Whose keys these are or were, by digest."""
    rows = await connection.fetch(
        "SELECT digest, account_id FROM api_key WHERE digest = ANY ($1)", digests
    )
    return {row["digest"]: row["account_id"] for row in rows}


async def count_accounts(connection: Connection) -> int:
    return await connection.fetchval("SELECT count(*) FROM account")


@contextmanager
def _names_unlike(name: str) -> Iterator[None]:
    try:
        yield
    except asyncpg.UniqueViolationError:
        raise InvalidName(name, "unlike every other account's name") from None
