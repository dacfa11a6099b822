"""What an account shows: who sees its name, and what a partner is told about its domains."""

from uuid import UUID

import msgspec

from service.accounts.names import told_of_owner
from service.connections import queries
from service.connections.records import Partner
from service.postgres.pools import Connection


class Told(msgspec.Struct, frozen=True):
    """What a viewer is told about a domain that an account owns."""

    domain: str
    covers_subdomains: bool
    confirmed_owner: str | None


async def viewers_of(
    connection: Connection, account_id: UUID, *, limit: int | None = None
) -> list[Partner]:
    """Return the partners that see an account's name, the newest connections first."""
    return await queries.select_partners(connection, account_id, shown_to=True, limit=limit)


async def told_to(connection: Connection, owner_id: UUID, viewer_id: UUID) -> list[Told]:
    """Return what a viewer is told about each domain of an owner, by domain, as in any call."""
    return [
        Told(domain, covers_subdomains, told_of_owner(status, name))
        for domain, covers_subdomains, status, name in await queries.select_told(
            connection, owner_id, viewer_id
        )
    ]
