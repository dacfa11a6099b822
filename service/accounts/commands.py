"""The commands for accounts and their API keys."""

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any
from uuid import UUID

import click

from service.processes.commands import (
    account_argument,
    as_json_option,
    in_transaction,
    print_result,
    print_rows,
    with_connection,
)
from service.settings import Settings

if TYPE_CHECKING:
    from service.postgres.pools import Connection


def _limit(context: click.Context, parameter: click.Parameter, text: str | None) -> str | None:
    least = 1 if parameter.name == "calls" else 0
    if text in (None, "default") or (
        text.isascii() and text.isdigit() and least <= int(text) < 2**31
    ):
        return text
    raise click.BadParameter(f"“{text}” must be a whole number from {least}, or “default”")


_LIMIT: dict[str, Any] = {"metavar": "NUMBER", "callback": _limit}


@click.group()
def account() -> None:
    """Manage accounts. They are the companies that ask about owners, and those that own domains."""


@account.command("create")
@click.argument("name")
@click.option("--email", required=True, help="The email address of its first admin.")
@as_json_option
@click.pass_obj
def create_account(settings: Settings, name: str, email: str, as_json: bool) -> None:
    """Create the account NAME. Others see this name if the account lets them."""
    from service.accounts import accounts

    async def work(connection: "Connection") -> dict[str, object]:
        created = await accounts.create_account(connection, name, email)
        return {"id": created.id, "name": created.name}

    print_result(
        in_transaction(settings, work),
        as_json,
        "Created the account {name} ({id}). Its admin signs in at PUBLIC_URL/sign-in; no email was "
        "sent. Next, give it an API key: key create.",
    )


@account.command("list")
@as_json_option
@click.pass_obj
def list_accounts(settings: Settings, as_json: bool) -> None:
    """List all accounts by name. READS LIKE shows an older account with a name like it."""
    from service.accounts import accounts

    print_rows(
        with_connection(settings, accounts.all_accounts), as_json, "There are no accounts yet."
    )


@account.command("rename")
@account_argument
@click.argument("name")
@as_json_option
@click.pass_obj
def rename_account(settings: Settings, account_called: str, name: str, as_json: bool) -> None:
    """Rename ACCOUNT (an id or exact name) to NAME. Others see the new name in their next call."""
    from service.accounts import accounts

    async def work(connection: "Connection") -> dict[str, object]:
        found = await accounts.find_account(connection, account_called)
        await accounts.rename_account(connection, found, name)
        renamed = await accounts.name_of(connection, found.id)
        return {"id": found.id, "name": renamed, "formerly": found.name}

    print_result(in_transaction(settings, work), as_json, "Renamed {formerly} to {name} ({id}).")


@account.command("limit")
@account_argument
@click.option("--calls", **_LIMIT, help="Calls to the Certificate API in progress at once.")
@click.option("--certificates", **_LIMIT, help="Certificates that it may import.")
@click.option("--certificate-bytes", **_LIMIT, help="Bytes on record about them.")
@click.option("--purchases", **_LIMIT, help="Calls to the vendor per day.")
@as_json_option
@click.pass_obj
def limit_account(
    settings: Settings, /, account_called: str, as_json: bool, **options: str | None
) -> None:
    """Show what ACCOUNT (an id or exact name) may use and has used, after setting what you give.

    Each limit is a whole number, or “default”.
    """
    from service.accounts import accounts

    limits = {
        name: None if text == "default" else int(text)
        for name, text in options.items()
        if text is not None
    }

    async def work(connection: "Connection") -> dict[str, object]:
        found = await accounts.find_account(connection, account_called)
        if limits:
            await accounts.set_limits(connection, found.id, limits)
        details = await accounts.details_of(connection, found.id)
        return {"id": found.id, "name": found.name, "limits": details.limits, "used": details.used}

    print_result(
        in_transaction(settings, work),
        as_json,
        "{name} ({id}) may have {limits.calls:,} calls in progress. It uses "
        "{used.certificates:,} of {limits.certificates:,} certificates, "
        "{used.certificate_bytes:,} of {limits.certificate_bytes:,} bytes, and "
        "{used.purchases:,} of {limits.purchases:,} calls to the vendor today.",
    )


@account.command("suspend")
@account_argument
@as_json_option
@click.pass_obj
def suspend_account(settings: Settings, account_called: str, as_json: bool) -> None:
    """Suspend ACCOUNT (an id or exact name). Its keys stop working at once, and it owns nothing."""
    from service.accounts import accounts

    changed = _change_account(settings, account_called, accounts.suspend_account)
    print_result(changed, as_json, "Suspended {name} ({id}).")


@account.command("reinstate")
@account_argument
@as_json_option
@click.pass_obj
def reinstate_account(settings: Settings, account_called: str, as_json: bool) -> None:
    """Lift the suspension of ACCOUNT (an id or exact name)."""
    from service.accounts import accounts

    changed = _change_account(settings, account_called, accounts.reinstate_account)
    print_result(changed, as_json, "Reinstated {name} ({id}).")


def _change_account(
    settings: Settings, called: str, change: Callable[["Connection", UUID], Awaitable[None]]
) -> dict[str, object]:
    from service.accounts import accounts

    async def work(connection: "Connection") -> dict[str, object]:
        found = await accounts.find_account(connection, called)
        await change(connection, found.id)
        return {"id": found.id, "name": found.name}

    return in_transaction(settings, work)


@click.group()
def key() -> None:
    """Manage the API keys that accounts call with."""


@key.command("create")
@account_argument
@click.option("--name", help="What to call the key, such as after the system that will use it.")
@as_json_option
@click.pass_obj
def create_key(settings: Settings, account_called: str, name: str | None, as_json: bool) -> None:
    """Create an API key for ACCOUNT (an id or exact name). It is shown only once."""
    from service.accounts import accounts, keys

    async def work(connection: "Connection") -> dict[str, object]:
        found = await accounts.find_account(connection, account_called)
        key_id, api_key = await keys.create_key(connection, found.id, name=name)
        return {"key_id": key_id, "api_key": api_key}

    print_result(
        in_transaction(settings, work),
        as_json,
        "Created the key {key_id}. Copy it now; it is not shown again:\n{api_key}",
    )


@key.command("list")
@click.argument("account_called", metavar="[ACCOUNT]", required=False)
@as_json_option
@click.pass_obj
def list_keys(settings: Settings, account_called: str | None, as_json: bool) -> None:
    """List the active keys of ACCOUNT (an id or exact name), or of all accounts."""
    from service.accounts import accounts, keys

    async def work(connection: "Connection") -> list[dict[str, object]]:
        account_id = None
        if account_called is not None:
            account_id = (await accounts.find_account(connection, account_called)).id
        return await keys.all_keys(connection, account_id)

    print_rows(with_connection(settings, work), as_json, "There are no active keys.")


@key.command("revoke")
@click.argument("key_id")
@as_json_option
@click.pass_obj
def revoke_key(settings: Settings, key_id: str, as_json: bool) -> None:
    """Revoke the key with the id KEY_ID. The next call with it is refused."""
    from service.accounts import keys

    async def work(connection: "Connection") -> dict[str, object]:
        account_id = await keys.revoke_key(connection, key_id)
        return {"key_id": key_id, "account_id": account_id}

    print_result(in_transaction(settings, work), as_json, "Revoked the key {key_id}.")


commands = [account, key]
