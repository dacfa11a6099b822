"""The command that shows what is going on."""

from typing import TYPE_CHECKING

import click
import msgspec

from service.processes.commands import as_json_option
from service.settings import Settings

if TYPE_CHECKING:
    from service.status.readings import Known


@click.command("status")
@as_json_option
@click.pass_obj
def status_command(settings: Settings, as_json: bool) -> None:
    """Show what is going on, and what needs attention. Starts and changes nothing.

    Exits with 1 if the database can't be asked.
    """
    import asyncio

    from service.errors import ServiceError
    from service.processes.shared_metrics import read_told
    from service.status.readings import disk_of
    from service.status.report import in_words, report_of

    known: Known | str
    try:
        known = asyncio.run(_known(settings))
    except ServiceError as error:
        known = str(error)
    report = report_of(read_told(settings.state_dir), known, disk_of(settings.state_dir))
    click.echo(msgspec.json.encode(report) if as_json else in_words(report))
    if report.database is None:
        raise SystemExit(1)


async def _known(settings: Settings) -> "Known":
    """Ask the database. Raises `ServiceError` if that is not possible."""
    from service.errors import Unavailable
    from service.postgres.embedded import running_postgres
    from service.postgres.health import unavailable_when_out_of_reach
    from service.postgres.pools import STATEMENT_DEADLINE, connect
    from service.status.readings import read_known

    url = settings.database_url or running_postgres(settings.state_dir)
    if url is None:
        raise Unavailable("the embedded PostgreSQL is not running")
    async with connect(url, statement_deadline=STATEMENT_DEADLINE) as connection:
        with unavailable_when_out_of_reach():
            return await read_known(connection)


commands = [status_command]
