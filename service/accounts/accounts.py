"""Accounts: how they come to be, are found, renamed, suspended and reinstated."""

import re
from uuid import UUID

from uuid_utils.compat import uuid7

from service import audit
from service.accounts import queries
from service.accounts.names import checked_name, skeleton
from service.accounts.queries import Account
from service.database import Connection
from service.errors import Conflict, InvalidInput, NotFound

# One “@”, something before it, a dotted name after it, nothing that could end a mail header: enough
# to catch slips. Whether an address works, only a mail to it can tell.
_EMAIL = re.compile(r"[^@\s\x00-\x1f\x7f]{1,64}@[^@\s\x00-\x1f\x7f]+\.[^@\s\x00-\x1f\x7f.]+")
_LONGEST_EMAIL = 254  # RFC 5321, section 4.5.3.1.3, less the angle brackets


def checked_email(text: str) -> str:
    """An e-mail address as it is kept: trimmed and lower-case. Raises `InvalidInput`."""
    email = text.strip().lower()
    if len(email) > _LONGEST_EMAIL or not _EMAIL.fullmatch(email):
        raise InvalidInput("email", text, "an e-mail address such as jo@example.com")
    return email


async def create_account(connection: Connection, name: str, email: str) -> Account:
    """A new account, with the user of that address as its first admin.

    Raises `InvalidName`, also for a name that looks like another account's, or `InvalidInput`.
    """
    name, email = checked_name(name), checked_email(email)
    account = Account(id=uuid7(), name=name, suspended_at=None)
    await queries.insert_account(connection, account.id, name, skeleton(name))
    user_id = await queries.upsert_user(connection, uuid7(), email)
    await queries.insert_membership(connection, account.id, user_id, "admin")
    await audit.record(connection, "account.created", account.id, name=name)
    return account


async def rename_account(connection: Connection, account: Account, name: str) -> None:
    """Change what others are shown, with their very next call. Raises `InvalidName`."""
    name = checked_name(name)
    await queries.update_account_name(connection, account.id, name, skeleton(name))
    await audit.record(connection, "account.renamed", account.id, name=name, formerly=account.name)


async def find_account(connection: Connection, id_or_name: str) -> Account:
    """The account with that id or exact name; an id wins. Raises `NotFound`."""
    found = await queries.select_accounts_called(connection, [id_or_name])
    if not found:
        raise NotFound("account", id_or_name)
    return min(found, key=lambda account: str(account.id) != id_or_name)


async def suspend_account(connection: Connection, account_id: UUID) -> None:
    """From the next call on its keys are refused and it owns nothing. Raises `Conflict` if it is so."""
    if not await queries.update_account_suspended(connection, account_id, suspended=True):
        raise Conflict("the account is suspended already")
    await audit.record(connection, "account.suspended", account_id)


async def reinstate_account(connection: Connection, account_id: UUID) -> None:
    """Take a suspension back. Raises `Conflict` if the account is not suspended."""
    if not await queries.update_account_suspended(connection, account_id, suspended=False):
        raise Conflict("the account is not suspended")
    await audit.record(connection, "account.reinstated", account_id)
