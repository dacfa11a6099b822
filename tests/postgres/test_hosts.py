"""Of several hosts, the one that takes writes is found in time, whatever the others do."""

import socket
from collections.abc import AsyncIterator, Iterator

import pytest

from service.errors import Unavailable
from service.postgres.pools import connect, open_database
from tests.relay import relay
from tests.running import free_port


@pytest.fixture
async def host(migrated_url: str) -> AsyncIterator[str]:
    """The URL of a database, with one host."""
    async with relay(migrated_url) as way:
        yield way.url


@pytest.fixture
def silent() -> Iterator[int]:
    """A port where connections are taken and nothing is said, as by a machine that hangs."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


def among(url: str, *ports: int) -> str:
    """The URL with other hosts before its own."""
    start, at, rest = url.rpartition("@")
    return f"{start}{at}{''.join(f'127.0.0.1:{port},' for port in ports)}{rest}"


async def test_hosts_that_say_nothing_or_refuse_keep_nobody_from_the_one_that_answers(
    host: str, silent: int
) -> None:
    url = among(host, silent, silent, free_port())
    async with connect(url) as connection, open_database(url) as database:
        assert await connection.fetchval("SELECT 1") == 1
        async with database.answering.connection() as pooled:
            assert await pooled.fetchval("SELECT 1") == 1


async def test_host_that_takes_no_writes_is_passed_over(host: str) -> None:
    standby = f"{host}&default_transaction_read_only=on"
    with pytest.raises(Unavailable, match="can't connect"):
        async with connect(among(standby, free_port())):
            pass
    for url in (standby, f"{among(standby, free_port())}&target_session_attrs=any"):
        async with connect(url) as connection:
            assert await connection.fetchval("SELECT 1") == 1


async def test_of_hosts_that_all_refuse_the_first_is_named() -> None:
    first, second = free_port(), free_port()
    with pytest.raises(Unavailable, match=str(first)):
        async with connect(f"postgresql://nobody@127.0.0.1:{first},127.0.0.1:{second}/x"):
            pass
