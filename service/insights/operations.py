"""The operations of one call: who is asked, and in which order.

An error, which is a request that can't be carried out, refuses the whole call, and nothing is done.
What is on record is not asked for elsewhere, and no connection to the database is held while the vendor
is waited for.
"""

import asyncio
from collections.abc import Callable, Sequence, Set
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar

import msgspec
from cachetools import TTLCache
from uuid_utils.compat import uuid7

from service.accounts.keys import authenticate, digest_of
from service.database import Database
from service.errors import (
    CertificateNotFound,
    InactiveAccount,
    InvalidCertificateId,
    InvalidInput,
    ServiceError,
    Unauthorized,
    Unavailable,
    VendorFailed,
)
from service.insights import contract, queries
from service.insights.asked import Asked, asked_of, needed_for, not_a_web_certificate, values_of
from service.insights.batching import NaturalBatcher
from service.insights.certificates import lacking_for_host, record_told
from service.insights.contract import (
    OWNER_PROPERTIES,
    PROPERTIES,
    Found,
    InsightsParameters,
    OperationsRequest,
    ScanParameters,
    ScansOutcome,
    ValidateResponse,
    checked_cert_id,
    kinds_of,
)
from service.insights.page_scan import ScanText, scan
from service.insights.queries import Answer, Certificate, Question
from service.insights.results import NOT_FACTS, response_body, run_by_vendor, run_here
from service.insights.upstream import NONSENSE, Vendor, VendorResponse

# What an operation needs to be run here; the last two never are.
_TO_RUN_HERE = frozenset({"fingerprints", "page_text", "retain", "verify"})

# What tells the host: the first two nearly always, and where they don't the others do.
_TELLS_HOST = frozenset({"domain", "page_url"})
_TELLS_HOST_THEN = frozenset({"is_framed", "is_masked", "parent_page_url"})

# Texts longer than this are made ready and searched where they hold nobody up.
_LONG_TEXT = 50_000

# Texts made ready for scanning, by revision, so none is ever another than the one on record; in
# characters, and in seconds.
_TEXTS_KEPT = 32_000_000
_TEXTS_KEPT_FOR = 600.0

_Result = TypeVar("_Result")

_PROBLEMS: dict[str, Callable[[], ServiceError]] = {
    "unauthorized": Unauthorized,
    "inactive": InactiveAccount,
    "not_found": CertificateNotFound,
    "expired": CertificateNotFound,
    "not_web": not_a_web_certificate,
    "outdated": partial(Unavailable, "the certificate's domain could not be read now"),
}


class Operations:
    """Runs operations for callers, with the vendor behind us if there is one."""

    def __init__(
        self,
        resolver: NaturalBatcher[Question, Answer],
        database: Database,
        vendor: Vendor | None,
    ) -> None:
        self._resolver = resolver
        self._database = database
        self._vendor = vendor
        self._texts: TTLCache[int, ScanText] = TTLCache(
            _TEXTS_KEPT, _TEXTS_KEPT_FOR, getsizeof=lambda text: len(text.folded)
        )

    def asked_of(self, cert_id: str, body: bytes) -> Asked:
        """What a request body asks for.

        Raises `MalformedBody`, `SchemaViolation`, `Unprocessable` or `ProductUnavailable`.
        """
        return asked_of(cert_id, body, has_vendor=self._vendor is not None)

    async def run(self, key: str, cert_id: str, asked: Asked) -> tuple[bytes, Answer]:
        """The body of a 200, and the answer on record that it tells.

        Raises `Unauthorized`, `InactiveAccount`, `CertificateNotFound`, `Unprocessable`,
        `Unavailable`, or with a vendor behind us what `Vendor.run` does.
        """
        question = question_of(key, cert_id, asked)
        if self._vendor is None:
            answer, bought = await self._resolver.ask(question), None
        else:
            answer, bought = await self._with_vendor(self._vendor, question, asked)
        if answer.verdict != "answered":
            raise _PROBLEMS[answer.verdict]()
        if bought is not None and bought.ran_operations:
            blocks = run_by_vendor(asked, answer, bought.response)
        else:
            scanned = await self._scanned(cert_id, asked.scans, answer) if asked.scans else None
            blocks = run_here(asked, answer, scanned)
            if bought is not None and bought.response.outcome == "error":
                blocks.outcome, blocks.reason = "error", bought.response.reason
        has_insights = bought is None or bought.has_insights
        return response_body(asked.properties if has_insights else None, answer, blocks), answer

    async def validate(self, key: str, cert_id: str) -> ValidateResponse:
        """Whether that is the id of a certificate, of which kind, and not too old.

        Raises `Unauthorized`, `InactiveAccount`, `Unavailable`, or `VendorFailed`. Where the
        certificate is not on record and there is no vendor to ask, its form decides.
        """
        async with self._database.general.connection() as connection:
            caller = await authenticate(connection, key)
            try:
                checked_cert_id(cert_id)
            except InvalidCertificateId:
                return ValidateResponse("failure", contract.INVALID_ID)
            held = await queries.select_validity(connection, cert_id, caller.account_id)
        if held is None and self._vendor is not None:
            return await self._vendor.validate(cert_id)
        kind, is_old = held or (kinds_of(cert_id)[0], False)
        if is_old:
            return ValidateResponse("failure", contract.TOO_OLD)
        return ValidateResponse("success", contract.VALID_ID[kind])

    async def _with_vendor(
        self, vendor: Vendor, question: Question, asked: Asked
    ) -> tuple[Answer, "_Bought | None"]:
        """The answer, once what it needs beyond what is on record was asked of the vendor."""
        needed = needed_for(question.cert_id, asked)
        answer = await self._resolver.ask(
            msgspec.structs.replace(question, needed=",".join(sorted(needed)))
        )
        match answer.verdict:
            case "not_found":
                lacking, known = needed, None
            case "incomplete":
                lacking, known = needed.difference(answer.known or ()), answer.known
            case "overdue":
                lacking = needed.difference(answer.known or ()) | {"expires_at"}
                known = answer.known
            case _:
                return answer, None
        bought = await self._buy(vendor, question.cert_id, asked, lacking, known)
        if bought.ran_operations:
            retain = bought.response.retain
            question = msgspec.structs.replace(
                question,
                emails=None,
                phones=None,
                retain=question.retain if retain is not None and retain.results else None,
            )
        if not bought.has_insights:
            question = msgspec.structs.replace(question, owner_asked=False, facts_asked=False)
        return await self._resolver.ask(question), bought

    async def _buy(
        self,
        vendor: Vendor,
        cert_id: str,
        asked: Asked,
        lacking: Set[str],
        known: Sequence[str] | None,
    ) -> "_Bought":
        """Have the vendor do and tell what is lacking, and record what it tells.

        `known` is None where nothing is on record. The operations are the vendor's to run unless all
        they need is on record.
        """
        runs_operations = known is None or not _TO_RUN_HERE.isdisjoint(lacking)
        properties = set(lacking & PROPERTIES)
        if "host" in lacking and "web" in kinds_of(cert_id):
            # A domain that is known and does not tell the host is a token, or there is none.
            is_odd = known is not None and "domain" in known
            properties |= _TELLS_HOST | (_TELLS_HOST_THEN if is_odd else set())
            properties -= set(known or ())
        ours = asked.request
        request = OperationsRequest()
        if runs_operations:
            request = OperationsRequest(ours.match_lead, ours.retain, None, ours.verify)
        scans = asked.scans if runs_operations else None
        if ours.insights is not None and (properties or scans or known is None):
            request.insights = InsightsParameters(sorted(properties), scans)
        response, record = await self._bought(vendor, cert_id, request)
        if response.outcome == "success" and not _has_succeeded(request, response):
            raise VendorFailed(NONSENSE)
        has_insights = request.insights is None or response.insights is not None
        if not has_insights and response.outcome != "error":
            raise VendorFailed(NONSENSE)
        if has_insights and "host" in lacking and "host" not in record.known:
            # Rare, so not paid for before it is the case.
            further = lacking_for_host(record.kind, record.facts, record.known)
            if further.isdisjoint(properties):
                request = OperationsRequest(insights=InsightsParameters(sorted(further)))
                _, record = await self._bought(vendor, cert_id, request)
            if "host" not in record.known:
                raise VendorFailed(NONSENSE)
        return _Bought(response, runs_operations, has_insights)

    async def _bought(
        self, vendor: Vendor, cert_id: str, request: OperationsRequest
    ) -> tuple[VendorResponse, Certificate]:
        at = datetime.now(UTC)
        response = await vendor.run(
            cert_id, msgspec.json.encode(request), retains=request.retain is not None
        )
        told = {}
        if request.insights is not None and response.insights is not None:
            given = response.insights.properties
            told = {name: given[name] for name in request.insights.properties if name in given}
        try:
            async with self._database.general.transaction() as connection:
                return response, await record_told(connection, cert_id, told, at)
        except InvalidInput:
            raise VendorFailed(NONSENSE) from None

    async def _scanned(self, cert_id: str, scans: ScanParameters, answer: Answer) -> ScansOutcome:
        required, forbidden = values_of(scans.required), values_of(scans.forbidden)
        assert answer.revision is not None
        text = self._texts.get(answer.revision)
        if text is None:
            async with self._database.general.connection() as connection:
                recorded = await queries.select_page_text(connection, cert_id, answer.revision)
            if recorded is None:
                return ScansOutcome(None, Found([], []), Found([], []))
            text = await _unhurried(len(recorded), ScanText.of, recorded)
            self._texts[answer.revision] = text
        found, excluded = await _unhurried(
            len(text.folded),
            lambda: [scan(text, terms, scans.delimiter or None) for terms in (required, forbidden)],
        )
        has_terms = any(
            list_ for each in (found, excluded) for list_ in (each.found, each.not_found)
        )
        return ScansOutcome(
            not found.not_found and not excluded.found if has_terms else None, found, excluded
        )


class _Bought(msgspec.Struct, frozen=True):
    """What the vendor answered: whether it ran the operations, and whether it has told of insights."""

    response: VendorResponse
    ran_operations: bool
    has_insights: bool


def _has_succeeded(request: OperationsRequest, response: VendorResponse) -> bool:
    """Whether each operation has a result, and none that says otherwise."""
    match, retain, verify = response.match_lead, response.retain, response.verify
    if request.match_lead is not None and not (match and match.result and match.result.success):
        return False
    if request.retain is not None and not (retain and retain.results):
        return False
    if request.insights is not None and request.insights.scans is not None:
        scans = response.insights and response.insights.scans
        if not scans or scans.result is None or scans.result.get("success") is False:
            return False
    if request.verify is not None:
        result = verify.get("result") if verify else None
        return isinstance(result, dict) and result.get("success") is not False
    return True


def question_of(key: str, cert_id: str, asked: Asked) -> Question:
    properties = asked.properties or ()
    return Question(
        answer_id=uuid7(),
        key_digest=digest_of(key),
        cert_id=cert_id,
        owner_asked=not OWNER_PROPERTIES.isdisjoint(properties),
        facts_asked=not NOT_FACTS.issuperset(properties),
        emails=asked.emails,
        phones=asked.phones,
        retain=asked.retention,
    )


async def _unhurried(length: int, work: Callable[..., _Result], *arguments: object) -> _Result:
    """Do work on a text, in a thread where the text is so long that it would hold others up."""
    if length < _LONG_TEXT:
        return work(*arguments)
    return await asyncio.to_thread(work, *arguments)
