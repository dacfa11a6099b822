"""The SQL statements about accounts, their members, and their keys."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import asyncpg
import msgspec

from service.accounts.records import (
    Account,
    AccountDetails,
    ApiKey,
    Caller,
    Limits,
    LiveSession,
    Member,
    Membership,
    Role,
    Session,
    SignInLink,
    Topic,
    Used,
    User,
)
from service.errors import InvalidName
from service.postgres.pools import Connection


async def insert_account(
    connection: Connection, account_id: UUID, name: str, readings: Collection[str]
) -> None:
    """Needs a transaction. Raises `InvalidName` if another account's name has a reading of it."""
    await connection.execute("INSERT INTO account (id, name) VALUES ($1, $2)", account_id, name)
    await _insert_readings(connection, account_id, name, readings)


async def update_account_name(
    connection: Connection,
    account_id: UUID,
    name: str,
    readings: Collection[str],
    stands_for: timedelta | None,
) -> bool:
    """Rename an account, unless it renamed itself less than `stands_for` ago.

    Returns whether it was renamed; without `stands_for`, it always is. Needs a transaction. Raises
    `InvalidName` if another account's name has a reading of it.
    """
    renamed = await connection.fetchval(
        """
        UPDATE account SET name = $2,
            renamed_at = CASE WHEN $3::interval IS NULL THEN renamed_at ELSE clock_timestamp() END
        WHERE id = $1
          AND ($3::interval IS NULL OR renamed_at IS NULL OR renamed_at <= now() - $3::interval)
        RETURNING id
        """,
        account_id,
        name,
        stands_for,
    )
    if renamed is None:
        return False
    freed = await connection.fetch(
        "DELETE FROM account_reading WHERE account_id = $1 AND NOT is_taken RETURNING reading",
        account_id,
    )
    await connection.execute("DELETE FROM account_reading WHERE account_id = $1", account_id)
    await _insert_readings(connection, account_id, name, readings)
    await connection.execute(
        """
        UPDATE account_reading AS inherited SET is_taken = false
        FROM (
            SELECT DISTINCT ON (reading) reading, account_id
            FROM account_reading WHERE reading = ANY($1) ORDER BY reading, is_taken, account_id
        ) AS next
        WHERE inherited.is_taken
          AND (inherited.reading, inherited.account_id) = (next.reading, next.account_id)
        """,
        [row["reading"] for row in freed],
    )
    return True


async def _insert_readings(
    connection: Connection, account_id: UUID, name: str, readings: Collection[str]
) -> None:
    try:
        # In order, so that two names with readings in common don't wait for each other.
        await connection.execute(
            "INSERT INTO account_reading (account_id, reading) SELECT $1, unnest($2::text[])",
            account_id,
            sorted(readings),
        )
    except asyncpg.UniqueViolationError:
        raise InvalidName(name, "clearly different from every other account's name") from None


async def select_names_alike(connection: Connection) -> list[tuple[str, str]]:
    """Return each name from before readings were compared, with the older name that it reads like."""
    return [
        (row["name"], row["older"])
        for row in await connection.fetch(
            """
            SELECT DISTINCT account.name, older.name AS older
            FROM account_reading AS taken
            JOIN account_reading AS held USING (reading)
            JOIN account ON account.id = taken.account_id
            JOIN account AS older ON older.id = held.account_id
            WHERE taken.is_taken AND NOT held.is_taken
            ORDER BY 1, 2
            """
        )
    ]


async def select_account_name(connection: Connection, account_id: UUID) -> str:
    """Return the name that others see if the account lets them."""
    return await connection.fetchval("SELECT name FROM account WHERE id = $1", account_id)


async def select_account(
    connection: Connection, account_id: UUID, purchases: int
) -> AccountDetails:
    """Return an existing account as its own people see it, with what it has bought today."""
    row = await connection.fetchrow(
        """
        SELECT
            account.id, name, created_at, renamed_at,
            calls, account_limit.certificates, certificate_bytes, account_limit.purchases,
            coalesce(usage.certificates, 0), coalesce(usage.bytes, 0)
        FROM account
        LEFT JOIN account_limit ON account_limit.account_id = account.id
        LEFT JOIN certificate_usage AS usage ON usage.account_id = account.id
        WHERE account.id = $1
        """,
        account_id,
    )
    assert row is not None
    id_, name, created_at, renamed_at, *limits, certificates, size = row
    used = Used(certificates, size, purchases)
    return AccountDetails(id_, name, created_at, renamed_at, _limits(limits), used)


async def upsert_limits(
    connection: Connection, account_id: UUID, limits: Mapping[str, int | None]
) -> None:
    """Set some limits of an account, by the field of `Limits`; None sets what any account has."""
    await connection.execute(
        """
        INSERT INTO account_limit
        SELECT given.*
        FROM (VALUES ($1::uuid)) AS account (id)
        LEFT JOIN account_limit AS former ON former.account_id = account.id
        CROSS JOIN LATERAL jsonb_populate_record(former, $2) AS given
        ON CONFLICT (account_id) DO UPDATE SET
            calls = excluded.calls,
            certificates = excluded.certificates,
            certificate_bytes = excluded.certificate_bytes,
            purchases = excluded.purchases
        """,
        account_id,
        msgspec.json.encode({"account_id": account_id, **limits}).decode(),
    )


async def select_bought_out(connection: Connection, what: str, default: int) -> list[str]:
    """Return the names of accounts that have used up today's purchases; `default` is the limit."""
    rows = await connection.fetch(
        """
        SELECT account.name
        FROM allowance
        JOIN account ON account.id::text = allowance.whose
        LEFT JOIN account_limit ON account_limit.account_id = account.id
        WHERE allowance.since = date_trunc('day', now(), 'UTC') AND allowance.what = $1
            AND allowance.used >= coalesce(account_limit.purchases, $2)
        ORDER BY account.name
        """,
        what,
        default,
    )
    return [row["name"] for row in rows]


async def update_account_suspended(
    connection: Connection, account_id: UUID, suspended: bool
) -> bool:
    """Suspend or reinstate an account. Returns whether that changed anything."""
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
    """Return the accounts with one of these ids or exact names."""
    rows = await connection.fetch(
        "SELECT id, name, suspended_at FROM account WHERE id::text = ANY($1) OR name = ANY($1)",
        ids_or_names,
    )
    return [Account(*row) for row in rows]


async def upsert_user(connection: Connection, user_id: UUID, email: str) -> UUID:
    """Return the id of the user with that email address. Creates the user if there is none."""
    return await connection.fetchval(
        """
        INSERT INTO app_user (id, email) VALUES ($1, $2)
        ON CONFLICT (email) DO UPDATE SET email = excluded.email
        RETURNING id
        """,
        user_id,
        email,
    )


async def update_user_name(connection: Connection, user_id: UUID, name: str) -> None:
    await connection.execute("UPDATE app_user SET name = $2 WHERE id = $1", user_id, name)


async def insert_user(connection: Connection, user_id: UUID, email: str, name: str) -> User | None:
    """Create a user. Returns None if the email address already has one."""
    row = await connection.fetchrow(
        """
        INSERT INTO app_user (id, email, name) VALUES ($1, $2, $3)
        ON CONFLICT (email) DO NOTHING
        RETURNING id, email, name
        """,
        user_id,
        email,
        name,
    )
    return None if row is None else User(*row)


async def lock_user(connection: Connection, email: str) -> User | None:
    """Return the user of an address, locked so that no one else starts or ends its sessions."""
    row = await connection.fetchrow(
        "SELECT id, email, name FROM app_user WHERE email = $1 FOR NO KEY UPDATE", email
    )
    return None if row is None else User(*row)


async def belongs_anywhere(connection: Connection, user_id: UUID) -> bool:
    """Whether a user is a member of any account, suspended or not."""
    return await connection.fetchval(
        "SELECT EXISTS (SELECT FROM membership WHERE user_id = $1)", user_id
    )


async def lock_role(connection: Connection, account_id: UUID, user_id: UUID) -> Role | None:
    """Return a user's role in an account that isn't suspended, and lock the role."""
    return await connection.fetchval(
        """
        SELECT membership.role
        FROM membership
        JOIN account ON account.id = membership.account_id AND account.suspended_at IS NULL
        WHERE membership.account_id = $1 AND membership.user_id = $2
        FOR SHARE
        """,
        account_id,
        user_id,
    )


async def select_user(connection: Connection, email: str) -> User | None:
    row = await connection.fetchrow("SELECT id, email, name FROM app_user WHERE email = $1", email)
    return None if row is None else User(*row)


async def insert_membership(
    connection: Connection, account_id: UUID, user_id: UUID, role: Role
) -> bool:
    """Add a member. An existing one keeps its role. Returns whether the member is new."""
    inserted = await connection.fetchval(
        """
        INSERT INTO membership (account_id, user_id, role) VALUES ($1, $2, $3)
        ON CONFLICT (account_id, user_id) DO NOTHING
        RETURNING account_id
        """,
        account_id,
        user_id,
        role,
    )
    return inserted is not None


async def lock_members(connection: Connection, account_id: UUID) -> None:
    """Wait for other transactions that change an account's members, and keep new ones waiting."""
    await connection.execute("SELECT FROM account WHERE id = $1 FOR NO KEY UPDATE", account_id)


async def select_members(connection: Connection, account_id: UUID) -> list[Member]:
    """Return the members of an account, oldest first."""
    rows = await connection.fetch(
        """
        SELECT app_user.id, app_user.email, app_user.name, membership.role, membership.created_at
        FROM membership JOIN app_user ON app_user.id = membership.user_id
        WHERE membership.account_id = $1
        ORDER BY membership.created_at, app_user.email
        """,
        account_id,
    )
    return [Member(*row) for row in rows]


async def lock_answers_by(connection: Connection, user_id: UUID) -> UUID | None:
    """Return the account that a user chose to be answered for by, and lock the choice."""
    return await connection.fetchval(
        "SELECT answers_by FROM app_user WHERE id = $1 FOR NO KEY UPDATE", user_id
    )


async def update_answers_by(connection: Connection, user_id: UUID, account_id: UUID | None) -> bool:
    """Set whose keys answer for a user. Returns False if the user doesn't belong to the account."""
    updated = await connection.fetchval(
        """
        UPDATE app_user SET answers_by = $2
        WHERE id = $1 AND ($2::uuid IS NULL OR EXISTS (
            SELECT FROM membership WHERE user_id = $1 AND account_id = $2 FOR KEY SHARE
        ))
        RETURNING id
        """,
        user_id,
        account_id,
    )
    return updated is not None


async def select_memberships(connection: Connection, user_id: UUID) -> list[Membership]:
    """Return the accounts that a user belongs to, except suspended ones."""
    rows = await connection.fetch(
        """
        SELECT
            account.id, account.name, membership.role,
            EXISTS (
                SELECT FROM account_address
                WHERE account_address.account_id = account.id AND account_address.user_id = $1
            ),
            membership.muted
        FROM membership
        JOIN account ON account.id = membership.account_id AND account.suspended_at IS NULL
        WHERE membership.user_id = $1
        ORDER BY account.name
        """,
        user_id,
    )
    return [Membership(*row) for row in rows]


async def update_muted(
    connection: Connection, account_id: UUID, user_id: UUID, muted: Sequence[Topic]
) -> bool:
    """Note what a user wants no emails about. Returns whether it belongs to the account."""
    row = await connection.fetchrow(
        """
        UPDATE membership SET muted = $3 WHERE account_id = $1 AND user_id = $2 RETURNING user_id
        """,
        account_id,
        user_id,
        muted,
    )
    return row is not None


async def select_admin_emails(connection: Connection, account_id: UUID, topic: Topic) -> list[str]:
    """Return the addresses of an account's admins who want emails about a topic."""
    rows = await connection.fetch(
        """
        SELECT app_user.email
        FROM membership JOIN app_user ON app_user.id = membership.user_id
        WHERE membership.account_id = $1 AND membership.role = 'admin'
          AND $2 <> ALL (membership.muted)
        ORDER BY app_user.email
        """,
        account_id,
        topic,
    )
    return [row["email"] for row in rows]


async def has_member(connection: Connection, account_id: UUID, email: str) -> bool:
    return await connection.fetchval(
        """
        SELECT EXISTS (
            SELECT FROM membership JOIN app_user ON app_user.id = membership.user_id
            WHERE membership.account_id = $1 AND app_user.email = $2
        )
        """,
        account_id,
        email,
    )


async def update_member_role(
    connection: Connection, account_id: UUID, user_id: UUID, role: Role
) -> None:
    await connection.execute(
        "UPDATE membership SET role = $3 WHERE account_id = $1 AND user_id = $2",
        account_id,
        user_id,
        role,
    )


async def delete_membership(connection: Connection, account_id: UUID, user_id: UUID) -> None:
    await connection.execute(
        "DELETE FROM membership WHERE account_id = $1 AND user_id = $2", account_id, user_id
    )


async def select_unused_links(connection: Connection, email: str) -> list[timedelta]:
    """Return how long ago each unused link of the past hour was made, the latest first."""
    rows = await connection.fetch(
        """
        SELECT now() - created_at FROM sign_in_link
        WHERE email = $1 AND used_at IS NULL AND created_at > now() - interval '1 hour'
        ORDER BY created_at DESC
        """,
        email,
    )
    return [row[0] for row in rows]


async def insert_sign_in_link(
    connection: Connection,
    mail_id: UUID,
    email: str,
    token_digest: bytes,
    invitation_id: UUID | None,
    next_path: str | None,
    lasts: timedelta,
) -> datetime:
    """Store a link. Returns when it expires."""
    return await connection.fetchval(
        """
        INSERT INTO sign_in_link
            (mail_id, email, token_digest, invitation_id, next_path, created_at, expires_at)
        VALUES ($1, $2, $3, $4, $5, now(), now() + $6)
        RETURNING expires_at
        """,
        mail_id,
        email,
        token_digest,
        invitation_id,
        next_path,
        lasts,
    )


async def select_sign_in_link(connection: Connection, token_digest: bytes) -> SignInLink | None:
    row = await connection.fetchrow(
        """
        SELECT email, invitation_id, next_path, expires_at, used_at, expires_at <= now()
        FROM sign_in_link WHERE token_digest = $1
        """,
        token_digest,
    )
    return None if row is None else SignInLink(*row)


async def select_mail_of_invitation(connection: Connection, invitation_id: UUID) -> UUID | None:
    """Return the latest email of an invitation: only its link is valid."""
    return await connection.fetchval("SELECT mail_id FROM invitation WHERE id = $1", invitation_id)


async def update_sign_in_link_used(connection: Connection, token_digest: bytes) -> bool:
    """Use up a link. Returns whether it was still valid."""
    used = await connection.fetchval(
        """
        UPDATE sign_in_link SET used_at = clock_timestamp()
        WHERE token_digest = $1 AND used_at IS NULL AND expires_at > now()
        RETURNING mail_id
        """,
        token_digest,
    )
    return used is not None


async def delete_expired_sign_ins(connection: Connection) -> None:
    """Delete sessions and a batch of links a day after they expire, with the links' emails."""
    await connection.execute(
        """
        WITH gone AS (
            DELETE FROM sign_in_link WHERE mail_id = ANY (ARRAY(
                SELECT mail_id FROM sign_in_link
                WHERE expires_at < now() - interval '1 day'
                ORDER BY expires_at
                LIMIT 5000
            ))
            RETURNING mail_id
        )
        DELETE FROM mail USING gone WHERE mail.id = gone.mail_id
        """
    )
    await connection.execute("DELETE FROM user_session WHERE expires_at < now() - interval '1 day'")


async def insert_session(
    connection: Connection, session_id: UUID, user_id: UUID, token_digest: bytes, lasts: timedelta
) -> None:
    await connection.execute(
        """
        INSERT INTO user_session (id, user_id, token_digest, started_at, expires_at)
        VALUES ($1, $2, $3, now(), now() + $4)
        """,
        session_id,
        user_id,
        token_digest,
        lasts,
    )


async def select_sessions(
    connection: Connection, token_digests: Sequence[bytes]
) -> dict[bytes, Session]:
    """Return the sessions with these tokens that have not ended, by digest."""
    rows = await connection.fetch(
        """
        SELECT user_session.token_digest, user_session.id, app_user.id, app_user.email, app_user.name
        FROM user_session JOIN app_user ON app_user.id = user_session.user_id
        WHERE user_session.token_digest = ANY ($1)
          AND user_session.ended_at IS NULL AND user_session.expires_at > now()
        """,
        token_digests,
    )
    return {digest: Session(session_id, User(*user)) for digest, session_id, *user in rows}


async def select_live_sessions(connection: Connection, user: User) -> list[LiveSession]:
    """Return a user's sessions that have not ended, newest first."""
    rows = await connection.fetch(
        """
        SELECT id, started_at, expires_at FROM user_session
        WHERE user_id = $1 AND ended_at IS NULL AND expires_at > now()
        ORDER BY started_at DESC
        """,
        user.id,
    )
    return [LiveSession(*row) for row in rows]


async def end_session(connection: Connection, session_id: UUID) -> None:
    await connection.execute(
        "UPDATE user_session SET ended_at = clock_timestamp() WHERE id = $1 AND ended_at IS NULL",
        session_id,
    )


async def end_sessions(connection: Connection, user: User) -> None:
    """End all of a user's sessions, and the links that could start new ones."""
    await connection.execute(
        """
        UPDATE user_session SET ended_at = clock_timestamp() WHERE user_id = $1 AND ended_at IS NULL
        """,
        user.id,
    )
    await connection.execute(
        "UPDATE sign_in_link SET used_at = clock_timestamp() WHERE email = $1 AND used_at IS NULL",
        user.email,
    )


async def insert_api_key(
    connection: Connection, key_id: UUID, account_id: UUID, digest: bytes, name: str | None
) -> None:
    await connection.execute(
        "INSERT INTO api_key (id, account_id, digest, name) VALUES ($1, $2, $3, $4)",
        key_id,
        account_id,
        digest,
        name,
    )


async def insert_key_of_member(
    connection: Connection, key_id: UUID, account_id: UUID, user_id: UUID, digest: bytes
) -> bytes:
    """Give a member a key of its own, unless it has one. Return the key's digest."""
    await connection.execute(
        """
        INSERT INTO api_key (id, account_id, user_id, digest) VALUES ($1, $2, $3, $4)
        ON CONFLICT (account_id, user_id) WHERE user_id IS NOT NULL DO NOTHING
        """,
        key_id,
        account_id,
        user_id,
        digest,
    )
    return await connection.fetchval(
        "SELECT digest FROM api_key WHERE account_id = $1 AND user_id = $2", account_id, user_id
    )


async def select_api_keys(connection: Connection, account_id: UUID) -> list[ApiKey]:
    """Return an account's active keys, newest first, without those of members."""
    rows = await connection.fetch(
        """
        SELECT id, name, created_at, last_used_at FROM api_key
        WHERE account_id = $1 AND revoked_at IS NULL AND user_id IS NULL
        ORDER BY id DESC
        """,
        account_id,
    )
    return [ApiKey(*row) for row in rows]


async def update_keys_used(
    connection: Connection, digests: Sequence[bytes], times: Sequence[datetime]
) -> None:
    """Record when keys were last used, unless a later time is on record."""
    await connection.execute(
        """
        UPDATE api_key SET last_used_at = greatest(api_key.last_used_at, used.at)
        FROM unnest($1::bytea[], $2::timestamptz[]) AS used (digest, at)
        WHERE api_key.digest = used.digest
        """,
        digests,
        times,
    )


async def update_api_key_revoked(
    connection: Connection, key_id: UUID, account_id: UUID | None
) -> tuple[UUID, str | None] | None:
    """Revoke an active key that isn't a member's, of that account if one is given.

    Returns its account and its name, or None if there is no such key.
    """
    row = await connection.fetchrow(
        """
        UPDATE api_key SET revoked_at = clock_timestamp()
        WHERE id = $1 AND revoked_at IS NULL AND user_id IS NULL
          AND ($2::uuid IS NULL OR account_id = $2)
        RETURNING account_id, name
        """,
        key_id,
        account_id,
    )
    return None if row is None else (row["account_id"], row["name"])


async def select_all_accounts(connection: Connection) -> list[dict[str, object]]:
    """Return every account for the operator, by name, with the older name it reads like, if any."""
    rows = await connection.fetch(
        """
        SELECT account.id, account.name, account.created_at, account.suspended_at,
            (SELECT min(app_user.email) FROM membership
             JOIN app_user ON app_user.id = membership.user_id
             WHERE membership.account_id = account.id AND membership.role = 'admin') AS admin,
            (SELECT min(older.name) FROM account_reading AS taken
             JOIN account_reading AS held ON held.reading = taken.reading AND NOT held.is_taken
             JOIN account AS older ON older.id = held.account_id
             WHERE taken.account_id = account.id AND taken.is_taken) AS reads_like
        FROM account ORDER BY account.name
        """
    )
    return [dict(row) for row in rows]


async def select_all_keys(
    connection: Connection, account_id: UUID | None
) -> list[dict[str, object]]:
    """Return the active keys of one account, or of all, for the operator, without members'."""
    rows = await connection.fetch(
        """
        SELECT api_key.id, account.name AS account, api_key.name, api_key.created_at,
            api_key.last_used_at
        FROM api_key JOIN account ON account.id = api_key.account_id
        WHERE api_key.revoked_at IS NULL AND api_key.user_id IS NULL
          AND ($1::uuid IS NULL OR account.id = $1)
        ORDER BY account.name, api_key.id
        """,
        account_id,
    )
    return [dict(row) for row in rows]


async def select_callers(connection: Connection, digests: Sequence[bytes]) -> dict[bytes, Caller]:
    """Return whose these active keys are, by digest."""
    rows = await connection.fetch(
        """
        SELECT
            api_key.digest, account.id, account.name, api_key.id AS key_id, account.suspended_at,
            account_limit.calls, account_limit.certificates, account_limit.certificate_bytes,
            account_limit.purchases
        FROM api_key
        JOIN account ON account.id = api_key.account_id
        LEFT JOIN account_limit ON account_limit.account_id = account.id
        WHERE api_key.digest = ANY ($1) AND api_key.revoked_at IS NULL
        """,
        digests,
    )
    return {
        row["digest"]: Caller(
            row["id"], row["name"], row["key_id"], row["suspended_at"], _limits(row[5:])
        )
        for row in rows
    }


def _limits(values: Sequence[int | None]) -> Limits:
    given = zip(Limits.__struct_fields__, values, strict=True)
    return Limits(**{name: value for name, value in given if value is not None})


async def select_key_holders(connection: Connection, digests: list[bytes]) -> dict[bytes, UUID]:
    """Return the account that holds or held each key, by digest."""
    rows = await connection.fetch(
        "SELECT digest, account_id FROM api_key WHERE digest = ANY ($1)", digests
    )
    return {row["digest"]: row["account_id"] for row in rows}


async def count_accounts(connection: Connection) -> int:
    return await connection.fetchval("SELECT count(*) FROM account")
