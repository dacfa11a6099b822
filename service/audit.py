"""The record of what changed. Written in the transaction that makes the change, or not at all.

Each account that an event concerns gets its own copy, with only what it may know. It learns which
of its own people acted, but of a partner only that it did, under the name it had at the time.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from service.postgres.pools import Connection

ActorKind: TypeAlias = Literal["operator", "service", "recipient", "key", "user"]


class Actor(msgspec.Struct, frozen=True):
    """Who did something: an account's key or user, or an actor without an account.

    A `recipient` acted by the link in an email. Declining by API is recorded like this, too.
    """

    kind: ActorKind
    account_id: UUID | None = None
    id: UUID | None = None


OPERATOR = Actor("operator")
SERVICE = Actor("service")
RECIPIENT = Actor("recipient")


class EventActor(msgspec.Struct, omit_defaults=True):
    """Who did it, as far as you may know. You don't see which of a partner's people it was."""

    kind: ActorKind | Literal["partner"]
    email: str | None = None
    key_id: UUID | None = None


class Event(msgspec.Struct, frozen=True):
    """Something that happened to your account. `detail` depends on the action."""

    id: UUID
    at: datetime
    action: str
    by: EventActor
    detail: msgspec.Raw

    @property
    def about(self) -> dict[str, Any]:
        """The detail as Python has it."""
        return msgspec.json.decode(self.detail)


async def record(
    connection: Connection,
    action: str,
    *account_ids: UUID,
    actor: Actor = OPERATOR,
    **detail: object,
) -> None:
    """Add an event for each account, or one event without an account if none is given.

    `detail` must be JSON-encodable.
    """
    await connection.executemany(
        """
        INSERT INTO event (actor, actor_account_id, actor_id, action, account_id, detail)
        VALUES ($1, $2, $3, $4, $5, $6)
        """,
        [
            (
                actor.kind,
                actor.account_id,
                actor.id,
                action,
                account_id,
                msgspec.json.encode(detail).decode(),
            )
            for account_id in account_ids or (None,)
        ],
    )


async def record_between(
    connection: Connection,
    action: str,
    one: UUID,
    other: UUID,
    *,
    actor: Actor = OPERATOR,
    **detail: object,
) -> None:
    """Add an event for each of two partners. Each names the other."""
    await connection.execute(
        """
        INSERT INTO event (actor, actor_account_id, actor_id, action, account_id, detail)
        SELECT $1, $2, $3, $4, pair.own_id, $5::jsonb || jsonb_build_object(
            'partner', jsonb_build_object('id', partner.id, 'name', partner.name)
        )
        FROM (VALUES ($6::uuid, $7::uuid), ($7, $6)) AS pair (own_id, partner_id)
        JOIN account AS partner ON partner.id = pair.partner_id
        """,
        actor.kind,
        actor.account_id,
        actor.id,
        action,
        msgspec.json.encode(detail).decode(),
        one,
        other,
    )


async def events_of(
    connection: Connection,
    account_id: UUID,
    *,
    before: UUID | None = None,
    action: str | None = None,
    subject: str | None = None,
    partner_id: UUID | None = None,
    limit: int,
) -> list[Event]:
    """Return an account's events, newest first.

    `before` is an id. A `subject` is what comes before the dot of actions, such as “grant”. Filters
    combine.
    """
    rows = await connection.fetch(
        """
        SELECT
            event.public_id,
            event.at,
            event.action,
            CASE
                WHEN event.actor_account_id IS NULL OR event.actor_account_id = $1 THEN event.actor
                ELSE 'partner'
            END,
            CASE WHEN event.actor = 'user' AND event.actor_account_id = $1 THEN app_user.email END,
            CASE WHEN event.actor = 'key' AND event.actor_account_id = $1 THEN event.actor_id END,
            event.detail
        FROM event
        LEFT JOIN app_user ON app_user.id = event.actor_id
        WHERE event.account_id = $1
          AND ($2::uuid IS NULL OR event.id < (
              SELECT former.id FROM event AS former
              WHERE former.public_id = $2 AND former.account_id = $1
          ))
          AND ($3::text IS NULL OR event.action = $3)
          AND ($6::text IS NULL OR split_part(event.action, '.', 1) = $6)
          AND (
              $5::uuid IS NULL
              OR event.detail ? 'partner' AND event.detail #>> '{partner,id}' = $5::text
          )
        ORDER BY event.id DESC
        LIMIT $4
        """,
        account_id,
        before,
        action,
        limit,
        partner_id,
        subject,
    )
    return [
        Event(id_, at, did, EventActor(kind, email, key_id), msgspec.Raw(detail.encode()))
        for id_, at, did, kind, email, key_id, detail in rows
    ]


async def last_with(
    connection: Connection, account_id: UUID, partner_ids: Sequence[UUID]
) -> dict[UUID, datetime]:
    """Return when something last happened between an account and each of these partners."""
    rows = await connection.fetch(
        """
        SELECT partner.id, latest.at
        FROM unnest($2::uuid[]) AS partner (id)
        CROSS JOIN LATERAL (
            SELECT event.at FROM event
            WHERE event.account_id = $1
              AND event.detail ? 'partner'
              AND event.detail #>> '{partner,id}' = partner.id::text
            ORDER BY event.id DESC
            LIMIT 1
        ) AS latest
        """,
        account_id,
        partner_ids,
    )
    return dict(map(tuple, rows))


async def happened(connection: Connection, action: str) -> bool:
    """Whether there is an event of that action without an account."""
    return await connection.fetchval(
        "SELECT EXISTS (SELECT FROM event WHERE action = $1 AND account_id IS NULL)", action
    )
