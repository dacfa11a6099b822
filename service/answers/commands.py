"""The commands that check answers: receipts, offline, and the whole log."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, BinaryIO

import click
import msgspec

from service.processes.commands import as_json_option, with_connection
from service.processes.remote import Remote, remote_options
from service.settings import Settings

if TYPE_CHECKING:
    from uuid import UUID

    from service.answers.audit_log import Extent
    from service.answers.checkpoints import VerifierKey
    from service.postgres.pools import Connection

_key_option = click.option(
    "--key",
    "keys",
    multiple=True,
    metavar="KEY",
    help="A public key of the log to trust, as /v1/log/key gives it.",
)


class _Receipts(click.Group):
    """“receipt ANSWER_ID” gets a receipt, and “receipt verify FILE” checks one."""

    def resolve_command(
        self, context: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            return "get", get_receipt, args
        return super().resolve_command(context, args)


@click.group("receipt", cls=_Receipts)
def receipt() -> None:
    """Get the receipt of an answer (receipt ANSWER_ID), or verify one (receipt verify FILE)."""


@receipt.command("get")
@click.argument("answer_id", metavar="ANSWER_ID", type=click.UUID)
@remote_options
def get_receipt(remote: Remote, answer_id: "UUID") -> None:
    """Print the receipt of one of your answers as JSON. It exists about a minute after the answer."""
    answer = remote.get(f"/v1/answers/{answer_id}")
    if answer["receipt"] is None:
        raise click.ClickException("the answer is not sealed yet: try again in a minute")
    keys = remote.text("/v1/log/key").splitlines()
    click.echo(msgspec.json.format(msgspec.json.encode({**answer["receipt"], "keys": keys})))


@receipt.command("verify")
@click.argument("file", type=click.File("rb"))
@_key_option
@as_json_option
def verify_receipt(file: BinaryIO, keys: Sequence[str], as_json: bool) -> None:
    """Verify a receipt offline, without asking the service.

    Without --key, the keys in the receipt are taken. They prove only that the receipt is whole. Give
    the key that you got from the service when you began to use it.
    """
    from service.answers.checkpoints import parsed_key
    from service.answers.receipts import ReceiptWithKeys, verified

    try:
        kept = msgspec.json.decode(file.read(1_000_000), type=ReceiptWithKeys)
    except (msgspec.MsgspecError, RecursionError) as error:
        raise click.ClickException(f"this isn't a receipt: {error}") from None
    statement, checkpoint = verified(kept, [parsed_key(each) for each in keys or kept.keys])
    if as_json:
        click.echo(msgspec.json.encode({"valid": True, "statement": statement}))
        return
    click.echo(f"Valid: answer {statement.answer_id} is number {kept.leaf_index} of the log")
    click.echo(f"  {_shown(checkpoint.origin)}, of {checkpoint.size} answers")
    for name, value in msgspec.to_builtins(statement).items():
        if name != "answer_id":
            click.echo(f"  {name.replace('_', ' ')}: {_shown(value)}")
    if not keys:
        click.echo("The key was taken from the receipt. Use --key to check whose log it is.")


def _shown(value: str | None) -> str:
    """Return text that can't pass for other lines, whoever made it."""
    if value is None:
        return "–"
    return value if value.isprintable() else repr(value)


@click.group("audit")
def audit() -> None:
    """Check the log of answers."""


@audit.command("verify")
@_key_option
@click.option(
    "--checkpoint",
    "checkpoints",
    multiple=True,
    type=click.File("rb"),
    help="A checkpoint that was kept elsewhere, which the log must still have.",
)
@as_json_option
@click.pass_context
def verify_log(
    context: click.Context, keys: Sequence[str], checkpoints: Sequence[BinaryIO], as_json: bool
) -> None:
    """Recompute the log from all answers, and name the first that was changed, lost, or added.

    The exit status is 1 if anything was.
    """
    settings: Settings = context.obj
    # What is no text is no checkpoint, as is said of it then.
    notes = [file.read(10_000).decode(errors="replace") for file in checkpoints]

    async def work(connection: "Connection") -> tuple["Extent", list[str]]:
        from service.answers.audit_log import differences, extent_of
        from service.answers.checkpoints import parsed_key

        trusted: list[VerifierKey] = [parsed_key(each) for each in keys]
        found = []
        async for difference in differences(connection, trusted, notes):
            found.append(difference)
            if len(found) == 100:
                break
        return await extent_of(connection, trusted), found

    extent, found = with_connection(settings, work)
    if as_json:
        click.echo(msgspec.json.encode({**msgspec.structs.asdict(extent), "differences": found}))
    elif found:
        for difference in found:
            click.echo(difference)
    else:
        kept = extent.answers - extent.dropped
        click.echo(f"All {kept:,} answers in the log are as they were told.")
        if extent.dropped:
            click.echo(f"Of {extent.dropped:,} older ones, only the hashes are kept.")
        if not keys:
            click.echo("The key was taken from the database. Use --key to check whose log it is.")
    context.exit(1 if found else 0)


commands = [receipt, audit]
