"""What commands share: their database, their transaction, and how they print.

Every start of the command line imports all commands, even to run the server. So the modules that
define them import what they need only when a command runs.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import click
import msgspec

from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.pools import Connection

_Result = TypeVar("_Result")

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON instead of text.")
account_argument = click.argument("account_called", metavar="ACCOUNT")


@contextmanager
def open_database(settings: Settings, *, keep_running: bool = False) -> Iterator[str]:
    """Yield the URL of a running database with a current schema."""
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
    """Run `work` with a database connection that commits each statement by itself."""
    from service.postgres.pools import connect

    async def connected(url: str) -> _Result:
        async with connect(url) as connection:
            return await work(connection)

    with open_database(settings) as url:
        return asyncio.run(connected(url))


def in_transaction(
    settings: Settings, work: Callable[["Connection"], Awaitable[_Result]]
) -> _Result:
    """Run `work` in one transaction."""
    from service.postgres.pools import confirm

    async def transacted(connection: "Connection") -> _Result:
        async with connection.transaction():
            result = await work(connection)
            await confirm(connection)
            return result

    return with_connection(settings, transacted)


def print_result(result: dict[str, object], as_json: bool, sentence: str) -> None:
    """Print a result as JSON, or as a sentence whose blanks it fills in."""
    click.echo(msgspec.json.encode(result) if as_json else sentence.format(**result))


def print_rows(rows: Sequence[Mapping[str, object]], as_json: bool, nothing: str) -> None:
    """Print rows as a JSON array, or as a table that cuts no value; `nothing` if there are none."""
    if as_json:
        click.echo(msgspec.json.encode(rows))
        return
    if not rows:
        click.echo(nothing)
        return
    table = [[name.replace("_", " ").upper() for name in rows[0]]]
    table += [[_cell(value) for value in row.values()] for row in rows]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(cells).rstrip())


def _cell(value: object) -> str:
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return "-" if value is None else str(value)
