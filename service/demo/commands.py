"""The command that loads the demo."""

from typing import TYPE_CHECKING

import click
import msgspec

from service.processes.commands import as_json_option, in_transaction
from service.settings import Settings

if TYPE_CHECKING:
    from service.demo.demo import Demo
    from service.postgres.pools import Connection


@click.command("demo")
@as_json_option
@click.pass_obj
def load_demo(settings: Settings, as_json: bool) -> None:
    """Load a few demo companies, and show who sees whose name. Their API keys are public: don't use
    them in production. Loading again only renews the certificates."""
    from service.demo import demo, leads

    demo.check_host(settings.host)

    async def work(connection: "Connection") -> "Demo":
        return await demo.load(connection, settings.public_url)

    loaded = in_transaction(settings, work)
    file = settings.state_dir / leads.FILE
    settings.state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    leads.write(file)
    if as_json:
        click.echo(msgspec.json.encode(loaded))
    else:
        from rich.console import Console

        demo.show(loaded, file, Console())


commands = [load_demo]
