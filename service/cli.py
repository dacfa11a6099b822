"""The command line, `confirmed-owner`, assembled from what each subject adds.

Commands import what they need when they run, since every start pays for imports at the top.
"""

import asyncio
import importlib
import os
import signal
import sys
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import click
import msgspec

from service import __version__
from service.accounts import commands as accounts
from service.answers import commands as answers
from service.batches import commands as batches
from service.certificates import commands as certificates
from service.demo import commands as demo
from service.errors import ServiceError
from service.ownership import commands as ownership
from service.processes.commands import as_json_option, open_database, with_connection
from service.settings import Settings, is_loopback, load_settings
from service.status import commands as status

if TYPE_CHECKING:
    from service.processes.serving import Application

# How much background jobs give way to what serves.
_NICENESS = 10

_SUBJECTS = (accounts, ownership, certificates, batches, answers, demo, status)


class _Commands(click.Group):
    """Prints our own errors on one line, without a traceback."""

    def invoke(self, context: click.Context) -> object:
        try:
            # A shell passes on any bytes, but a database or JSON takes only valid UTF-8.
            "".join(sys.argv).encode()
            return super().invoke(context)
        except UnicodeEncodeError as error:
            raise click.ClickException("an argument is not valid UTF-8") from error
        except (ServiceError, OSError) as error:
            raise click.ClickException(str(error)) from error


@click.group(
    cls=_Commands,
    context_settings={"max_content_width": 100, "help_option_names": ["-h", "--help"]},
)
@click.version_option(__version__)
@click.pass_context
def main(context: click.Context) -> None:
    """Who owns the site this lead came from?

    An independent implementation of the Certificate API v4. Settings come from the environment.
    The guide for operators lists them.
    """
    context.obj = load_settings()


@main.command()
@click.pass_obj
def run(settings: Settings) -> None:
    """Run the service until interrupted. Updates the schema, serves HTTP, does background jobs."""
    from service.processes.forks import kept_running
    from service.processes.logs import configure_logs
    from service.processes.serving import free_address, serve
    from service.processes.shared_metrics import share_metrics

    configure_logs(settings.log_format)
    address = free_address(settings.host, settings.port)
    # Before anything imports the metrics.
    share_metrics(settings.state_dir)
    with open_database(settings, keep_running=True) as url:
        if not is_loopback(address):
            asyncio.run(_refuse_to_open_the_demo(url, settings.host))
        asyncio.run(_warn_of_names_alike(url))
        if settings.public_url.startswith("http:") and not is_loopback(
            urlsplit(settings.public_url).hostname or ""
        ):
            _log().warning(
                "PUBLIC_URL is not https: anyone on the way can read API keys and sign-in links",
                public_url=settings.public_url,
            )
        if settings.smtp is None:
            outbox = str(settings.state_dir / "outbox")
            _log().warning("no SMTP_URL: emails are written to files", directory=outbox)
        # Once for all processes, which are forks of this one, and for those that replace them.
        for name in ("service.app", "service.worker"):
            importlib.import_module(name)
        with kept_running(lambda: _work(url, settings)) as stop_working:
            serve(
                lambda: _application(url, settings),
                address,
                settings.port,
                settings.workers,
                on_stopping=stop_working,
            )


def _log() -> Any:
    import structlog

    return structlog.get_logger("service")


async def _refuse_to_open_the_demo(database_url: str, host: str) -> None:
    from service.demo import demo
    from service.postgres.pools import connect

    async with connect(database_url) as connection:
        if await demo.has_active_keys(connection):
            demo.check_host(host)


async def _warn_of_names_alike(database_url: str) -> None:
    from service.accounts.accounts import names_alike
    from service.postgres.pools import connect

    async with connect(database_url) as connection:
        for name, older in await names_alike(connection):
            _log().warning("names read alike", name=name, reads_like=older)


def _application(database_url: str, settings: Settings) -> "Application":
    from service.app import create_app

    return create_app(database_url, settings)


@main.command("worker")
@click.pass_obj
def worker_command(settings: Settings) -> None:
    """Run background jobs until interrupted. “run” does too; any number of workers can run."""
    from service.processes.logs import configure_logs
    from service.processes.shared_metrics import share_metrics

    configure_logs(settings.log_format)
    try:
        share_metrics(settings.state_dir)
    except OSError as error:
        # It may have nothing else to write there.
        _log().warning("“status” won't show this worker", why=str(error))
    with open_database(settings, keep_running=True) as url:
        _work(url, settings)


def _work(database_url: str, settings: Settings) -> None:
    from service.worker import work

    # What people and programs wait for comes first.
    os.nice(_NICENESS)

    async def until_told_to_stop() -> None:
        stopped = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            # Whoever started this process may want it to ignore interrupts.
            if signal.getsignal(number) != signal.SIG_IGN:
                asyncio.get_running_loop().add_signal_handler(number, stopped.set)
        await work(database_url, settings, stopped)

    asyncio.run(until_told_to_stop())


@main.command("migrate")
@as_json_option
@click.pass_obj
def migrate_command(settings: Settings, as_json: bool) -> None:
    """Update the database schema. Names from older versions that read like others' are listed."""
    from service.accounts.accounts import names_alike

    alike = with_connection(settings, names_alike)
    if as_json:
        pairs = [{"name": name, "reads_like": older} for name, older in alike]
        click.echo(msgspec.json.encode({"schema": "current", "names_alike": pairs}))
        return
    click.echo("The schema is up to date.")
    for name, older in alike:
        click.echo(f"The account name “{name}” reads like “{older}”. Rename one: account rename.")


@main.command("openapi")
def openapi_command() -> None:
    """Print this version's OpenAPI document as YAML."""
    from service.app import openapi_yaml

    click.echo(openapi_yaml(), nl=False)


for _subject in _SUBJECTS:
    for _command in _subject.commands:
        main.add_command(_command)
