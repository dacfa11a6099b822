"""The `confirmed-owner` command."""

import asyncio
import os
import shutil
import signal
import sys
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import islice
from typing import BinaryIO, TypeVar
from uuid import UUID

import click
import msgspec
from litestar import Litestar
from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)

from service import __version__, demo
from service.accounts import accounts, keys
from service.database import Connection, connect, migrate
from service.embedded import embedded_postgres
from service.errors import ServiceError
from service.insights.imports import (
    LINES_AT_ONCE,
    LineResult,
    import_lines,
    numbered_lines,
)
from service.logs import configure_logs
from service.ownership import ownerships
from service.server import free_address, kept_running, serve
from service.settings import Settings, load_settings

# Errors beyond these are counted, not kept: an import's memory must not grow with its mistakes.
_ERRORS_KEPT = 1000

_Result = TypeVar("_Result")


class _Commands(click.Group):
    """Tells errors of ours in one line, without a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            # A shell passes any bytes on; neither a database nor JSON takes them.
            "".join(sys.argv).encode()
            return super().invoke(context)
        except UnicodeEncodeError as error:
            raise click.ClickException("an argument is not valid UTF-8") from error
        except (ServiceError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(cls=_Commands, context_settings={"max_content_width": 100})
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context) -> None:
    """Who owns the site this lead came from? An independent implementation of the Certificate API v4.

    Settings come from the environment; the README lists them.
    """
    context.obj = load_settings()


_as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")


@main.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Bring the schema up to date, serve over HTTP and do background jobs, until interrupted."""
    configure_logs(settings.log_format)
    address = free_address(settings.host, settings.port)
    with _database(settings, keep_running=True) as url:
        if settings.workers > 1:
            # Where the workers put their counts together; it must be there before they start.
            counts = settings.state_dir / "metrics"
            shutil.rmtree(counts, ignore_errors=True)
            counts.mkdir(parents=True)
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(counts)
        with kept_running(lambda: _work(url, settings)):
            serve(lambda: _application(url, settings), address, settings.port, settings.workers)


def _application(database_url: str, settings: Settings) -> Litestar:
    # Imported in the worker: the Prometheus client reads its directory when it is imported.
    from service.app import create_app

    return create_app(database_url, settings)


@main.command("worker")
@click.pass_obj
def worker_command(settings: Settings) -> None:
    """Do background jobs until interrupted. “run” does them, too; any number may."""
    configure_logs(settings.log_format)
    with _database(settings, keep_running=True) as url:
        _work(url, settings)


def _work(database_url: str, settings: Settings) -> None:
    # Imported by whoever works: what it needs takes other commands a fifth of their time.
    from service.worker import work

    async def until_told_to_stop() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            # The one who started this process may want it to pass over interrupts.
            if signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await work(database_url, settings, stopped)

    asyncio.run(until_told_to_stop())


@main.command("migrate")
@_as_json
@click.pass_obj
def migrate_command(settings: Settings, as_json: bool) -> None:
    """Bring the database's schema up to date."""
    with _database(settings):
        _print({"schema": "current"}, as_json, "The schema is up to date.")


@main.command("import")
@click.argument("file", type=click.File("rb"))
@_as_json
@click.pass_context
def import_command(context: click.Context, file: BinaryIO, as_json: bool) -> None:
    """Import certificates for every caller from FILE (“-” is standard input), one JSON object a line.

    A bad line stops no other; if there was one, the exit status is 1.
    """
    counts: Counter[str] = Counter()
    errors: list[LineResult] = []

    def report(result: LineResult) -> None:
        counts[str(result.result or "failed")] += 1
        if not result.error:
            return
        if as_json:
            if len(errors) < _ERRORS_KEPT:
                errors.append(result)
        else:
            error = result.error
            click.echo(
                f"line {result.line}: {error.field} {error.reason}, not “{error.value}”", err=True
            )

    async def work(connection: Connection) -> None:
        with _progress(file) as advance:
            lines = numbered_lines(file)
            while some := list(islice(lines, LINES_AT_ONCE)):
                async with connection.transaction():
                    results = await import_lines(connection, some)
                for result in results:
                    report(result)
                advance(len(some), sum(len(line) for _, line in some))

    _with_database(context.obj, work)
    summary = {"lines": counts.total()}
    summary |= {name: counts[name] for name in ("created", "updated", "unchanged", "failed")}
    if as_json:
        left_out = counts["failed"] - len(errors)
        click.echo(msgspec.json.encode(summary | {"errors": errors, "errors_left_out": left_out}))
    else:
        click.echo(", ".join(f"{count:,} {name}" for name, count in summary.items()))
    context.exit(1 if counts["failed"] else 0)


@main.group()
def account() -> None:
    """Accounts: the companies that ask, and those that own."""


@account.command("create")
@click.argument("name")
@click.option("--email", required=True, help="The e-mail address of its first admin.")
@_as_json
@click.pass_obj
def account_create(settings: Settings, name: str, email: str, as_json: bool) -> None:
    """Create the account NAME, which others will be shown where it permits."""

    async def work(connection: Connection) -> dict[str, object]:
        created = await accounts.create_account(connection, name, email)
        return {"id": created.id, "name": created.name}

    _print(_in_transaction(settings, work), as_json, "Created the account {name} ({id}).")


@account.command("suspend")
@click.argument("account_called", metavar="ACCOUNT")
@_as_json
@click.pass_obj
def account_suspend(settings: Settings, account_called: str, as_json: bool) -> None:
    """Refuse the keys of ACCOUNT (an id or exact name) and let it own nothing, with the next call."""
    changed = _change_account(settings, account_called, accounts.suspend_account)
    _print(changed, as_json, "Suspended {name} ({id}).")


@account.command("reinstate")
@click.argument("account_called", metavar="ACCOUNT")
@_as_json
@click.pass_obj
def account_reinstate(settings: Settings, account_called: str, as_json: bool) -> None:
    """Take the suspension of ACCOUNT (an id or exact name) back."""
    changed = _change_account(settings, account_called, accounts.reinstate_account)
    _print(changed, as_json, "Reinstated {name} ({id}).")


def _change_account(
    settings: Settings, called: str, change: Callable[[Connection, UUID], Awaitable[None]]
) -> dict[str, object]:
    async def work(connection: Connection) -> dict[str, object]:
        found = await accounts.find_account(connection, called)
        await change(connection, found.id)
        return {"id": found.id, "name": found.name}

    return _in_transaction(settings, work)


@main.group()
def key() -> None:
    """API keys: what accounts call with."""


@key.command("create")
@click.argument("account_called", metavar="ACCOUNT")
@_as_json
@click.pass_obj
def key_create(settings: Settings, account_called: str, as_json: bool) -> None:
    """Give ACCOUNT (an id or exact name) an API key. It is shown this once."""

    async def work(connection: Connection) -> dict[str, object]:
        found = await accounts.find_account(connection, account_called)
        key_id, api_key = await keys.create_key(connection, found.id)
        return {"key_id": key_id, "api_key": api_key}

    _print(
        _in_transaction(settings, work),
        as_json,
        "The key {key_id}, shown this once:\n{api_key}",
    )


@key.command("revoke")
@click.argument("key_id")
@_as_json
@click.pass_obj
def key_revoke(settings: Settings, key_id: str, as_json: bool) -> None:
    """Revoke the key with the id KEY_ID; the next call with it is refused."""

    async def work(connection: Connection) -> dict[str, object]:
        account_id = await keys.revoke_key(connection, key_id)
        return {"key_id": key_id, "account_id": account_id}

    _print(_in_transaction(settings, work), as_json, "Revoked the key {key_id}.")


@main.group()
def domain() -> None:
    """Domains: who owns them."""


@domain.command("attest")
@click.argument("account_called", metavar="ACCOUNT")
@click.argument("name", metavar="DOMAIN")
@click.option("--covers-subdomains", is_flag=True, help="It owns all its subdomains, too.")
@_as_json
@click.pass_obj
def domain_attest(
    settings: Settings, account_called: str, name: str, covers_subdomains: bool, as_json: bool
) -> None:
    """Vouch as the operator that ACCOUNT (an id or exact name) owns DOMAIN; recorded as such."""

    async def work(connection: Connection) -> dict[str, object]:
        found = await accounts.find_account(connection, account_called)
        ownership = await ownerships.attest(
            connection, found.id, name, covers_subdomains=covers_subdomains
        )
        return {
            "id": ownership.id,
            "account_id": found.id,
            "name": found.name,
            "domain": ownership.domain,
            "covers_subdomains": ownership.covers_subdomains,
            "verified_at": ownership.verified_at,
        }

    _print(_in_transaction(settings, work), as_json, "{domain} is owned by {name}, attested.")


@main.command("demo")
@_as_json
@click.pass_obj
def demo_command(settings: Settings, as_json: bool) -> None:
    """Load a few companies, and show who sees whose name. Their API keys are public: not for
    production. Loaded again, only the certificates are renewed."""

    async def work(connection: Connection) -> demo.Demo:
        return await demo.load(connection, settings.public_url)

    loaded = _in_transaction(settings, work)
    if as_json:
        click.echo(msgspec.json.encode(loaded))
    else:
        demo.show(loaded, Console())


@main.command("openapi")
def openapi_command() -> None:
    """Print the OpenAPI document of this version, as YAML."""
    from service.app import openapi_yaml

    click.echo(openapi_yaml(), nl=False)


@contextmanager
def _database(settings: Settings, *, keep_running: bool = False) -> Iterator[str]:
    """The URL of the database, which is up and has a current schema."""
    if settings.database_url is not None:
        asyncio.run(migrate(settings.database_url))
        yield settings.database_url
        return
    with embedded_postgres(settings.state_dir, keep_running=keep_running) as url:
        asyncio.run(migrate(url))
        yield url


def _with_database(settings: Settings, work: Callable[[Connection], Awaitable[_Result]]) -> _Result:
    async def connected(url: str) -> _Result:
        async with connect(url) as connection:
            return await work(connection)

    with _database(settings) as url:
        return asyncio.run(connected(url))


def _in_transaction(
    settings: Settings, work: Callable[[Connection], Awaitable[_Result]]
) -> _Result:
    async def transacted(connection: Connection) -> _Result:
        async with connection.transaction():
            return await work(connection)

    return _with_database(settings, transacted)


def _print(result: dict[str, object], as_json: bool, sentence: str) -> None:
    click.echo(msgspec.json.encode(result) if as_json else sentence.format(**result))


@contextmanager
def _progress(file: BinaryIO) -> Iterator[Callable[[int, int], None]]:
    """A progress bar on a terminal, nothing elsewhere; it is told of lines and of bytes done."""
    console = Console(stderr=True)
    try:
        size = os.fstat(file.fileno()).st_size or None
    except OSError:
        size = None
    with Progress(
        TextColumn("Importing"),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TextColumn("{task.fields[lines]:,} lines, {task.fields[rate]:,.0f}/s"),
        TimeRemainingColumn(),
        console=console,
        disable=not console.is_terminal,
    ) as progress:
        task = progress.add_task("import", total=size, lines=0, rate=0)

        def advance(lines: int, length: int) -> None:
            state = progress.tasks[0]
            done = state.fields["lines"] + lines
            rate = done / state.elapsed if state.elapsed else 0
            progress.update(task, advance=length, lines=done, rate=rate)

        yield advance
