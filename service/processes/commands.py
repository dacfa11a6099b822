"""What commands have in common: their database, their transaction, and how they print.

Commands are imported by every start of the command line, the server's own among them, so the modules
that define them import what they do only when they do it.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.pools import Connection

_Result = TypeVar("_Result")

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")
account_argument = click.argument("account_called", metavar="ACCOUNT")


@contextmanager
def open_database(settings: Settings, *, keep_running: bool = False) -> Iterator[str]:
    """The URL of the database, which is up and has a current schema."""
    from service.postgres.migrations import migrate

    if settings.database_url is not None:
        asyncio.run(migrate(settings.database_url))
        yield settings.database_url
        return
    from service.postgres.embedded import embedded_postgres

    with embedded_postgres(settings.state_dir, keep_running=keep_running) as url:
        asyncio.run(migrate(url))
        yield url


def with_connection(
    settings: Settings, work: Callable[["Connection"], Awaitable[_Result]]
) -> _Result:
    """Do that with a connection to the database, on which each statement commits by itself."""
    from service.postgres.pools import connect

    async def connected(url: str) -> _Result:
        async with connect(url) as connection:
            return await work(connection)

    with open_database(settings) as url:
        return asyncio.run(connected(url))


def in_transaction(
    settings: Settings, work: Callable[["Connection"], Awaitable[_Result]]
) -> _Result:
    """Do that in one transaction."""

    async def transacted(connection: "Connection") -> _Result:
        async with connection.transaction():
            return await work(connection)

    return with_connection(settings, transacted)


def print_result(result: dict[str, object], as_json: bool, sentence: str) -> None:
    """Print what was done: as JSON, or in a sentence whose blanks it fills in."""
    click.echo(msgspec.json.encode(result) if as_json else sentence.format(**result))
