"""Accounts: create, find, rename, suspend, and reinstate them."""

from collections.abc import Mapping
from datetime import timedelta
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from uuid_utils.compat import uuid7

from service import allowance, audit
from service.accounts import queries
from service.accounts.names import checked_name, readings
from service.accounts.records import PURCHASES, Account, AccountDetails, Limits
from service.audit import Actor
from service.errors import Conflict, InvalidInput, NotFound
from service.postgres.pools import Connection

# How long an account must keep a name it gave itself.
NAME_STANDS_FOR = timedelta(days=7)

name_of = queries.select_account_name
accounts_called = queries.select_accounts_called
count_accounts = queries.count_accounts
all_accounts = queries.select_all_accounts
names_alike = queries.select_names_alike


def checked_email(text: str, field: str = "email") -> str:
    """Return an email address as we store it: trimmed, lowercase, with an ASCII domain.

    Only sending an email shows whether the address works. Raises `InvalidInput`.
    """
    try:
        checked = validate_email(
            text.strip(),
            allow_smtputf8=False,
            check_deliverability=False,
            strict=True,
            test_environment=True,
        )
    except EmailNotValidError:
        raise InvalidInput(field, text, "an email address such as jo@example.com") from None
    assert checked.ascii_email is not None
    return checked.ascii_email.lower()


async def create_account(
    connection: Connection, name: str, email: str, founder_id: UUID | None = None
) -> Account:
    """Create an account with the user of that address as its first admin. Needs a transaction.

    `founder_id` is that user's id if the user creates the account; without it, the operator does.

    Raises `InvalidName`, also if the name reads like another account's, or `InvalidInput`.
    """
    name, email = checked_name(name), checked_email(email)
    account = Account(id=uuid7(), name=name, suspended_at=None)
    await queries.insert_account(connection, account.id, name, readings(name))
    user_id = await queries.upsert_user(connection, uuid7(), email)
    await queries.insert_membership(connection, account.id, user_id, "admin")
    actor = audit.OPERATOR if founder_id is None else Actor("user", account.id, founder_id)
    await audit.record(connection, "account.created", account.id, actor=actor, name=name)
    return account


async def rename_account(
    connection: Connection, account: Account, name: str, actor: Actor = audit.OPERATOR
) -> None:
    """Change the name others see, starting with their next call. Needs a transaction.

    An account that renames itself must wait a week before it can do so again. Setting the current
    name changes nothing.

    Raises `InvalidName`, or `Conflict` if the week isn't over.
    """
    name = checked_name(name)
    if name == account.name:
        return
    by_itself = actor.account_id == account.id
    renamed = await queries.update_account_name(
        connection, account.id, name, readings(name), NAME_STANDS_FOR if by_itself else None
    )
    if not renamed:
        raise Conflict(f"an account can be renamed once every {NAME_STANDS_FOR.days} days")
    await audit.record(
        connection, "account.renamed", account.id, actor=actor, name=name, formerly=account.name
    )


async def find_account(connection: Connection, id_or_name: str) -> Account:
    """Return the account with that id or exact name; an id wins. Raises `NotFound`."""
    found = await queries.select_accounts_called(connection, [id_or_name])
    if not found:
        raise NotFound("account", id_or_name)
    return min(found, key=lambda account: str(account.id) != id_or_name)


async def suspend_account(connection: Connection, account_id: UUID) -> None:
    """Suspend an account: from the next call on, its keys are refused and it owns nothing.

    Raises `Conflict` if it is already suspended.
    """
    if not await queries.update_account_suspended(connection, account_id, suspended=True):
        raise Conflict("the account is already suspended")
    await audit.record(connection, "account.suspended", account_id)


async def reinstate_account(connection: Connection, account_id: UUID) -> None:
    """Lift a suspension. Raises `Conflict` if the account is not suspended."""
    if not await queries.update_account_suspended(connection, account_id, suspended=False):
        raise Conflict("the account is not suspended")
    await audit.record(connection, "account.reinstated", account_id)


async def details_of(connection: Connection, account_id: UUID) -> AccountDetails:
    """Return an existing account as its own people see it."""
    purchases = await allowance.used_of(connection, PURCHASES, str(account_id))
    return await queries.select_account(connection, account_id, purchases)


async def bought_out(connection: Connection) -> list[str]:
    """Return the names of the accounts whose calls to the vendor are used up for today."""
    return await queries.select_bought_out(connection, PURCHASES, Limits().purchases)


async def set_limits(
    connection: Connection, account_id: UUID, limits: Mapping[str, int | None]
) -> None:
    """Set some of an account's `Limits`, by name; None sets what any account has.

    Processes heed them within ten seconds. Needs a transaction.
    """
    await queries.upsert_limits(connection, account_id, limits)
    await audit.record(connection, "account.limited", account_id, limits=dict(limits))
