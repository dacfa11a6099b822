"""The operations of one call: whom to ask, and in which order.

An error means that a request can't be carried out, and refuses the whole call. Then nothing is
done, unless the vendor was asked to run it and failed halfway.
"""

import asyncio
from collections.abc import Callable
from functools import partial
from sys import getsizeof
from uuid import UUID
from weakref import WeakValueDictionary

import msgspec
from cachetools import LRUCache, TTLCache
from uuid_utils.compat import uuid7

from service.accounts.records import Caller
from service.certificates.certificates import page_text_of, validity_of
from service.certificates.facts import (
    MOVING,
    Kind,
    PageText,
    checked_cert_id,
    kinds_of,
)
from service.errors import (
    CertificateNotFound,
    InactiveAccount,
    InvalidCertificateId,
    Overloaded,
    ServiceError,
    Unauthorized,
    Unavailable,
    Unprocessable,
)
from service.insights import contract
from service.insights.asked import Asked, asked_of, needed_for, not_a_web_certificate
from service.insights.contract import (
    ScanParameters,
    ScansOutcome,
    ValidateResponse,
    values_of,
)
from service.insights.page_scan import ScanText, most_terms, scan_page
from service.insights.purchases import Bought, Purchases
from service.insights.queries import Answer, Question
from service.insights.results import bought_body, recorded_body
from service.insights.upstream import Vendor
from service.postgres.batching import NaturalBatcher
from service.postgres.pools import Database

# Texts longer than this many characters are prepared and scanned in threads, this many at a time and
# one of each account, and so are shorter ones if more is to be compared than that: characters times
# terms. A call that takes longer than this many seconds to get there fails.
_LONG_TEXT = 4_000
_LONG_SCAN = 40_000  # Less than a scan compares before it pauses, which would stop the event loop.
_THREADS = 2
_LONG_TEXT_DEADLINE = 4.0

# The cache of prepared texts: about how many bytes it holds, and for how many seconds. Its key is
# the revision, so that a cached text is always the one on record.
_TEXTS_KEPT = 64_000_000
_TEXTS_KEPT_FOR = 600.0

# How many bodies we keep as they were understood, and the longest of them in bytes.
_BODIES = 256
_LONGEST_BODY = 4096

# Why a question has no answer, by its verdict.
PROBLEMS: dict[str, Callable[[], ServiceError]] = {
    "unauthorized": Unauthorized,
    "inactive": InactiveAccount,
    "not_found": CertificateNotFound,
    "expired": CertificateNotFound,
    # We asked again, and the vendor gave no later end.
    "overdue": CertificateNotFound,
    "not_web": not_a_web_certificate,
    "outdated": partial(Unavailable, "the certificate's domain can't be read now"),
    "oversized": partial(
        Unprocessable,
        contract.CANT_RUN,
        "more is on record about this certificate than may be; import it again with fewer "
        "fingerprints, or smaller facts",
    ),
}


class Operations:
    """Runs operations for callers, with the vendor if one is configured."""

    def __init__(
        self,
        resolver: NaturalBatcher[Question, Answer],
        database: Database,
        vendor: Vendor | None,
        *,
        retains_locally: bool = False,
    ) -> None:
        self._resolver = resolver
        self._database = database
        self._vendor = vendor
        self._retains_locally = retains_locally
        self._purchases = Purchases(vendor, database) if vendor is not None else None
        self._bodies: LRUCache[bytes, Asked] = LRUCache(_BODIES)
        self._threads = asyncio.Semaphore(_THREADS)
        self._scanning: WeakValueDictionary[UUID, asyncio.Lock] = WeakValueDictionary()
        self._texts: TTLCache[int, ScanText] = TTLCache(
            _TEXTS_KEPT, _TEXTS_KEPT_FOR, getsizeof=lambda text: getsizeof(text.folded) + 500
        )

    def asked_of(self, cert_id: str, body: bytes) -> Asked:
        """Return what a request body asks for; see `asked.asked_of`.

        A body that only asks for properties asks the same about every certificate, and most callers
        always send the same one.
        """
        asked = self._bodies.get(body)
        if asked is None:
            asked = asked_of(
                cert_id,
                body,
                has_vendor=self._vendor is not None,
                retains_locally=self._retains_locally,
            )
            if asked.asks_for_properties_only and len(body) <= _LONGEST_BODY:
                self._bodies[body] = asked
        return asked

    async def run(
        self,
        caller: Caller,
        key_digest: bytes,
        cert_id: str,
        asked: Asked,
        told: Kind | None = None,
    ) -> tuple[bytes, Answer]:
        """Return the body of a 200, and the recorded answer behind it.

        The key decides who asks; the caller is whose it was a moment ago, and what that may use.

        `told` is the kind that the certificate's URL tells. One whose id suggests another kind, as
        that of a ping URL does, is answered from the record alone: the vendor would be asked for
        the wrong properties.

        Raises `Unauthorized`, `InactiveAccount`, `CertificateNotFound`, `Unprocessable`,
        `Unavailable`, or, with a vendor, what `Purchases.buy` raises.
        """
        question = question_of(key_digest, cert_id, asked)
        if self._purchases is None or told not in (None, *kinds_of(cert_id)):
            answer, bought = await self._resolver.ask(question, caller.account_id), None
        else:
            answer, bought = await self._with_vendor(self._purchases, caller, question, asked)
        if answer.verdict != "answered":
            raise PROBLEMS[answer.verdict]()
        if bought is not None and bought.ran_operations:
            return bought_body(asked, answer, bought), answer
        scanned = None
        if asked.scans is not None:
            scanned = await self._scanned(caller, cert_id, asked.scans, answer)
        return recorded_body(asked, answer, scanned, bought), answer

    async def validate(self, caller: Caller, given_id: str, told: Kind | None) -> ValidateResponse:
        """Check that an id belongs to a certificate, of which kind, and that it is not too old.

        If the certificate is not on record and there is no vendor to ask, `told` decides, which is
        the kind that its URL tells, or else the form of the id.

        Raises `LimitReached`, `Unavailable`, or `VendorFailed`.
        """
        try:
            cert_id = checked_cert_id(given_id)
        except InvalidCertificateId:
            return ValidateResponse("failure", contract.INVALID_ID)
        async with self._database.general.connection() as connection:
            held = await validity_of(connection, cert_id, caller.account_id)
        if held is None and self._purchases is not None:
            return await self._purchases.validate(caller, cert_id)
        kind, is_old = held or (told or kinds_of(cert_id)[0], False)
        if is_old:
            return ValidateResponse("failure", contract.TOO_OLD)
        return ValidateResponse("success", contract.VALID_ID[kind])

    async def drain(self) -> None:
        """Wait for everything in progress at the vendor, and for every answer."""
        if self._purchases is not None:
            await self._purchases.drain()
        await self._resolver.drain()

    async def _with_vendor(
        self, purchases: Purchases, caller: Caller, question: Question, asked: Asked
    ) -> tuple[Answer, Bought | None]:
        """Return the answer, after asking the vendor for what the record lacks."""
        needed = needed_for(question.cert_id, asked)
        asking = msgspec.structs.replace(question, needed=needed)
        answer = await self._resolver.ask(asking, caller.account_id)
        known = None if answer.known is None else frozenset(answer.known)
        if known is not None and answer.has_lapsed:
            known -= MOVING
        match answer.verdict:
            case "not_found":
                lacking = needed
            case "incomplete":
                lacking = needed - (known or frozenset())
            case "overdue":
                lacking = needed - (known or frozenset()) | {"expires_at"}
            case _:
                return answer, None
        bought = await purchases.buy(caller, question, asked, lacking, known)
        # Don't insist on what the vendor left out. What moves was true when the vendor told it.
        question = msgspec.structs.replace(
            question, needed=needed & bought.known - MOVING, vendor_answers=True
        )
        if bought.ran_operations:
            retain = bought.response.retain
            question = msgspec.structs.replace(
                question,
                email_fingerprints=None,
                phone_fingerprints=None,
                retain=question.retain if retain is not None and retain.results else None,
            )
        if not bought.has_insights:
            question = msgspec.structs.replace(question, owner_asked=False, facts_asked=False)
        answer = await self._resolver.ask(question, caller.account_id)
        if answer.verdict in ("not_found", "incomplete"):
            raise Unavailable("the certificate's record changed during the call")
        return answer, bought

    async def _scanned(
        self, caller: Caller, cert_id: str, scans: ScanParameters, answer: Answer
    ) -> ScansOutcome:
        assert answer.revision is not None
        ready = self._texts.get(answer.revision)
        length: int | None
        if ready is None:
            found = await self._page_text(cert_id, answer, longest=_LONG_TEXT)
            length = found.length
            if found.text is not None:
                ready = self._texts[found.revision] = ScanText.of(found.text)
        else:
            length = len(ready.folded)
        terms = len({*values_of(scans.required), *values_of(scans.forbidden)})
        if length is None or (length <= _LONG_TEXT and length * terms <= _LONG_SCAN):
            return scan_page(ready, scans)
        _check_terms(terms, length)
        # Not in the event loop, where each search would hold up every other call.
        own = self._scanning.setdefault(caller.account_id, asyncio.Lock())
        try:
            async with asyncio.timeout(_LONG_TEXT_DEADLINE), own, self._threads:
                ready = self._texts.get(answer.revision)
                if ready is None:
                    found = await self._page_text(cert_id, answer, longest=None)
                    if found.text is None:
                        return scan_page(None, scans)
                    ready = await asyncio.to_thread(ScanText.of, found.text)
                    self._texts[found.revision] = ready
                return await asyncio.to_thread(scan_page, ready, scans)
        except TimeoutError:
            raise Overloaded("too many long pages are being scanned") from None

    async def _page_text(self, cert_id: str, answer: Answer, longest: int | None) -> PageText:
        async with self._database.general.connection() as connection:
            return await page_text_of(connection, cert_id, answer.imported_by, longest)


def _check_terms(terms: int, length: int) -> None:
    if terms > most_terms(length):
        raise Unprocessable(
            contract.SCANS_UNSUCCESSFUL,
            f"the page’s text has {length} characters, so you can look for at most "
            f"{most_terms(length)} different terms",
        )


def question_of(key_digest: bytes, cert_id: str, asked: Asked) -> Question:
    """Return the question a call asks, with a new answer id."""
    return Question(
        answer_id=uuid7(),
        key_digest=key_digest,
        cert_id=cert_id,
        owner_asked=asked.asks_for_owner,
        facts_asked=asked.asks_for_facts,
        email_fingerprints=asked.email_fingerprints,
        phone_fingerprints=asked.phone_fingerprints,
        retain=asked.labels,
    )
