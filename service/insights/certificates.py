"""Certificates: importing what is known about them, one JSON object a line.

A line carries what a stored v4 response holds, so a team can import the responses it already keeps.
Facts imported by the operator are the service's own and serve every caller; facts that an account
imports with its API key serve that account's calls alone, so that nobody can put words about a
certificate into another's answers.

Importing again adds what was unknown, replaces what is given anew and never empties anything. While
a certificate is young its window is still extended and its consumer still active, so of two such
times the later one counts.
"""

import asyncio
import codecs
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from typing import BinaryIO, TypeVar
from uuid import UUID

import msgspec
from msgspec import UNSET, Struct, UnsetType

from service import audit
from service.accounts.queries import Caller, select_accounts_called
from service.database import Connection, Database
from service.errors import InvalidHostname, InvalidInput, IPAddressHost, SingleLabelHost
from service.insights import queries
from service.insights.contract import (
    PROPERTIES_OF,
    Count,
    Facts,
    Kind,
    cert_id_of_url,
    checked_cert_id,
    kinds_of,
)
from service.insights.lead_match import sha1_of_text
from service.insights.queries import Certificate
from service.ownership.hostname import (
    SUFFIX_LIST_VERSION,
    canonical_host,
    covering_names,
    has_known_suffix,
    host_in_url,
)

MAX_LINE = 4 * 1024 * 1024
LINES_AT_ONCE = 2000

# What may still move while a certificate is young, how long that is, and how long it is true then.
MOVING = frozenset({"age_seconds", "expires_at", "seconds_on_page"})
SETTLED_AFTER = timedelta(days=1)
TRUSTED_FOR = timedelta(minutes=15)

_PURGED_AT_ONCE = 1000

_NOT_FACTS = frozenset({"age_seconds", "created_at", "expires_at", "seconds_on_page"})
_IN_WORDS = {
    "str": "a string",
    "object": "an object",
    "array": "an array",
    "bool": "true or false",
    "float": "a number",
}
_EXPECTED = re.compile(r"Expected (.*), got .*")
_PATH_PART = re.compile(r"\.?([^.\[\]]+)|\[(\d+)\]")
_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


class _Insights(Struct):
    properties: Facts | None = None


class _Line(Struct):
    cert_id: str | None = None
    cert_url: str | None = None
    kind: Kind | None = None
    account: str | None = None
    page_text: str | None = None
    fingerprints: list[str] | None = None
    insights: _Insights | None = None


class Incoming(Struct, frozen=True, kw_only=True):
    """What a line or the vendor tells of a certificate.

    `known` names the properties it tells, `facts` holds those with a value and without a column of
    their own. `fetched_at` is when the vendor told it, None for a line.
    """

    cert_id: str
    known: frozenset[str]
    facts: dict[str, object]
    created_at: datetime | None
    expires_at: datetime | None
    seconds_on_page: float | None
    last_event_at: datetime | None = None
    fetched_at: datetime | None = None
    kind: Kind | None = None
    account: str | None = None
    page_text: str | None = None
    fingerprints: list[str] | None = None


class _Told(Facts):
    """The properties as the vendor tells them, which may think of another way to fill in a form."""

    age_seconds: Count | None | UnsetType = UNSET
    form_input_method: list[str] | None | UnsetType = UNSET  # type: ignore[assignment]


class LineError(Struct):
    """Why a line was not imported: the field, its value cut short, and what would be right."""

    field: str
    value: str
    reason: str


class LineResult(Struct, omit_defaults=True):
    """What became of a line, counted from 1: created, updated or unchanged; or the error."""

    line: int
    cert_id: str | UnsetType = UNSET
    result: str | UnsetType = UNSET
    error: LineError | UnsetType = UNSET


_Ordered = TypeVar("_Ordered", datetime, float)
_Known = TypeVar("_Known")

_decode_line = msgspec.json.Decoder(_Line).decode


def numbered_lines(stream: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """The lines that are not blank, with their numbers; of an overlong one only its beginning.

    A byte order mark, which some systems put before the first, is passed over.
    """
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(codecs.BOM_UTF8)
        end = line
        while len(end) > MAX_LINE and not end.endswith(b"\n"):
            end = stream.readline(MAX_LINE + 1)
        if line.strip():
            yield number, line


async def import_lines(
    connection: Connection, lines: Sequence[tuple[int, bytes]], caller: Caller | None = None
) -> list[LineResult]:
    """Import lines for a caller, or for everyone if there is none. Needs a transaction.

    A bad line is told of in its result and stops no other.
    """
    results: list[LineResult] = []
    understood: list[tuple[LineResult, Incoming]] = []
    for number, text in lines:
        result = LineResult(number)
        results.append(result)
        with _reporting(result):
            understood.append((result, parse_line(text)))
        if number % 50 == 0:
            # Other calls of this process have their turn.
            await asyncio.sleep(0)
    imported_by = caller.account_id if caller else None
    accounts = await _accounts(connection, (incoming for _, incoming in understood), caller)
    await queries.lock_imports(connection, imported_by)
    recorded = await queries.select_certificates(
        connection, [incoming.cert_id for _, incoming in understood], imported_by
    )
    changed: dict[str, Certificate] = {}
    for result, incoming in understood:
        with _reporting(result):
            old = recorded.get(incoming.cert_id)
            account_id = _account_id(incoming.account, accounts, caller)
            new = merged(old, incoming, imported_by, account_id)
            result.cert_id = incoming.cert_id
            result.result = "created" if old is None else "updated" if new != old else "unchanged"
            if new != old:
                recorded[incoming.cert_id] = changed[incoming.cert_id] = new
    if changed:
        await queries.upsert_certificates(connection, changed.values())
    return results


def parse_line(text: bytes) -> Incoming:
    """Understand one line. Raises `InvalidInput`."""
    if len(text) > MAX_LINE:
        raise InvalidInput("line", f"more than {MAX_LINE} bytes", f"at most {MAX_LINE} bytes")
    try:
        given = _decode_line(text)
    except msgspec.ValidationError as error:
        raise _invalid_field(text, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        raise InvalidInput("line", text.strip().decode(errors="replace"), "a JSON object") from None
    if given.cert_id is None and given.cert_url is None:
        raise InvalidInput("cert_id", "", "given, or cert_url in its place")
    cert_id = checked_cert_id(given.cert_id) if given.cert_id is not None else None
    if given.cert_url is not None:
        of_url = cert_id_of_url(given.cert_url)
        if cert_id not in (None, of_url):
            raise InvalidInput("cert_url", given.cert_url, "of the certificate that cert_id names")
        cert_id = of_url
    assert cert_id is not None
    if given.kind is not None and given.kind not in kinds_of(cert_id):
        raise InvalidInput("kind", given.kind, " or ".join(kinds_of(cert_id)) + " for such an id")
    properties = (given.insights and given.insights.properties) or Facts()
    for name in ("created_at", "expires_at"):
        _check_time(f"insights.properties.{name}", getattr(properties, name))
    incoming = Incoming(
        cert_id=cert_id,
        known=frozenset(msgspec.to_builtins(properties)),
        facts=_facts(properties),
        created_at=_value(properties.created_at),
        expires_at=_value(properties.expires_at),
        seconds_on_page=_value(properties.seconds_on_page),
        kind=given.kind,
        account=given.account,
        page_text=given.page_text,
        fingerprints=None
        if given.fingerprints is None
        else [_fingerprint(value, i) for i, value in enumerate(given.fingerprints)],
    )
    _check_no_nul(incoming)
    return incoming


def merged(
    old: Certificate | None, new: Incoming, imported_by: UUID | None, account_id: UUID | None
) -> Certificate:
    """What is recorded of a certificate once a line is added to what was recorded before.

    Raises `InvalidInput` for a domain that is none.
    """
    facts = {**(old.facts if old else {}), **new.facts}
    kind = new.kind or (old and _known_kind(old)) or _likeliest_kind(new.cert_id, facts)
    created_at = new.created_at or (old.created_at if old else None)
    seconds_on_page = _later(old.seconds_on_page if old else None, new.seconds_on_page)
    last_event_at = _later(old.last_event_at if old else None, new.last_event_at)
    page_text = new.page_text or (old.page_text if old else None)
    fingerprints = new.fingerprints or (old.fingerprints if old else new.fingerprints)
    known, fetched_at = _known_with(old, new)
    if created_at is not None and seconds_on_page is not None and "seconds_on_page" in known:
        known.add("age_seconds")
    if fingerprints is not None:
        known.add("fingerprints")
    if page_text is not None:
        known.add("page_text")
    if not lacking_for_host(kind, facts, known):
        known.add("host")
    host, covering, suffix_list = _host_columns(
        host_of(kind, facts) if new.fetched_at is None or "host" in known else None
    )
    return Certificate(
        cert_id=new.cert_id,
        imported_by=imported_by,
        kind=kind,
        account_id=account_id or (old.account_id if old else None),
        host=host,
        covering_names=covering,
        suffix_list=suffix_list,
        created_at=created_at,
        expires_at=_later(old.expires_at if old else None, new.expires_at),
        seconds_on_page=seconds_on_page,
        last_event_at=last_event_at,
        fetched_at=fetched_at,
        facts=facts,
        known=sorted(known),
        page_text=page_text,
        fingerprints=fingerprints,
    )


def _known_with(old: Certificate | None, new: Incoming) -> tuple[set[str], datetime | None]:
    """What is known once `new` is added, and when the vendor last told what of it may still move.

    While a certificate is young, what moves is true for a while after the vendor told it. Told anew,
    it makes all that was not told with it unknown, for that may be as old as ever.
    """
    if old is None:
        return set(new.known), new.fetched_at
    known = {*old.known, *new.known} - {"host"}
    if new.fetched_at is None or MOVING.isdisjoint(new.known):
        return known, old.fetched_at
    if old.fetched_at is not None and (
        new.fetched_at < old.fetched_at + TRUSTED_FOR
        or (old.created_at is not None and old.fetched_at >= old.created_at + SETTLED_AFTER)
    ):
        return known, old.fetched_at
    return known - (MOVING - new.known), new.fetched_at


def lacking_for_host(
    kind: str, facts: Mapping[str, object], known: Collection[str]
) -> frozenset[str]:
    """The properties still to be asked for until the host is known by which an owner is looked for.

    Asked for in this order, few are: a domain that can be read settles it. One that can't may be the
    token of a masked certificate, and where there is none the page decides, or the page that framed it.
    """
    if kind != "web":
        return frozenset()
    if "domain" not in known:
        return frozenset({"domain", "page_url"}.difference(known))
    domain = str(facts.get("domain") or "").strip()
    if domain and _is_readable(domain):
        return frozenset()
    if domain or facts.get("is_masked") is True:
        return frozenset({"is_masked"}.difference(known))
    needed = {"is_masked", "is_framed", "page_url"}
    if facts.get("is_framed") is not False:
        needed.add("parent_page_url")
    return frozenset(needed.difference(known))


def _is_readable(domain: str) -> bool:
    try:
        return has_known_suffix(canonical_host(domain))
    except InvalidHostname:
        return False


def host_of(kind: str, facts: Mapping[str, object]) -> str | None:
    """The host by which a certificate's owner is looked for, or None if it has no domain.

    The `domain` fact; else the host of the page the consumer saw, which is the framing page if there
    is one. Only web certificates have a domain. A masked one has a token in its place, which ends in
    no known suffix, and its pages are hidden. An IP address or a single label stays as it is: nobody
    can own it.

    Raises `InvalidInput` for a domain that is none.
    """
    if kind != "web":
        return None
    masked = facts.get("is_masked") is True
    told_by = "domain"
    host = str(facts.get("domain") or "").strip()
    if not host and not masked:
        told_by = "parent_page_url" if facts.get("is_framed") else "page_url"
        host = host_in_url(str(facts.get(told_by) or "")) or ""
    if not host:
        return None
    try:
        canonical = canonical_host(host)
    except (IPAddressHost, SingleLabelHost):
        return None if masked else host.lower()
    except InvalidHostname:
        if masked:
            return None
        expected = "a host name" if told_by == "domain" else "a URL with a host name"
        raise InvalidInput(f"insights.properties.{told_by}", host, expected) from None
    return None if masked and not has_known_suffix(canonical) else canonical


async def record_told(
    connection: Connection,
    cert_id: str,
    told: Mapping[str, object],
    at: datetime,
) -> Certificate:
    """Record properties that the vendor told at that time, for every caller. Needs a transaction.

    Raises `InvalidInput` for what can't be so.
    """
    await queries.lock_certificate(connection, cert_id)
    recorded = await queries.select_certificates(connection, [cert_id], None)
    old = recorded.get(cert_id)
    new = merged(old, told_by_vendor(cert_id, told, at), None, None)
    if new != old:
        await queries.upsert_certificates(connection, [new])
    return new


def told_by_vendor(cert_id: str, told: Mapping[str, object], at: datetime) -> Incoming:
    """Understand what the vendor told. Raises `InvalidInput`."""
    try:
        typed = msgspec.convert(told, _Told, strict=False)
    except msgspec.ValidationError as error:
        raise InvalidInput("insights.properties", str(error), "as the vendor publishes") from None
    for name in ("created_at", "expires_at"):
        _check_time(f"insights.properties.{name}", getattr(typed, name))
    age = _value(typed.age_seconds)
    incoming = Incoming(
        cert_id=cert_id,
        known=frozenset(told),
        facts=_facts(typed),
        created_at=_value(typed.created_at),
        expires_at=_value(typed.expires_at),
        seconds_on_page=_value(typed.seconds_on_page),
        last_event_at=None if age is None else at - timedelta(seconds=age),
        fetched_at=at,
    )
    _check_no_nul(incoming)
    return incoming


async def purge(database: Database, older_than: timedelta) -> int:
    """Delete all that was first recorded about certificates longer ago than that, and say how many.

    Ownerships, grants, answers and what accounts retain stay. Where it stops it goes on the next time.
    """
    total = 0
    while True:
        async with database.general.transaction() as connection:
            deleted = await queries.delete_certificates(connection, older_than, _PURGED_AT_ONCE)
            if deleted:
                await audit.record(connection, "facts.purged", certificates=deleted)
        total += deleted
        if deleted < _PURGED_AT_ONCE:
            return total


async def refresh_hosts(connection: Connection, cert_ids: Sequence[str]) -> None:
    """Find the hosts of certificates anew, whose were found under another suffix list."""
    outdated = await queries.select_hosts(connection, cert_ids, SUFFIX_LIST_VERSION)
    for cert_id, imported_by, kind, facts in outdated:
        # One whose domain can't be read any more stays as it is, and is told of to nobody.
        with suppress(InvalidInput):
            host = host_of(kind, facts)
            await queries.update_host(connection, cert_id, imported_by, *_host_columns(host))


def _host_columns(host: str | None) -> tuple[str | None, list[str] | None, str | None]:
    if host is None:
        return None, None, None
    return host, list(covering_names(host)), SUFFIX_LIST_VERSION


def _known_kind(old: Certificate) -> Kind | None:
    """The kind that was given, or None where it is no other than was guessed from the facts."""
    return None if old.kind == _likeliest_kind(old.cert_id, old.facts) else old.kind


def _likeliest_kind(cert_id: str, facts: Mapping[str, object]) -> Kind:
    possible = kinds_of(cert_id)
    return (
        "web"
        if "web" in possible and not PROPERTIES_OF["mobile"].issuperset(facts)
        else possible[0]
    )


def _facts(properties: Facts) -> dict[str, object]:
    """The properties with a value and without a column of their own."""
    return {
        # Whole numbers stay whole, as the vendor writes them.
        name: int(value) if isinstance(value, float) and value.is_integer() else value
        for name, value in msgspec.to_builtins(properties).items()
        if name not in _NOT_FACTS and value is not None
    }


def _check_time(field: str, time: datetime | None | UnsetType) -> None:
    if isinstance(time, datetime) and not 2000 <= time.year < 3000:
        raise InvalidInput(field, time.isoformat(), "between the years 2000 and 2999")


def _check_no_nul(incoming: Incoming) -> None:
    # PostgreSQL keeps none, neither in text nor in jsonb.
    encoded = msgspec.json.encode(incoming)
    # Looking for the escape alone is far quicker, and it is hardly ever there.
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise InvalidInput("line", "\0", "free of NUL characters")


def _value(given: _Known | None | UnsetType) -> _Known | None:
    return None if isinstance(given, UnsetType) else given


def _later(old: _Ordered | None, new: _Ordered | None) -> _Ordered | None:
    return max((value for value in (old, new) if value is not None), default=None)


def _fingerprint(value: str, index: int) -> str:
    digest = sha1_of_text(value)
    if digest is None:
        raise InvalidInput(f"fingerprints[{index}]", value, "a SHA-1 in hex or base64")
    return digest


def _invalid_field(text: bytes, message: str) -> InvalidInput:
    """What msgspec says of a line, with the value it says it of, where that can be found again."""
    what, _, path = message.partition(" - at `$")
    path = path.rstrip("`")
    expected = _EXPECTED.fullmatch(what)
    try:
        value = msgspec.json.decode(text)
        for name, index in _PATH_PART.findall(path):
            value = value[name] if name else value[int(index)]
        shown = value if isinstance(value, str) else msgspec.json.encode(value).decode()
    except (ValueError, LookupError, TypeError, RecursionError):
        # The line goes wrong again further on, or says the same thing twice.
        shown = text.strip().decode(errors="replace")
    types = expected[1].strip("`").split(" | ") if expected else [f"valid ({what})"]
    return InvalidInput(
        path.removeprefix(".") or "line",
        shown,
        " or ".join(_IN_WORDS.get(each, each) for each in types),
    )


async def _accounts(
    connection: Connection, lines: Iterable[Incoming], caller: Caller | None
) -> dict[str, UUID]:
    """The accounts that lines may name, by id and by name. A caller may name its own alone."""
    if caller is not None:
        return {str(caller.account_id): caller.account_id, caller.name: caller.account_id}
    called = {incoming.account for incoming in lines if incoming.account is not None}
    found = await select_accounts_called(connection, sorted(called)) if called else []
    names = {account.name: account.id for account in found}
    return names | {str(account.id): account.id for account in found}


def _account_id(
    called: str | None, accounts: Mapping[str, UUID], caller: Caller | None
) -> UUID | None:
    if called is None:
        return None
    if called not in accounts:
        expected = (
            "the id or name of your own account" if caller else "the id or name of an account"
        )
        raise InvalidInput("account", called, expected)
    return accounts[called]


@contextmanager
def _reporting(result: LineResult) -> Iterator[None]:
    try:
        yield
    except InvalidInput as error:
        result.error = LineError(error.field, error.value, f"must be {error.expected}")
