"""What to ask the vendor for a call, and whether its answer is usable.

We don't ask again for what is on record. What the vendor tells is recorded, for every caller,
before anyone sees it. We hold no database connection while we wait for the vendor.
"""

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Mapping, Set
from datetime import UTC, datetime
from typing import Any, TypeAlias, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
from cachetools import TTLCache

from service import allowance
from service.accounts.records import PURCHASES, Caller
from service.certificates.facts import Certificate, kinds_of
from service.certificates.hosts import TELLS_HOST, TELLS_HOST_OTHERWISE, lacking_for_host
from service.certificates.merging import record_told
from service.errors import (
    InvalidInput,
    ProductUnavailable,
    TooManyCalls,
    Unavailable,
    Unprocessable,
    VendorFailed,
)
from service.insights import queries
from service.insights.asked import Asked
from service.insights.contract import (
    OPERATIONS,
    InsightsParameters,
    OperationsRequest,
    ValidateResponse,
)
from service.insights.queries import Question
from service.insights.upstream import MAX_CONNECTIONS, NONSENSE, Vendor, VendorResponse
from service.postgres.pools import Database

JUST_BOUGHT_FOR = 2.0

# Per account, so that a busy one waits for itself and leaves connections to others.
MOST_PER_ACCOUNT = MAX_CONNECTIONS // 4

Unknown: TypeAlias = Mapping[str, Mapping[str, object]]
"""Keys of a request that we don't know, as in `Asked`."""

_Purchase: TypeAlias = tuple[VendorResponse, Certificate]
_Result = TypeVar("_Result")

# What operations need to run here. The last three always need the vendor.
_TO_RUN_HERE = frozenset({"fingerprints", "page_text", "retain", "unknown", "verify"})
_NO_PROPERTIES = _TO_RUN_HERE | {"host"}


class Bought(msgspec.Struct, frozen=True):
    """The vendor's response, and what follows from it.

    Whether the vendor ran the operations, whether it returned insights, which of the requested
    properties it left out, and what is now known about the certificate.
    """

    response: VendorResponse
    ran_operations: bool
    has_insights: bool
    left_out: frozenset[str]
    known: frozenset[str]


class Purchases:
    """Buys from the vendor, and the same thing only once for concurrent callers."""

    def __init__(self, vendor: Vendor, database: Database) -> None:
        self._vendor = vendor
        self._database = database
        self._under_way: dict[tuple[str, bytes], asyncio.Task[_Purchase]] = {}
        # A caller who found nothing on record just before it was recorded need not buy it again.
        self._just_bought: TTLCache[tuple[str, bytes], _Purchase] = TTLCache(
            10_000, JUST_BOUGHT_FOR
        )
        self._tasks: set[asyncio.Task[Any]] = set()
        self._recording: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._accounts: Counter[UUID] = Counter()

    async def buy(
        self,
        caller: Caller,
        question: Question,
        asked: Asked,
        lacking: Set[str],
        known: Set[str] | None,
    ) -> Bought:
        """Have the vendor run and tell what is missing, and record what it tells.

        `lacking` and `known` are as in `Answer.known`; `known` is None if nothing is on record. The
        purchase continues if its caller leaves, so that what we pay for is recorded.

        Raises what `Vendor.run` raises, `VendorFailed` if the answer is unusable, `Unprocessable`
        if the vendor returns nothing but an error, `TooManyCalls`, `LimitReached`, and `Unavailable`.
        """
        task = self._start(self._buy(caller, question, asked, lacking, known))
        return await asyncio.shield(task)

    async def validate(self, caller: Caller, cert_id: str) -> ValidateResponse:
        """Ask the vendor whether an id belongs to a certificate.

        Raises `LimitReached`, `VendorFailed`, or `Unavailable`.
        """
        await self._spend(caller)
        return await self._vendor.validate(caller.account_id, cert_id)

    async def drain(self) -> None:
        """Wait for purchases in progress; none takes much longer than the vendor's budget."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    def _start(self, work: Coroutine[Any, Any, _Result]) -> asyncio.Task[_Result]:
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._end)
        return task

    def _end(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        # Read, so that asyncio doesn't report the error as lost when every caller is gone.
        if not task.cancelled():
            task.exception()

    async def _buy(
        self,
        caller: Caller,
        question: Question,
        asked: Asked,
        lacking: Set[str],
        known: Set[str] | None,
    ) -> Bought:
        started = time.monotonic()
        request = request_for(question.cert_id, asked, lacking, known)
        unknown = asked.unknown if _runs_operations(lacking, known) else {}
        response, record = await self._shared(caller, question, request, unknown)
        check_complete(request, response)
        has_insights = request.insights is None or response.insights is not None
        if "host" in lacking and "host" not in record.known and has_insights:
            # The domain is a token or missing: rare, so we pay for more only when it happens.
            further = lacking_for_host(record.cert_id, record.kind, record.facts, record.known)
            if request.insights is None or further.isdisjoint(request.insights.properties):
                more = OperationsRequest(insights=InsightsParameters(sorted(further)))
                spent = time.monotonic() - started
                _, record = await self._shared(caller, question, more, {}, spent=spent)
            # Asking again won't make the vendor tell what it just left out.
            if "host" not in record.known:
                raise VendorFailed(NONSENSE)
        left_out = frozenset[str]()
        if request.insights is not None and response.insights is not None:
            left_out = frozenset(request.insights.properties).difference(
                response.insights.properties
            )
        return Bought(
            response,
            _runs_operations(lacking, known),
            has_insights,
            left_out,
            frozenset(record.known),
        )

    async def _shared(
        self,
        caller: Caller,
        question: Question,
        request: OperationsRequest,
        unknown: Unknown,
        *,
        spent: float = 0.0,
    ) -> _Purchase:
        """Ask the vendor and record what it tells; shared by callers unless it may do something."""
        if request.retain is not None or unknown.get(""):
            return await self._ask_and_record(caller, question, request, unknown, spent)
        same = (question.cert_id, body_of(request, unknown))
        if (just_bought := self._just_bought.get(same)) is not None:
            return just_bought
        task = self._under_way.get(same)
        if task is None:
            task = self._start(self._ask_and_record(caller, question, request, unknown, spent))
            self._under_way[same] = task
            task.add_done_callback(lambda _: self._under_way.pop(same))
        purchase = await task
        is_plain = not unknown and not asks_to_scan(request)
        if is_plain and request == OperationsRequest(insights=request.insights):
            self._just_bought[same] = purchase
        return purchase

    async def _ask_and_record(
        self,
        caller: Caller,
        question: Question,
        request: OperationsRequest,
        unknown: Unknown,
        spent: float,
    ) -> _Purchase:
        # Taken before the call, so that nothing counts as newer than it is.
        at = datetime.now(UTC)
        response = await self._ask(caller, question.cert_id, request, unknown, spent)
        if response.retain is not None and response.retain.results and request.retain is not None:
            # Recorded before anything else can fail: it is retained, and may be paid for.
            async with self._database.general.connection() as connection:
                await queries.insert_retained(connection, question)
        told: dict[str, object] = {}
        if request.insights is not None and response.insights is not None:
            given = response.insights.properties
            told = {name: given[name] for name in request.insights.properties if name in given}
        # One at a time: of several who record the same certificate at once, only one succeeds.
        recording = self._recording.setdefault(question.cert_id, asyncio.Lock())
        try:
            async with recording, self._database.general.connection() as connection:
                return response, await record_told(connection, question.cert_id, told, at)
        except InvalidInput:
            raise VendorFailed(NONSENSE) from None

    async def _ask(
        self,
        caller: Caller,
        cert_id: str,
        request: OperationsRequest,
        unknown: Unknown,
        spent: float,
    ) -> VendorResponse:
        """Run operations. If one of several is not in the plan, the others run without it."""
        started = time.monotonic() - spent
        try:
            return await self._run(caller, cert_id, request, unknown, spent)
        except ProductUnavailable as refused:
            together = VendorResponse("error", str(refused))
            # An operation that we don't know may do something, so it is not sent again.
            unknown = {where: keys for where, keys in unknown.items() if where}
            for part in _parts_of(request):
                try:
                    spent = time.monotonic() - started
                    told = await self._run(caller, cert_id, part, unknown, spent)
                except ProductUnavailable:
                    continue
                except (VendorFailed, Unavailable):
                    if together.retain is None:
                        raise
                    # It is retained, which has to be recorded.
                    break
                _add(together, told)
            if not any(getattr(together, name) for name in OPERATIONS):
                raise
            return together

    async def _run(
        self,
        caller: Caller,
        cert_id: str,
        request: OperationsRequest,
        unknown: Unknown,
        spent: float,
    ) -> VendorResponse:
        account_id = caller.account_id
        if self._accounts[account_id] >= MOST_PER_ACCOUNT:
            raise TooManyCalls("too many of your calls are waiting for the vendor")
        self._accounts[account_id] += 1
        try:
            await self._spend(caller)
            return await self._vendor.run(
                account_id,
                cert_id,
                body_of(request, unknown),
                retains=request.retain is not None or bool(unknown.get("")),
                spent=spent,
            )
        finally:
            self._accounts[account_id] -= 1
            if not self._accounts[account_id]:
                del self._accounts[account_id]

    async def _spend(self, caller: Caller) -> None:
        """Count a call to the vendor, which may cost money. Raises `LimitReached`."""
        async with self._database.general.connection() as connection:
            await allowance.take(
                connection, PURCHASES, str(caller.account_id), caller.limits.purchases
            )


def body_of(request: OperationsRequest, unknown: Unknown) -> bytes:
    """Return a request's body, with the keys we don't know in the objects it has."""
    body = msgspec.to_builtins(request)
    for where, keys in unknown.items():
        part = body
        for name in filter(None, where.split(".")):
            part = part.get(name, {})
        part.update(keys)
    return msgspec.json.encode(body)


def _parts_of(request: OperationsRequest) -> list[OperationsRequest]:
    """Return what to run in place of a request that asks for several operations, else nothing.

    Retaining needs the lead, and is tried before matching alone.
    """
    parts = [
        OperationsRequest(request.match_lead, request.retain),
        OperationsRequest(insights=request.insights),
        OperationsRequest(verify=request.verify),
    ]
    if request.retain is not None:
        parts.insert(1, OperationsRequest(request.match_lead))
    return [part for part in parts if part not in (OperationsRequest(), request)]


def _add(together: VendorResponse, told: VendorResponse) -> None:
    """Add the results of a part to those of the others; the first of each operation counts."""
    for name in OPERATIONS:
        if getattr(together, name) is None and getattr(told, name) is not None:
            setattr(together, name, getattr(told, name))
            together.raw[name] = told.raw[name]


def request_for(
    cert_id: str, asked: Asked, lacking: Set[str], known: Set[str] | None
) -> OperationsRequest:
    """Return the request to send to the vendor.

    It has the missing properties, and all operations of the call unless the record is enough to run
    them here.
    """
    properties = set(lacking - _NO_PROPERTIES)
    if "host" in lacking and "web" in kinds_of(cert_id):
        on_record = known or frozenset[str]()
        properties |= TELLS_HOST - on_record
        if "domain" in on_record:
            # The domain on record did not give the host.
            properties |= TELLS_HOST_OTHERWISE - on_record
    sent = asked.request
    request = OperationsRequest()
    scans = None
    if _runs_operations(lacking, known):
        request = OperationsRequest(sent.match_lead, sent.retain, None, sent.verify)
        scans = asked.scans
    if (
        properties
        or scans
        or (sent.insights is not None and known is None)
        or not {"insights", "insights.scans"}.isdisjoint(asked.unknown)
    ):
        request.insights = InsightsParameters(sorted(properties), scans)
    return request


def check_complete(request: OperationsRequest, response: VendorResponse) -> None:
    """Check that the vendor's answer contains what its outcome says.

    Raises `Unprocessable` for an error without any result, and `VendorFailed` if a result is
    missing or contradicts the outcome.
    """
    if response.outcome == "error":
        blocks = (
            (request.match_lead, response.match_lead),
            (request.retain, response.retain),
            (request.insights, response.insights),
            (request.verify, response.verify),
        )
        if all(asked is None or told is None for asked, told in blocks):
            raise Unprocessable(response.reason or NONSENSE)
        return
    if request.insights is not None and response.insights is None:
        raise VendorFailed(NONSENSE)
    if response.outcome == "success" and not _has_succeeded(request, response):
        raise VendorFailed(NONSENSE)


def asks_to_scan(request: OperationsRequest) -> bool:
    """Whether a request asks for scans."""
    return request.insights is not None and request.insights.scans is not None


def _runs_operations(lacking: Set[str], known: Set[str] | None) -> bool:
    return known is None or not _TO_RUN_HERE.isdisjoint(lacking)


def _has_succeeded(request: OperationsRequest, response: VendorResponse) -> bool:
    """Whether each operation has a result, and none reports a failure."""
    match, retain, verify = response.match_lead, response.retain, response.verify
    # A match or verification that was not performed is no failure: then its results are null.
    if request.match_lead is not None and not (
        match and match.result and match.result.success is not False
    ):
        return False
    if request.retain is not None and not (retain and retain.results):
        return False
    if asks_to_scan(request):
        scans = response.insights and response.insights.scans
        if not scans or scans.result is None or scans.result.get("success") is False:
            return False
    if request.verify is not None:
        result = (verify or {}).get("result") or {}
        return verify is not None and result.get("success") is not False
    return True
