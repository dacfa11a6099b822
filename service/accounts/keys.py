"""API keys: shown once, kept as a digest.

A key is `cok_` and 192 random bits in hex. With that much chance in it a plain SHA-256 is enough:
nothing shorter than the whole key can be guessed from the digest, and looking one up by its digest
tells a caller who times it nothing about another.
"""

import binascii
import hashlib
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

PREFIX = "cok_"


def new_key() -> str:
    """A fresh API key."""
    return PREFIX + secrets.token_hex(24)


def digest_of(key: str) -> bytes:
    """What is kept of a key: 32 bytes."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).digest()


def key_of(authorization: str | None) -> str:
    """The API key in an `Authorization` header: the password of HTTP Basic (RFC 7617), any user name.

    Raises `Unauthorized`.
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
    """Give an account a key. The id, and the key itself, which can't be had again."""
    key_id, key = uuid7(), key or new_key()
    await queries.insert_api_key(connection, key_id, account_id, digest_of(key))
    await audit.record(connection, "key.created", account_id, key_id=key_id)
    return key_id, key


async def revoke_key(connection: Connection, key_id: str) -> UUID:
    """End a key, with the very next call. The id of the account it was of.

    Raises `InvalidInput` for what is no id and `NotFound` where no active key has it.
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
    """Who does what a request with that key asks for."""
    return Actor("key", caller.account_id, caller.api_key_id)


async def holders_of(connection: Connection, some_keys: Iterable[str]) -> dict[str, UUID]:
    """Whose keys these are or were, by key."""
    digests = {digest_of(key): key for key in some_keys}
    holders = await queries.select_key_holders(connection, list(digests))
    return {digests[digest]: account_id for digest, account_id in holders.items()}


async def authenticate(connection: Connection, key: str) -> Caller:
    """Whose key that is. Raises `Unauthorized` or `InactiveAccount`."""
    caller = await queries.select_caller(connection, digest_of(key))
    if caller is None:
        raise Unauthorized
    if caller.suspended_at is not None:
        raise InactiveAccount
    return caller
