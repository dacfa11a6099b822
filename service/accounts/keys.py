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
from service.accounts.records import Caller
from service.audit import Actor
from service.errors import InactiveAccount, InvalidInput, NotFound, Unauthorized
from service.postgres.pools import Connection
from service.tokens import digest_of

PREFIX = "cok_"


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


async def create_key(
    connection: Connection, account_id: UUID, key: str | None = None
) -> tuple[UUID, str]:
    """Give an account a key. Return its id and the key itself, which can't be retrieved again."""
    key_id, key = uuid7(), key or new_key()
    await queries.insert_api_key(connection, key_id, account_id, digest_of(key))
    await audit.record(connection, "key.created", account_id, key_id=key_id)
    return key_id, key


async def revoke_key(connection: Connection, key_id: str) -> UUID:
    """Revoke a key, starting with the next call. Return the id of its account.

    Raises `InvalidInput` if `key_id` is not an id, or `NotFound` if no active key has it.
    """
    try:
        parsed = UUID(key_id)
    except ValueError:
        raise InvalidInput("key id", key_id, "the id that “key create” printed") from None
    account_id = await queries.update_api_key_revoked(connection, parsed)
    if account_id is None:
        raise NotFound("active key", key_id)
    await audit.record(connection, "key.revoked", account_id, key_id=parsed)
    return account_id


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
    caller = await queries.select_caller(connection, digest_of(key))
    if caller is None:
        raise Unauthorized
    if caller.suspended_at is not None:
        raise InactiveAccount
    return caller
