"""Accounts: how they come to be, are found, renamed, suspended and reinstated."""

from datetime import timedelta
from uuid import UUID

from email_validator import EmailNotValidError, validate_email
from uuid_utils.compat import uuid7

from service import audit
from service.accounts import queries
from service.accounts.names import checked_name, skeleton
from service.accounts.records import Account
from service.audit import Actor
from service.errors import Conflict, InvalidInput, NotFound
from service.postgres.pools import Connection

# How long an account has to keep a name that it gave itself.
NAME_STANDS_FOR = timedelta(days=7)

name_of = queries.select_account_name
accounts_called = queries.select_accounts_called
count_accounts = queries.count_accounts


def checked_email(text: str, field: str = "email") -> str:
    """An e-mail address as it is kept: trimmed, lower-case, its domain in ASCII. Raises `InvalidInput`.

    Whether it works, only a mail to it can tell.
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
    """A new account, with the user of that address as its first admin. Needs a transaction.

    `founder_id` is that user's if it makes the account; otherwise the operator does.

    Raises `InvalidName`, also for a name that looks like another account's, or `InvalidInput`.
    """
    name, email = checked_name(name), checked_email(email)
    account = Account(id=uuid7(), name=name, suspended_at=None)
    await queries.insert_account(connection, account.id, name, skeleton(name))
    user_id = await queries.upsert_user(connection, uuid7(), email)
    await queries.insert_membership(connection, account.id, user_id, "admin")
    actor = audit.OPERATOR if founder_id is None else Actor("user", account.id, founder_id)
    await audit.record(connection, "account.created", account.id, actor=actor, name=name)
    return account


async def rename_account(
    connection: Connection, account: Account, name: str, actor: Actor = audit.OPERATOR
) -> None:
    """Change what others are shown, with their very next call. Needs a transaction.

    Accounts that rename themselves have to wait for a week before the next time. Giving an account the
    name it has changes nothing.

    Raises `InvalidName`, or `Conflict` if it is too early.
    """
    name = checked_name(name)
    if name == account.name:
        return
    by_itself = actor.account_id == account.id
    renamed = await queries.update_account_name(
        connection, account.id, name, skeleton(name), NAME_STANDS_FOR if by_itself else None
    )
    if not renamed:
        raise Conflict(f"an account can be renamed once every {NAME_STANDS_FOR.days} days")
    await audit.record(
        connection, "account.renamed", account.id, actor=actor, name=name, formerly=account.name
    )


async def find_account(connection: Connection, id_or_name: str) -> Account:
    """The account with that id or exact name; an id wins. Raises `NotFound`."""
    found = await queries.select_accounts_called(connection, [id_or_name])
    if not found:
        raise NotFound("account", id_or_name)
    return min(found, key=lambda account: str(account.id) != id_or_name)


async def suspend_account(connection: Connection, account_id: UUID) -> None:
    """From the next call on its keys are refused and it owns nothing. Raises `Conflict` if it is so."""
    if not await queries.update_account_suspended(connection, account_id, suspended=True):
        raise Conflict("the account is already suspended")
    await audit.record(connection, "account.suspended", account_id)


async def reinstate_account(connection: Connection, account_id: UUID) -> None:
    """Take a suspension back. Raises `Conflict` if the account is not suspended."""
    if not await queries.update_account_suspended(connection, account_id, suspended=False):
        raise Conflict("the account is not suspended")
    await audit.record(connection, "account.reinstated", account_id)
