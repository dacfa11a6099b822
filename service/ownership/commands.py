"""The commands about domains."""

from typing import TYPE_CHECKING

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


@click.group()
def domain() -> None:
    """Manage who owns domains."""


@domain.command("attest")
@account_argument
@click.argument("name", metavar="DOMAIN")
@click.option("--covers-subdomains", is_flag=True, help="ACCOUNT owns all subdomains, too.")
@click.option("--replace", is_flag=True, help="Take DOMAIN from the account it is attested to now.")
@as_json_option
@click.pass_obj
def attest_domain(
    settings: Settings,
    account_called: str,
    name: str,
    covers_subdomains: bool,
    replace: bool,
    as_json: bool,
) -> None:
    """Vouch, as the operator, that ACCOUNT (an id or exact name) owns DOMAIN.

    The ownership is recorded as attested. It never overrides a verification by DNS.
    """
    from service.accounts.accounts import find_account
    from service.ownership import ownerships

    async def work(connection: "Connection") -> dict[str, object]:
        found = await find_account(connection, account_called)
        ownership = await ownerships.attest(
            connection,
            found.id,
            name,
            covers_subdomains=covers_subdomains,
            replace=replace,
        )
        return {
            "id": ownership.id,
            "account_id": found.id,
            "name": found.name,
            "domain": ownership.domain,
            "covers_subdomains": ownership.covers_subdomains,
            "method": ownership.method,
            "verified_at": ownership.verified_at,
        }

    print_result(in_transaction(settings, work), as_json, "{name} owns {domain} ({method}).")


@domain.command("list")
@click.argument("account_called", metavar="[ACCOUNT]", required=False)
@as_json_option
@click.pass_obj
def list_domains(settings: Settings, account_called: str | None, as_json: bool) -> None:
    """List the domains that ACCOUNT (an id or exact name) owns, or that all accounts own."""
    from service.accounts.accounts import find_account
    from service.ownership import ownerships

    async def work(connection: "Connection") -> list[dict[str, object]]:
        account_id = None
        if account_called is not None:
            account_id = (await find_account(connection, account_called)).id
        return await ownerships.all_owned(connection, account_id)

    print_rows(with_connection(settings, work), as_json, "No account owns a domain yet.")


commands = [domain]
