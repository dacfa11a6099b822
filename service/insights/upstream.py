"""The vendor behind us: its Certificate API, called with this service's own key.

Where we connect is decided by the settings alone; of a certificate nothing but its id goes into the
URL. Every wait has a deadline, and the whole call a budget. A call is tried again only where that is
safe: when it never reached the vendor, or when the vendor said that it is overloaded and the call
retains nothing; and no more than a tenth of all calls are. After several failures in a row callers are
told at once, until a single call, let through from time to time, succeeds.

What can be said to callers is fixed here. Neither the key nor anything the vendor or a caller sent gets
into an error.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import msgspec
import stamina
from cachetools import TTLCache
from circuitbreaker import STATE_HALF_OPEN, CircuitBreaker

from service import __version__, metrics
from service.errors import (
    CertificateNotFound,
    InvalidCertificateId,
    NotClaimable,
    PaymentRequired,
    Refused,
    Unavailable,
    Unprocessable,
    VendorFailed,
    VendorTimedOut,
)
from service.insights.contract import MatchLeadOutcome, Outcome, ValidateResponse
from service.settings import TrustedForm

CONNECT_DEADLINE = 2.0
READ_DEADLINE = 5.0
MAX_CONNECTIONS = 128

MAX_RESPONSE = 1024 * 1024

# A certificate may be asked about the moment it is made, before all of the vendor's servers know it.
NOT_FOUND_FOR = 15.0

FAILURES_BEFORE_OPEN = 5
OPEN_FOR = 5

# Retries may add so many calls to a hundred, and after a quiet time this many at once.
_RETRIES_PER_CALL = 0.1
_MOST_RETRIES = 10.0

NONSENSE = "the vendor's service gave an answer that makes no sense"
_TOO_SLOW = "the vendor's service took too long"
_BUSY = "the vendor's service is busy"

_Result = TypeVar("_Result")
_Struct = TypeVar("_Struct", bound=msgspec.Struct)
_Default = TypeVar("_Default")

# What is said with a status where the vendor gives no published reason.
_REFUSED: dict[int, tuple[type[Refused], str]] = {
    402: (PaymentRequired, "Account is inactive"),
    405: (NotClaimable, "Certificate is not claimable"),
    422: (Unprocessable, "The operations can't be run on this certificate"),
}
_ERROR = "An unexpected error occurred in one or more of the operations"
_PUBLISHED = frozenset(
    {
        "Account is inactive",
        "Certificate has been claimed too many times",
        "Certificate has expired or could not be found.",
        "Certificate is not claimable",
        "Invalid delimiter contains whitespace characters",
        "Invalid delimiter length",
        "Invalid property key(s) requested",
        "Match Lead fields not included in request.",
        "No valid products detected",
        "Sandbox certs cannot be retained",
        "The cert could not be retained",
        "The cert has been claimed too many times",
        "The cert has expired",
        "The request cannot be processed because it does not meet the expected schema.",
        "Unavailable product requested",
        "Unavailable product requested Insights",
        "Unavailable product requested: Retain",
        "Unavailable product requested: Verify",
        "match_lead email must be a list of 3 or less email addresses",
        "match_lead must contain either phone or email keys",
        "match_lead phone must be a list of 3 or less phone numbers",
        "match_lead requires a web certificate",
    }
)


class VendorMatch(msgspec.Struct):
    """The vendor's `match_lead` block, without what it echoes."""

    result: MatchLeadOutcome | None = None


class VendorRetention(msgspec.Struct):
    """What the vendor says of a certificate that it has retained."""

    expires_at: str | None = None
    masked_cert_url: str | None = None
    share_url: str | None = None


class VendorRetain(msgspec.Struct):
    """The vendor's `retain` block, without what it echoes."""

    results: VendorRetention | None = None


class VendorScans(msgspec.Struct):
    """The vendor's `scans` block, without what it echoes."""

    result: dict[str, Any] | None = None


class VendorInsights(msgspec.Struct):
    """The vendor's `insights` block."""

    properties: dict[str, Any] = {}
    scans: VendorScans | None = None


class VendorResponse(msgspec.Struct):
    """What the vendor's Certificate API answers."""

    outcome: Outcome
    reason: str | None = None
    match_lead: VendorMatch | None = None
    retain: VendorRetain | None = None
    insights: VendorInsights | None = None
    verify: dict[str, Any] | None = None


class _Refusal(msgspec.Struct):
    reason: str | None = None


class _Failed(Exception):
    """A call failed on the vendor's side: what its caller is told, and whether it may be repeated."""

    def __init__(
        self,
        error: VendorFailed | Unavailable,
        *,
        has_arrived: bool = True,
        was_taken: bool = True,
    ) -> None:
        self.error = error
        self.has_arrived = has_arrived
        self.was_taken = was_taken
        super().__init__(str(error))


class Vendor:
    """The vendor's Certificate API."""

    def __init__(self, client: httpx.AsyncClient, budget: float) -> None:
        self._client = client
        self._budget = budget
        self._breaker = CircuitBreaker(
            failure_threshold=FAILURES_BEFORE_OPEN,
            recovery_timeout=OPEN_FOR,
            expected_exception=_Failed,
        )
        self._is_probing = False
        self._retries = _MOST_RETRIES
        self._not_found: TTLCache[str, None] = TTLCache(100_000, NOT_FOUND_FOR)
        self._shared: dict[tuple[str, bytes], asyncio.Task[VendorResponse]] = {}
        self._calls: set[asyncio.Task[Any]] = set()

    async def run(self, cert_id: str, body: bytes, *, retains: bool) -> VendorResponse:
        """Run the operations of a body on a certificate.

        Callers who ask the same of a certificate at the same time share one call, unless it retains.

        Raises `CertificateNotFound`, `InvalidCertificateId`, `Refused`, `VendorFailed` or
        `Unavailable`.
        """
        if cert_id in self._not_found and not retains:
            raise CertificateNotFound
        if retains:
            return await asyncio.shield(self._start(self._run(cert_id, body, retains=True)))
        call = self._shared.get((cert_id, body))
        if call is None:
            call = self._start(self._run(cert_id, body, retains=False))
            self._shared[cert_id, body] = call
            call.add_done_callback(lambda _: self._shared.pop((cert_id, body)))
        return await asyncio.shield(call)

    async def validate(self, cert_id: str) -> ValidateResponse:
        """Whether that is the id of a certificate. Raises `VendorFailed` or `Unavailable`."""
        return await asyncio.shield(self._start(self._validate(cert_id)))

    async def drain(self) -> None:
        """Wait for the calls under way; none takes longer than its budget."""
        while self._calls:
            await asyncio.wait(self._calls)

    def _start(self, call: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        """Start a call that goes on when its caller does not: what was bought is to be had."""
        task = asyncio.create_task(call)
        self._calls.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._calls.discard(task)
        # Read, so that an error is not reported as lost when every caller has gone.
        if not task.cancelled():
            task.exception()

    async def _run(self, cert_id: str, body: bytes, *, retains: bool) -> VendorResponse:
        status, content = await self._call(
            "POST", f"/{quote(cert_id, safe='')}", body, may_repeat=not retains
        )
        if status == 404:
            self._not_found[cert_id] = None
            raise CertificateNotFound
        if status == 400:
            raise InvalidCertificateId(cert_id)
        if status in _REFUSED:
            kind, reason = _REFUSED[status]
            told = _decoded(content, _Refusal, _Refusal()).reason
            raise kind(told if told in _PUBLISHED else reason)
        response = _decoded(content, VendorResponse, None)
        if status != 200 or response is None:
            raise VendorFailed(NONSENSE)
        if response.outcome == "error" and response.reason not in _PUBLISHED:
            response.reason = _ERROR
        elif response.outcome == "success":
            response.reason = None
        return response

    async def _validate(self, cert_id: str) -> ValidateResponse:
        _, content = await self._call(
            "GET", f"/{quote(cert_id, safe='')}/validate", b"", may_repeat=True
        )
        response = _decoded(content, ValidateResponse, None)
        if response is None:
            raise VendorFailed(NONSENSE)
        return response

    async def _call(
        self, method: str, path: str, body: bytes, *, may_repeat: bool
    ) -> tuple[int, bytes]:
        """The status and body of what the vendor answers, if that is 200 or about the call."""
        if len(self._calls) > MAX_CONNECTIONS:
            # Nobody waits for a connection, and that there is none says nothing of the vendor.
            metrics.UPSTREAM.labels("not_tried").inc()
            raise Unavailable("too many calls are waiting for the vendor's service")
        if self._breaker.opened or (self._breaker.state == STATE_HALF_OPEN and self._is_probing):
            metrics.UPSTREAM.labels("not_tried").inc()
            raise Unavailable(
                "the vendor's service is out of reach", max(1, self._breaker.open_remaining)
            )
        is_probe = self._breaker.state == STATE_HALF_OPEN
        self._is_probing |= is_probe
        self._retries = min(_MOST_RETRIES, self._retries + _RETRIES_PER_CALL)

        def is_repeated(error: Exception) -> bool:
            if not isinstance(error, _Failed):
                return False
            is_safe = not error.has_arrived or (may_repeat and not error.was_taken)
            if not is_safe or self._retries < 1:
                return False
            self._retries -= 1
            return True

        try:
            with self._breaker:
                async with _budget(self._budget):
                    async for attempt in stamina.retry_context(
                        on=is_repeated, attempts=2, wait_initial=0.05, wait_max=0.2, wait_jitter=0.1
                    ):
                        with attempt:
                            return await self._attempt(method, path, body)
        except _Failed as failed:
            raise failed.error from failed.__cause__
        finally:
            self._is_probing &= not is_probe
        raise AssertionError("an attempt returns or raises")

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
            raise _Failed(
                VendorFailed("the vendor's service can't be reached"), has_arrived=False
            ) from error
        except httpx.ConnectTimeout as error:
            result = "unreachable"
            raise _Failed(VendorTimedOut(_TOO_SLOW), has_arrived=False) from error
        except httpx.TimeoutException as error:
            result = "timeout"
            raise _Failed(VendorTimedOut(_TOO_SLOW)) from error
        except httpx.HTTPError as error:
            raise _Failed(VendorFailed("the vendor's service broke the connection off")) from error
        except asyncio.CancelledError:
            result = "timeout"
            raise
        finally:
            metrics.UPSTREAM.labels(result).inc()
            metrics.UPSTREAM_DURATION.observe(time.perf_counter() - started)


@asynccontextmanager
async def open_vendor(settings: TrustedForm) -> AsyncIterator[Vendor]:
    """The vendor, as the settings say. Nothing is connected yet; at the end calls are waited for."""
    async with httpx.AsyncClient(
        base_url=settings.url,
        auth=httpx.BasicAuth("X", settings.api_key),
        headers={
            "Accept": "application/json",
            # A body that unpacks to a thousand times its length is not worth the bytes saved.
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
        # Nothing the vendor says to one caller is to go with the call of another.
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),
    ) as client:
        vendor = Vendor(client, settings.budget)
        yield vendor
        await vendor.drain()


@asynccontextmanager
async def _budget(seconds: float) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(seconds):
            yield
    except TimeoutError as error:
        raise _Failed(VendorTimedOut(_TOO_SLOW)) from error


def _check_status(response: httpx.Response) -> None:
    """Raise what is not about the call but about the vendor, or about our standing with it."""
    match response.status_code:
        case 200 | 400 | 402 | 404 | 405 | 422:
            return
        case 401 | 403:
            raise VendorFailed("the vendor refuses this service's own key or plan")
        case 429:
            raise Unavailable(_BUSY, _seconds(response.headers.get("retry-after")))
        case 502:
            raise _Failed(VendorFailed(_BUSY), was_taken=False)
        case 503:
            raise _Failed(
                Unavailable(_BUSY, _seconds(response.headers.get("retry-after"))), was_taken=False
            )
        case 504:
            raise _Failed(VendorTimedOut(_TOO_SLOW), was_taken=False)
        case status if status >= 500:
            raise _Failed(VendorFailed("the vendor's service failed"))
        case _:
            raise _Failed(VendorFailed(NONSENSE))


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
    """What a Retry-After header says, where it says it in seconds; no longer than a minute."""
    return min(60, max(1, int(retry_after))) if retry_after and retry_after.isdecimal() else 1


def _decoded(content: bytes, shape: type[_Struct], otherwise: _Default) -> _Struct | _Default:
    try:
        return msgspec.json.decode(content, type=shape)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return otherwise
