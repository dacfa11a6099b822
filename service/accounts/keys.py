"""API keys: shown once, stored as a digest.

A key is `cok_` and 192 random bits in hex. With that much entropy, plain SHA-256 is enough: a
digest reveals no part of its key, and the timing of a lookup by digest reveals nothing about other
keys.
"""

import binascii
import secrets
from base64 import b64decode
from collections.abc import Iterable
from uuid import UUID

from uuid_utils.compat import uuid7

from service import audit
from service.accounts import queries
from service.accounts.names import has_unseen
from service.accounts.records import Caller
from service.audit import Actor
from service.errors import Conflict, InactiveAccount, InvalidInput, NotFound, Unauthorized
from service.postgres.pools import Connection
from service.text import as_one_line
from service.tokens import digest_of

PREFIX = "cok_"
MOST_KEYS = 50
LONGEST_NAME = 100

keys_of = queries.select_api_keys
all_keys = queries.select_all_keys


def new_key() -> str:
    """Return a new random API key."""
    return PREFIX + secrets.token_hex(24)


def key_of(authorization: str | None) -> str:
    """Return the API key in an `Authorization` header.

    It is the password of HTTP Basic (RFC 7617); the user name is ignored. Raises `Unauthorized`.
    """
    scheme, _, credentials = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        raise Unauthorized
    try:
        _, colon, key = b64decode(credentials.strip(), validate=True).decode().partition(":")
    except (binascii.Error, ValueError):
        raise Unauthorized from None
    if not colon or not key:
        raise Unauthorized
    return key


def key_digest_of(authorization: str | None) -> bytes:
    """Return the digest of the API key in an `Authorization` header. Raises `Unauthorized`."""
    return digest_of(key_of(authorization))


async def create_key(
    connection: Connection,
    account_id: UUID,
    key: str | None = None,
    *,
    name: str | None = None,
    actor: Actor = audit.OPERATOR,
) -> tuple[UUID, str]:
    """Give an account a key. Return its id and the key itself, which can't be retrieved again.

    Needs a transaction. Raises `InvalidInput`, or `Conflict` if the account has `MOST_KEYS`.
    """
    name = None if name is None else _checked_name(name)
    await queries.lock_members(connection, account_id)
    if len(await queries.select_api_keys(connection, account_id)) >= MOST_KEYS:
        raise Conflict(f"an account can have {MOST_KEYS} API keys; revoke one first")
    key_id, key = uuid7(), key or new_key()
    await queries.insert_api_key(connection, key_id, account_id, digest_of(key), name)
    await _record(connection, "key.created", key_id, account_id, name, actor)
    return key_id, key


async def key_of_member(connection: Connection, account_id: UUID, user_id: UUID) -> bytes:
    """Return the digest of the key by which a member asks in a browser.

    Nobody holds that key, so it opens nothing: who may use it, the session says.
    """
    digest = digest_of(new_key())
    return await queries.insert_key_of_member(connection, uuid7(), account_id, user_id, digest)


async def revoke_own_key(
    connection: Connection, account_id: UUID, key_id: UUID, actor: Actor
) -> None:
    """Revoke one of an account's keys, starting with the next call. Needs a transaction.

    Raises `NotFound` if it has no such active key.
    """
    revoked = await queries.update_api_key_revoked(connection, key_id, account_id)
    if revoked is None:
        raise NotFound("API key", str(key_id))
    await _record(connection, "key.revoked", key_id, *revoked, actor)


def _checked_name(text: str) -> str:
    name = as_one_line(text)
    if not 1 <= len(name) <= LONGEST_NAME or has_unseen(name):
        raise InvalidInput("name", text, f"1 to {LONGEST_NAME} visible characters")
    return name


async def revoke_key(connection: Connection, key_id: str) -> UUID:
    """Revoke a key, starting with the next call. Return the id of its account.

    Raises `InvalidInput` if `key_id` is not an id, or `NotFound` if no active key has it.
    """
    try:
        parsed = UUID(key_id)
    except ValueError:
        raise InvalidInput("key id", key_id, "the id that “key create” printed") from None
    revoked = await queries.update_api_key_revoked(connection, parsed, None)
    if revoked is None:
        raise NotFound("active key", key_id)
    await _record(connection, "key.revoked", parsed, *revoked, audit.OPERATOR)
    return revoked[0]


async def _record(
    connection: Connection,
    action: str,
    key_id: UUID,
    account_id: UUID,
    name: str | None,
    actor: Actor,
) -> None:
    named = {} if name is None else {"name": name}
    await audit.record(connection, action, account_id, actor=actor, key_id=key_id, **named)


def actor_of(caller: Caller) -> Actor:
    """Return the actor of a request with that caller's key."""
    return Actor("key", caller.account_id, caller.api_key_id)


async def holders_of(connection: Connection, some_keys: Iterable[str]) -> dict[str, UUID]:
    """Return the account that holds or held each key, by key."""
    digests = {digest_of(key): key for key in some_keys}
    holders = await queries.select_key_holders(connection, list(digests))
    return {digests[digest]: account_id for digest, account_id in holders.items()}


async def authenticate(connection: Connection, key: str) -> Caller:
    """Return the caller with that key. Raises `Unauthorized` or `InactiveAccount`."""
    digest = digest_of(key)
    caller = (await queries.select_callers(connection, [digest])).get(digest)
    if caller is None:
        raise Unauthorized
    if caller.suspended_at is not None:
        raise InactiveAccount
    return caller
