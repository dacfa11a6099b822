"""Identifies the caller of the management API."""

from service.accounts.keys import authenticate, key_of
from service.accounts.records import Caller
from service.postgres.pools import Database
from service.web.bodies import HttpRequest
from service.web.parameters import check_query


async def calling(request: HttpRequest, database: Database) -> Caller:
    """Return the caller whose key came with a request. Refuses unknown query parameters.

    Raises `Unauthorized`, `InactiveAccount`, `InvalidInput`, or `Unavailable`.
    """
    key = key_of(request.headers.get("authorization"))
    async with database.general.connection() as connection:
        caller = await authenticate(connection, key)
    request.app.state.used_keys.note(key)
    check_query(request)
    return caller
