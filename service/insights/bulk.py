"""Many certificates or sites in one call, of which each is answered as it would be alone.

All of them see one instant: now, or the past one that is asked for.
"""

import asyncio
from collections.abc import Collection, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal, TypeAlias
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType, field
from uuid_utils.compat import uuid7

from service.accounts.records import Caller
from service.certificates.certificates import refresh_hosts
from service.certificates.facts import Kind, cert_id_of_url, checked_cert_id
from service.certificates.hosts import host_of
from service.certificates.merging import host_columns
from service.errors import (
    CertificateNotFound,
    InvalidHostname,
    InvalidInput,
    MissingInput,
    ServiceError,
    UnknownInput,
    error_code,
)
from service.insights import queries
from service.insights.contract import OWNER_PROPERTIES, PROPERTIES, PropertyName
from service.insights.operations import PROBLEMS, Operations
from service.insights.queries import Answer, Question
from service.insights.results import properties_of
from service.ownership.hostname import SUFFIX_LIST_VERSION
from service.postgres.pools import Connection, Database

MAX_ITEMS = 1000
MAX_PURCHASES = 100
MAX_BULK_BODY = 1024 * 1024

# How many calls to the vendor one bulk call makes at the same time.
_BOUGHT_AT_ONCE = 8


class Item(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What to ask about: a certificate by id or URL, or a site by host or by a page on it."""

    cert_id: str | None = None
    cert_url: str | None = None
    host: str | None = None
    page_url: str | None = None


class Told(Struct, frozen=True):
    """The answer about one item: its properties, and whether the certificate's window is over."""

    answer_id: str
    properties: dict[str, object]
    is_expired: bool


class BulkRequest(Struct, forbid_unknown_fields=True):
    """What to ask about, the properties to tell, and optionally as of when.

    With `fetch`, the vendor is asked about at most `max_purchases` certificates that aren't on record.
    """

    items: Annotated[list[Item], Meta(min_length=1, max_length=MAX_ITEMS)]
    properties: Annotated[list[PropertyName], Meta(min_length=1)] = field(
        default_factory=lambda: ["confirmed_owner"]
    )
    as_of: Annotated[datetime, Meta(tz=True)] | None = None
    fetch: bool = False
    max_purchases: Annotated[int, Meta(ge=0, le=MAX_PURCHASES)] = 0


class ItemError(Struct):
    """Why there is no answer about an item. Branch on `code`."""

    code: str
    detail: str


class ItemInsights(Struct):
    """The properties you asked for, in the order asked."""

    properties: dict[str, Any]


class ItemResult(Struct, omit_defaults=True):
    """The item as you sent it, and the answer or the error. `expired` is set if it is so."""

    cert_id: str | UnsetType = UNSET
    cert_url: str | UnsetType = UNSET
    host: str | UnsetType = UNSET
    page_url: str | UnsetType = UNSET
    insights: ItemInsights | UnsetType = UNSET
    answer_id: str | UnsetType = UNSET
    expired: bool = False
    error: ItemError | UnsetType = UNSET


class BulkResponse(Struct):
    """A result for each item, in order. All of them are as of one instant."""

    as_of: datetime
    results: list[ItemResult]


Result: TypeAlias = Told | ServiceError
"""What came of one item."""

RowAnswer: TypeAlias = queries.BatchAnswer
"""What a row of a batch is told about the owner."""

RowQuestion: TypeAlias = tuple[str | None, tuple[str, Sequence[str]] | None]
"""A certificate's id, or a site's host with the names that cover it."""


async def answer_many(
    database: Database,
    caller: Caller,
    key_digest: bytes,
    items: Sequence[Item],
    properties: Sequence[str],
    *,
    as_of: datetime | None = None,
) -> tuple[datetime, list[Result]]:
    """Answer about each item, in order, and put the answers on record. Return the instant, too.

    Raises `UnknownInput` for an unknown property, `InvalidInput` for an instant that is not on record,
    or `Unavailable`.
    """
    for name in properties:
        if name not in PROPERTIES:
            raise UnknownInput(name, "property", sorted(PROPERTIES))
    wanted = tuple(dict.fromkeys(properties))
    results: list[Result | None] = []
    questions: list[Question] = []
    for item in items:
        try:
            questions.append(_question_of(item, key_digest, wanted))
            results.append(None)
        except ServiceError as error:
            results.append(error)
    async with database.general.connection() as connection:
        if as_of is not None:
            await check_instant(connection, as_of)
        answers = await queries.insert_many_answers(
            connection, questions, SUFFIX_LIST_VERSION, as_of
        )
    told = iter([_result_of(wanted, answer) for answer in answers])
    instant = as_of or (answers[0].answered_at if answers else datetime.now(UTC))
    return instant, [next(told) if result is None else result for result in results]


async def answer_rows(
    connection: Connection,
    account_id: UUID,
    api_key_id: UUID,
    answer_ids: Sequence[UUID],
    questions: Sequence[RowQuestion],
    as_of: datetime,
) -> list[RowAnswer | ServiceError]:
    """Answer the rows of a batch as of an instant, in order, and put the answers on record."""
    answers: dict[int, RowAnswer] = {}
    open_ones = list(range(len(questions)))
    # Again for certificates whose host was found under another suffix list.
    for _ in range(2):
        found = await queries.insert_batch_answers(
            connection,
            account_id,
            api_key_id,
            [answer_ids[position] for position in open_ones],
            [questions[position][0] for position in open_ones],
            [questions[position][1] for position in open_ones],
            SUFFIX_LIST_VERSION,
            as_of,
        )
        answers.update(zip(open_ones, found, strict=True))
        open_ones = [at for at in open_ones if answers[at].verdict == "outdated"]
        if not open_ones:
            break
        outdated = [questions[position][0] for position in open_ones]
        await refresh_hosts(connection, [cert_id for cert_id in outdated if cert_id is not None])
    return [
        answer if answer.verdict == "answered" else PROBLEMS[answer.verdict]()
        for _, answer in sorted(answers.items())
    ]


async def buy_missing(
    operations: Operations,
    caller: Caller,
    key_digest: bytes,
    items: Sequence[Item],
    properties: Sequence[str],
    results: Sequence[Result],
    most: int,
) -> list[Result]:
    """Ask the vendor about the first `most` certificates that nothing is on record about.

    Certificates given twice are bought once. Return the results with those.
    """
    missing: dict[str, Kind | None] = {}
    for item, result in zip(items, results, strict=True):
        if isinstance(result, CertificateNotFound):
            missing.setdefault(*_certificate_of(item))
    body = msgspec.json.encode({"insights": {"properties": properties}})
    at_once = asyncio.Semaphore(_BOUGHT_AT_ONCE)

    async def buy(cert_id: str, kind: Kind | None) -> Result:
        try:
            async with at_once:
                asked = operations.asked_of(cert_id, body)
                told, answer = await operations.run(caller, key_digest, cert_id, asked, kind)
        except ServiceError as error:
            return error
        found = msgspec.json.decode(told)["insights"]["properties"]
        return Told(str(answer.answer_id), found, bool(answer.is_past))

    wanted = list(missing.items())[:most]
    told = await asyncio.gather(*(buy(*each) for each in wanted))
    bought = {cert_id: result for (cert_id, _), result in zip(wanted, told, strict=True)}
    return [
        bought.get(_certificate_of(item)[0], result)
        if isinstance(result, CertificateNotFound)
        else result
        for item, result in zip(items, results, strict=True)
    ]


def item_view(asked: Item, result: Result) -> ItemResult:
    """Return what came of an item as the API shows it."""
    item = ItemResult(
        **{
            name: value
            for name, value in msgspec.structs.asdict(asked).items()
            if value is not None
        }
    )
    match result:
        case Told(answer_id, properties, is_expired):
            item.insights, item.answer_id = ItemInsights(properties), answer_id
            item.expired = is_expired
        case error:
            item.error = ItemError(error_code(error), str(error))
    return item


def _question_of(item: Item, key_digest: bytes, properties: Collection[str]) -> Question:
    """Return the question an item asks. Raises `InvalidInput`."""
    given = [name for name in Item.__struct_fields__ if getattr(item, name) is not None]
    if len(given) != 1:
        expected = "needs one of cert_id, cert_url, host, and page_url"
        raise MissingInput("item", expected if not given else f"{expected}, not {len(given)}")
    cert_id = ""
    site: tuple[str, Sequence[str]] | None = None
    if item.cert_id is not None or item.cert_url is not None:
        cert_id, _ = _certificate_of(item)
    else:
        site = (
            site_of("host", item.host)
            if item.host is not None
            else site_of("page_url", item.page_url or "")
        )
    return Question(
        answer_id=uuid7(),
        key_digest=key_digest,
        cert_id=cert_id,
        owner_asked=not OWNER_PROPERTIES.isdisjoint(properties),
        facts_asked=not OWNER_PROPERTIES.issuperset(properties),
        at_any_age=True,
        site=site,
    )


def _certificate_of(item: Item) -> tuple[str, Kind | None]:
    if item.cert_url is not None:
        return cert_id_of_url(item.cert_url)
    return checked_cert_id(item.cert_id or ""), None


def site_of(name: Literal["host", "page_url"], given: str) -> tuple[str, Sequence[str]]:
    """Return the host that a host or the URL of a page names, with the names that cover it.

    Raises `InvalidInput`, which names `name`.
    """
    # As if a certificate told it, which knows what people write into such fields.
    facts: dict[str, object] = {"is_masked": False, "is_framed": False}
    facts["domain" if name == "host" else "page_url"] = given
    try:
        host = host_of("web", facts)
    except (InvalidInput, InvalidHostname):
        host = None
    if host is None:
        expected = "a host name such as www.example.com" if name == "host" else "a URL with a host"
        raise InvalidInput(name, given, expected)
    _, names, _ = host_columns(host)
    return host, names or []


def _result_of(properties: tuple[str, ...], answer: Answer) -> Result:
    if answer.verdict != "answered":
        return PROBLEMS[answer.verdict]()
    told = properties_of(properties, answer)
    return Told(str(answer.answer_id), told, bool(answer.is_past))


async def check_instant(connection: Connection, as_of: datetime) -> None:
    """Raise `InvalidInput` unless the record tells what was so at that instant."""
    now = datetime.now(UTC)
    start = await queries.select_record_start(connection)
    if as_of > now:
        raise InvalidInput("as_of", as_of.isoformat(), "in the past")
    if start is None or as_of < start:
        since = (
            "later: nothing is on record yet" if start is None else f"{start.isoformat()} or later"
        )
        raise InvalidInput("as_of", as_of.isoformat(), since)
