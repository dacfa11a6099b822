"""Certificates on record: reading them, finding their hosts again, and purging them."""

from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta

from service import audit
from service.certificates import queries
from service.certificates.hosts import host_of
from service.certificates.merging import host_columns
from service.errors import InvalidInput
from service.ownership.hostname import SUFFIX_LIST_VERSION
from service.postgres.pools import Connection, Database

_PURGED_AT_ONCE = 1000


page_text_of = queries.select_page_text
validity_of = queries.select_validity


async def purge(database: Database, older_than: timedelta) -> int:
    """Delete all facts about certificates first recorded longer ago than that; return how many.

    Ownerships, grants, answers, and what accounts retain stay. If it is interrupted, the next run
    continues.
    """
    total = 0
    while True:
        async with database.general.transaction() as connection:
            deleted = await queries.delete_certificates(connection, older_than, _PURGED_AT_ONCE)
            if deleted:
                await audit.record(
                    connection, "facts.purged", actor=audit.SERVICE, certificates=deleted
                )
        total += deleted
        if deleted < _PURGED_AT_ONCE:
            return total


async def refresh_hosts(connection: Connection, cert_ids: Sequence[str]) -> None:
    """Recompute the hosts of certificates that were found under another suffix list."""
    outdated = await queries.select_hosts(connection, cert_ids, SUFFIX_LIST_VERSION)
    for cert_id, imported_by, kind, facts in outdated:
        # If a domain can no longer be read, the certificate stays outdated, and calls get no
        # answer.
        with suppress(InvalidInput):
            host = host_of(kind, facts)
            await queries.update_host(connection, cert_id, imported_by, *host_columns(host))
