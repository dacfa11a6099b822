"""How large the database is, and how many connections its server has."""

import msgspec

from service.postgres.pools import Connection


class Load(msgspec.Struct, frozen=True):
    """The size of the database in bytes, and the server's connections, whoever's they are."""

    bytes: int
    connections: int
    most_connections: int


async def load_of(connection: Connection) -> Load:
    """Return how large the database is, and how many connections its server has."""
    row = await connection.fetchrow(
        """
        SELECT
            pg_database_size(current_database()),
            (SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend'),
            current_setting('max_connections')::integer
        """
    )
    assert row is not None
    return Load(*row)
