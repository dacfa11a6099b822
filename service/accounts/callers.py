"""Who is calling, by API key or by session, and how much each account has in progress.

Calls that arrive together are identified in one query, so that a flood of wrong keys costs little.
Whether a key is valid is never cached: a revoked one is refused from the next call on.
"""

from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar
from uuid import UUID

from cachetools import TTLCache

from service.accounts import queries
from service.accounts.keys import key_digest_of
from service.accounts.records import Caller, Session
from service.errors import Forbidden, InactiveAccount, TooManyCalls, Unauthorized
from service.postgres import shares
from service.postgres.batching import NaturalBatcher
from service.postgres.pools import Connection, Pool
from service.tokens import digest_of
from service.web import rate_limits
from service.web.bodies import HttpRequest
from service.web.pages import Site
from service.web.parameters import check_query
from service.web.rate_limits import Used

# How long we remember whose a key was, in seconds. It decides who may send a body and how many calls
# an account may have in progress, but never what a call is told.
_REMEMBERED_FOR = 10.0

_Found = TypeVar("_Found")


class Callers:
    """Identifies the callers of one of so many processes, and counts their calls in progress."""

    def __init__(self, pool: Pool, processes: int) -> None:
        self._by_key = _batched(pool, queries.select_callers)
        self._by_token = _batched(pool, queries.select_sessions)
        self._processes = processes
        self._remembered: TTLCache[bytes, Caller] = TTLCache(10_000, _REMEMBERED_FOR)
        self._in_progress: Counter[UUID] = Counter()

    async def identify(self, digest: bytes) -> Caller:
        """Return the caller whose key has this digest.

        Raises `Unauthorized`, `InactiveAccount`, or `Unavailable`.
        """
        caller = await self._by_key.ask(digest, digest)
        if caller is None or caller.suspended_at is not None:
            self._remembered.pop(digest, None)
            raise Unauthorized if caller is None else InactiveAccount
        self._remembered[digest] = caller
        return caller

    async def remember(self, digest: bytes) -> Caller:
        """Return the caller whose key it was a moment ago; if that isn't known, identify it."""
        try:
            return self._remembered[digest]
        except KeyError:
            return await self.identify(digest)

    async def session(self, token: str) -> Session | None:
        """Return the session with that token, if it exists and has not ended."""
        digest = digest_of(token)
        return await self._by_token.ask(digest, digest)

    def begin_call(self, caller: Caller) -> None:
        """Count a call to the Certificate API, until `end_call`.

        Each process admits its part of the account's limit. Raises `TooManyCalls`.
        """
        account_id = caller.account_id
        if self._in_progress[account_id] >= max(1, caller.limits.calls // self._processes):
            rate_limits.note(Used("calls in progress", caller.limits.calls, None, 0, 1))
            raise TooManyCalls(f"you have {caller.limits.calls} calls in progress, the limit")
        self._in_progress[account_id] += 1

    def end_call(self, caller: Caller) -> None:
        """End the call that `begin_call` counted."""
        self._in_progress[caller.account_id] -= 1
        if not self._in_progress[caller.account_id]:
            del self._in_progress[caller.account_id]


async def calling(request: HttpRequest) -> Caller:
    """Return the caller whose key came with a request. Refuses unknown query parameters.

    Raises `Unauthorized`, `InactiveAccount`, `Forbidden`, `InvalidInput`, or `Unavailable`.
    """
    state = request.app.state
    if request.method != "GET":
        _check_site(request, state.site)
    digest = key_digest_of(request.headers.get("authorization"))
    caller: Caller = await state.callers.identify(digest)
    shares.belongs_to(caller.account_id)
    state.used_keys.note(digest)
    check_query(request)
    return caller


def _check_site(request: HttpRequest, site: Site) -> None:
    """Refuse a change that another site makes with a key that a browser remembers.

    Browsers say where a request comes from (Fetch Metadata, `Sec-Fetch-Site`; older ones in
    `Origin` alone). Programs say neither.
    """
    given = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    is_foreign = (
        given not in ("same-origin", "none") if given else origin not in (None, site.origin)
    )
    if is_foreign:
        raise Forbidden(
            "this request comes from another site’s page; send it from your own program"
        )


def _batched(
    pool: Pool,
    select: Callable[[Connection, Sequence[bytes]], Awaitable[dict[bytes, _Found]]],
) -> NaturalBatcher[bytes, _Found | None]:
    async def find(digests: Sequence[bytes]) -> list[_Found | None]:
        async with pool.connection() as connection:
            found = await select(connection, digests)
        return [found.get(digest) for digest in digests]

    return NaturalBatcher(find)
