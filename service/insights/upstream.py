"""The vendor's Certificate API, called with this service's own key.

Only the settings decide where we connect, and only the certificate's id goes into the URL. Every
wait has a deadline, and the whole call has a budget. We retry a call only if that is safe: if it
never reached the vendor, or if the vendor says it did not accept it and the call retains nothing.
At most a tenth of all calls are retried. After several failures in a row, a circuit breaker
opens: callers get an error at once, until one of the single calls it lets through now and then
succeeds. If the vendor can't be reached, it opens for everyone. If the vendor fails or is too slow,
which may be for what one account asks, it opens for that account.

Errors never contain the key, or anything the vendor or a caller sent. Their texts are ours or
published by the vendor.
"""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, Literal, TypeVar
from urllib.parse import quote
from uuid import UUID

import httpx
import msgspec
import stamina
from cachetools import LRUCache, TTLCache
from circuitbreaker import STATE_HALF_OPEN, CircuitBreaker

from service import __version__
from service.errors import (
    CertificateNotFound,
    InvalidCertificateId,
    NotClaimable,
    Overloaded,
    PaymentRequired,
    ProductUnavailable,
    Refused,
    SchemaViolation,
    ServiceError,
    Unavailable,
    Unprocessable,
    VendorFailed,
    VendorTimedOut,
)
from service.insights.contract import (
    CANT_RUN,
    INVALID_ID,
    MALFORMED_ID,
    PUBLISHED_ERRORS,
    SCHEMA,
    UNAVAILABLE,
    MatchLeadOutcome,
    Outcome,
    ValidateResponse,
)
from service.processes import metrics
from service.settings import TrustedForm

CONNECT_DEADLINE = 2.0
READ_DEADLINE = 5.0
MAX_CONNECTIONS = 128
# With less time left than this, a call would fail for lack of it, which says nothing about the
# vendor.
_LEAST_BUDGET = 0.25

MAX_RESPONSE = 1024 * 1024

# How long we remember that there is no such certificate. Calls can come as soon as it is made,
# before all of the vendor's servers know it.
NOT_FOUND_FOR = 15.0

FAILURES_BEFORE_OPEN = 5
OPEN_FOR = 5

# How many retries each call adds to the allowance, and the most it holds after a quiet time.
_REPEATS_PER_CALL = 0.1
_MOST_REPEATS = 10.0

NONSENSE = "the vendor returned an invalid response"
_TOO_SLOW = "the vendor took too long"
_BUSY = "the vendor is busy"

_Shape = TypeVar("_Shape")
_Default = TypeVar("_Default")

# The reason for a status if the vendor gives no published one.
_REFUSED: dict[int, tuple[type[Refused], str]] = {
    402: (PaymentRequired, "Account is inactive"),
    405: (NotClaimable, "Certificate is not claimable"),
    422: (Unprocessable, CANT_RUN),
}
_ERROR = "An unexpected error occurred in one or more of the operations"


class VendorMatch(msgspec.Struct):
    """The vendor's `match_lead` block, without the parameters it echoes."""

    result: MatchLeadOutcome | None = None


class VendorRetained(msgspec.Struct):
    """What the vendor says about a certificate it has retained."""

    expires_at: str | None = None
    masked_cert_url: str | None = None
    share_url: str | None = None


class VendorRetain(msgspec.Struct):
    """The vendor's `retain` block, without the parameters it echoes."""

    results: VendorRetained | None = None


class VendorScans(msgspec.Struct):
    """The vendor's `scans` block, without the parameters it echoes."""

    result: dict[str, Any] | None = None


class VendorInsights(msgspec.Struct):
    """The vendor's `insights` block."""

    properties: dict[str, Any] = {}
    scans: VendorScans | None = None


class VendorResponse(msgspec.Struct):
    """A response of the vendor's Certificate API."""

    outcome: Outcome
    reason: str | None = None
    match_lead: VendorMatch | None = None
    retain: VendorRetain | None = None
    insights: VendorInsights | None = None
    verify: dict[str, Any] | None = None
    raw: dict[str, Any] = {}
    """The whole response, with what we don't know."""


class _Refusal(msgspec.Struct):
    reason: str | None = None


class _Failed(Exception):
    """A call failed on the vendor's side: what to tell the caller, and when to retry."""

    def __init__(
        self,
        error: VendorFailed | Unavailable,
        repeat: Literal["always", "unless it retains", "never"] = "never",
    ) -> None:
        self.error = error
        self.repeat = repeat
        super().__init__(str(error))


class _Unreachable(_Failed):
    """The call never reached the vendor, whatever it asked."""


class _Breaker:
    """A circuit breaker that lets one call at a time through to find out whether it may close."""

    def __init__(self, *counted: type[_Failed], except_for: tuple[type[_Failed], ...] = ()) -> None:
        self._breaker = CircuitBreaker(
            failure_threshold=FAILURES_BEFORE_OPEN,
            recovery_timeout=OPEN_FOR,
            expected_exception=lambda kind, _: (
                issubclass(kind, counted) and not issubclass(kind, except_for)
            ),
        )
        self._is_probing = False

    @property
    def is_open(self) -> bool:
        return self._breaker.opened

    @contextmanager
    def admitted(self) -> Iterator[None]:
        """Run a call, and count whether it fails. Raises `Unavailable` while it is open."""
        is_probe = self._breaker.state == STATE_HALF_OPEN
        if self._breaker.opened or (is_probe and self._is_probing):
            metrics.UPSTREAM.labels("not_tried").inc()
            raise Unavailable("the vendor can't be reached", max(1, self._breaker.open_remaining))
        self._is_probing |= is_probe
        try:
            with self._breaker:
                yield
        finally:
            self._is_probing &= not is_probe


class Vendor:
    """The vendor's Certificate API."""

    def __init__(self, client: httpx.AsyncClient, budget: float) -> None:
        self._client = client
        self._budget = budget
        self._for_all = _Breaker(_Unreachable)
        self._for_one: LRUCache[UUID, _Breaker] = LRUCache(10_000)
        # Those that were open lately, because there are too many to look at each.
        self._opened: dict[UUID, _Breaker] = {}
        self._repeats = _MOST_REPEATS
        self._not_found: TTLCache[str, None] = TTLCache(100_000, NOT_FOUND_FOR)
        self._under_way = 0

    def tell(self) -> None:
        """Set the gauges of the circuit breakers."""
        self._opened = {whose: each for whose, each in self._opened.items() if each.is_open}
        metrics.BREAKERS_OPEN.labels("everyone").set(self._for_all.is_open)
        metrics.BREAKERS_OPEN.labels("account").set(len(self._opened))

    async def run(
        self, account_id: UUID, cert_id: str, body: bytes, *, retains: bool, spent: float = 0.0
    ) -> VendorResponse:
        """Run the operations in a body for an account. `spent` seconds of the budget are used.

        Raises `CertificateNotFound`, `InvalidCertificateId`, `SchemaViolation`,
        `ProductUnavailable`, `Refused`, `VendorFailed`, or `Unavailable`.
        """
        if cert_id in self._not_found and not retains:
            raise CertificateNotFound
        status, content = await self._call(
            account_id,
            "POST",
            f"/{quote(cert_id, safe='')}",
            body,
            retains=retains,
            budget=self._budget - spent,
        )
        if status in (404, 410):
            self._not_found[cert_id] = None
            raise CertificateNotFound
        if status != 200:
            raise _refusal(cert_id, status, _decoded(content, _Refusal, _Refusal()).reason)
        response = _decoded(content, VendorResponse, None)
        raw = _decoded(content, dict[str, Any], None)
        if response is None or raw is None:
            raise VendorFailed(NONSENSE)
        response.raw = raw
        if response.outcome == "error" and response.reason not in PUBLISHED_ERRORS:
            response.reason = _ERROR
        elif response.outcome == "success":
            response.reason = None
        return response

    async def validate(self, account_id: UUID, cert_id: str) -> ValidateResponse:
        """Ask whether an id belongs to a certificate. Raises `VendorFailed` or `Unavailable`."""
        status, content = await self._call(
            account_id,
            "GET",
            f"/{quote(cert_id, safe='')}/validate",
            b"",
            retains=False,
            budget=self._budget,
        )
        if status in (400, 404, 406, 410, 422):
            return ValidateResponse("failure", INVALID_ID)
        response = _decoded(content, ValidateResponse, None)
        if status != 200 or response is None:
            raise VendorFailed(NONSENSE)
        return response

    async def _call(
        self, account_id: UUID, method: str, path: str, body: bytes, *, retains: bool, budget: float
    ) -> tuple[int, bytes]:
        """Return the status and body of the vendor's answer if it is 200 or about the call."""
        if budget < _LEAST_BUDGET:
            raise VendorTimedOut(_TOO_SLOW)
        breaker = self._for_one.get(account_id)
        if breaker is None:
            breaker = _Breaker(_Failed, except_for=(_Unreachable,))
            self._for_one[account_id] = breaker
        with self._admitted():
            attempts = stamina.retry_context(
                on=partial(self._may_repeat, retains=retains),
                attempts=2,
                wait_initial=0.05,
                wait_max=0.2,
                wait_jitter=0.1,
            )
            try:
                with self._for_all.admitted(), breaker.admitted():
                    async with _within(budget):
                        async for attempt in attempts:
                            with attempt:
                                return await self._attempt(method, path, body)
            except _Failed as failed:
                if breaker.is_open:
                    self._opened[account_id] = breaker
                raise failed.error from failed.__cause__
        raise AssertionError("an attempt returns or raises")

    @contextmanager
    def _admitted(self) -> Iterator[None]:
        """Admit a call if a connection is free. Raises `Overloaded`."""
        if self._under_way >= MAX_CONNECTIONS:
            # No call waits for a connection. That none is free says nothing about the vendor.
            metrics.UPSTREAM.labels("not_tried").inc()
            raise Overloaded("too many calls are waiting for the vendor")
        self._under_way += 1
        self._repeats = min(_MOST_REPEATS, self._repeats + _REPEATS_PER_CALL)
        try:
            yield
        finally:
            self._under_way -= 1

    def _may_repeat(self, error: Exception, *, retains: bool) -> bool:
        """Whether to retry a call after this error. If so, use up one retry."""
        if not isinstance(error, _Failed) or self._repeats < 1:
            return False
        if error.repeat == "never" or (error.repeat == "unless it retains" and retains):
            return False
        self._repeats -= 1
        return True

    async def _attempt(self, method: str, path: str, body: bytes) -> tuple[int, bytes]:
        started = time.perf_counter()
        result = "failed"
        try:
            async with self._client.stream(method, path, content=body or None) as response:
                result = str(response.status_code)
                _check_status(response)
                return response.status_code, await _content(response)
        except httpx.ConnectError as error:
            result = "unreachable"
            raise _Unreachable(VendorFailed("the vendor can't be reached"), "always") from error
        except httpx.ConnectTimeout as error:
            result = "unreachable"
            raise _Unreachable(VendorTimedOut(_TOO_SLOW), "always") from error
        except httpx.TimeoutException as error:
            result = "timeout"
            raise _Failed(VendorTimedOut(_TOO_SLOW)) from error
        except httpx.HTTPError as error:
            raise _Failed(VendorFailed("the vendor dropped the connection")) from error
        except asyncio.CancelledError:
            result = "timeout"
            raise
        finally:
            metrics.UPSTREAM.labels(result).inc()
            metrics.UPSTREAM_DURATION.observe(time.perf_counter() - started)


@asynccontextmanager
async def open_vendor(settings: TrustedForm) -> AsyncIterator[Vendor]:
    """Open a client for the vendor in the settings. Nothing connects yet."""
    async with httpx.AsyncClient(
        base_url=settings.url,
        auth=httpx.BasicAuth("X", settings.api_key),
        headers={
            "Accept": "application/json",
            # Saving bytes is not worth a body that unpacks to a thousand times its length.
            "Accept-Encoding": "identity",
            "Api-Version": "4.0",
            "Content-Type": "application/json",
            "User-Agent": f"confirmed-owner/{__version__}",
        },
        timeout=httpx.Timeout(READ_DEADLINE, connect=CONNECT_DEADLINE),
        limits=httpx.Limits(
            max_connections=MAX_CONNECTIONS, max_keepalive_connections=MAX_CONNECTIONS
        ),
        follow_redirects=False,
        # Nothing the vendor says to one caller may go into another's call.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    ) as client:
        yield Vendor(client, settings.budget)


def _refusal(cert_id: str, status: int, told: str | None) -> ServiceError:
    """Return the error for a vendor's 4xx that is about the call, with its published reason."""
    published = told if told in PUBLISHED_ERRORS else None
    if told == MALFORMED_ID:
        return InvalidCertificateId(cert_id)
    if status in (400, 406):
        return SchemaViolation(published or SCHEMA, "the vendor refused this call")
    if status == 403:
        return ProductUnavailable(
            "it is not in this service's plan with the vendor", published or UNAVAILABLE
        )
    kind, reason = _REFUSED[status]
    return kind(published or reason)


@asynccontextmanager
async def _within(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise _Failed(VendorTimedOut(_TOO_SLOW)) from error


def _check_status(response: httpx.Response) -> None:
    """Raise what is not about the call but about the vendor, or our standing with it."""
    match response.status_code:
        case 200 | 400 | 402 | 403 | 404 | 405 | 406 | 410 | 422:
            return
        case 401:
            raise VendorFailed("the vendor refuses this service's key")
        case 429:
            raise Unavailable(_BUSY, _seconds(response.headers.get("retry-after")))
        case 503:
            # The vendor itself says that it did not accept the call.
            busy = Unavailable(_BUSY, _seconds(response.headers.get("retry-after")))
            raise _Failed(busy, "unless it retains")
        case 504:
            raise _Failed(VendorTimedOut(_TOO_SLOW))
        case status if status >= 500:
            raise _Failed(VendorFailed("the vendor failed"))
        case _:
            # It may be about this call alone, so it must not open the circuit breaker for others.
            raise VendorFailed(NONSENSE)


async def _content(response: httpx.Response) -> bytes:
    if response.headers.get("content-encoding", "identity") != "identity":
        raise _Failed(VendorFailed(NONSENSE))
    content = bytearray()
    async for chunk in response.aiter_raw():
        content += chunk
        if len(content) > MAX_RESPONSE:
            raise _Failed(VendorFailed(NONSENSE))
    declared = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    if response.status_code == 200 and declared != "application/json":
        raise _Failed(VendorFailed(NONSENSE))
    return bytes(content)


def _seconds(retry_after: str | None) -> int:
    """Return the seconds in a Retry-After header, at most a minute; 1 if it gives none."""
    if retry_after is None or not re.fullmatch(r"[0-9]{1,5}", retry_after):
        return 1
    return min(60, max(1, int(retry_after)))


def _decoded(content: bytes, shape: type[_Shape], otherwise: _Default) -> _Shape | _Default:
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return otherwise
