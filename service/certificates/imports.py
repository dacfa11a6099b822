"""Import what is known about certificates, one JSON object per line.

A line carries what a stored v4 response holds, so a team can import the responses it already keeps.
Facts the operator imports are the service's own and serve every caller. Facts an account imports
with its API key serve only that account's calls, so nobody can put words about a certificate into
another account's answers.
"""

import asyncio
import codecs
import time
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import IO, Annotated, Any, TypeVar, get_args
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service.accounts.accounts import accounts_called
from service.accounts.records import Caller, Limits
from service.certificates import queries
from service.certificates.facts import (
    MAX_FINGERPRINTS,
    MAX_PAGE_TEXT,
    Certificate,
    Facts,
    HostText,
    Kind,
    Time,
    UrlText,
    Usage,
    Word,
    can_be,
    cert_id_of_url,
    checked_cert_id,
)
from service.certificates.fingerprints import (
    email_fingerprints,
    fingerprint_in,
    phone_fingerprints,
)
from service.certificates.merging import Incoming, incoming, merged
from service.errors import InvalidInput, MalformedBody, MissingInput
from service.postgres.pools import Connection
from service.web.json_input import invalid_value

MAX_LINE = 4 * 1024 * 1024
# Lines that are imported together, in one transaction: so many, or so many bytes.
_LINES_AT_ONCE = 500
_BYTES_AT_ONCE = 256 * 1024
# How long lines are worked on before other calls take their turn, in seconds.
_MOMENT = 0.002

_Each = TypeVar("_Each")


class _Insights(Struct):
    properties: Facts | None = None


class _MatchResult(Struct):
    email_match: bool | None = None
    phone_match: bool | None = None


class _MatchLead(Struct):
    email: str | list[str] | None = None
    phone: str | list[str] | None = None
    result: _MatchResult | None = None


class _OldCertificate(
    Struct,
    rename={
        "page_url": "location",
        "parent_page_url": "parent_location",
        "is_framed": "framed",
        "is_masked": "masked",
    },
):
    """The properties in a v2 or v3 response that mean the same as in v4."""

    cert_id: str | None = None
    created_at: Time | None | UnsetType = UNSET
    domain: HostText | None | UnsetType = UNSET
    expires_at: Time | None | UnsetType = UNSET
    ip: Word | None | UnsetType = UNSET
    is_framed: bool | None | UnsetType = UNSET
    is_masked: bool | None | UnsetType = UNSET
    page_url: UrlText | None | UnsetType = UNSET
    parent_page_url: UrlText | None | UnsetType = UNSET


class _Response(Struct):
    """A stored response of the Certificate API: of v4, or of v2 or v3 if it has a `cert`."""

    outcome: str | None = None
    insights: _Insights | None = None
    match_lead: _MatchLead | None = None
    cert: _OldCertificate | None = None


class _Line(_Response):
    cert_id: str | None = None
    cert_url: str | None = None
    kind: Kind | None = None
    account: str | None = None
    page_text: Annotated[str, Meta(max_length=MAX_PAGE_TEXT)] | None = None
    fingerprints: Annotated[list[str], Meta(max_length=MAX_FINGERPRINTS)] | None = None
    response: _Response | None = None


class LineError(Struct):
    """Why a line was not imported: the field, its value (shortened), and what it must be."""

    field: str
    value: str
    reason: str


class LineResult(Struct, omit_defaults=True):
    """The result of a line, counted from 1: created, updated, unchanged, or an error."""

    line: int
    cert_id: str | UnsetType = UNSET
    result: str | UnsetType = UNSET
    error: LineError | UnsetType = UNSET


_decode_line = msgspec.json.Decoder(_Line).decode


def numbered_lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield the nonblank lines with their numbers. An overlong line is cut off.

    Skips byte order marks, which some systems put before the first line of each file.
    """
    number = 0
    while line := stream.readline(MAX_LINE + 1):
        number += 1
        line = line.removeprefix(codecs.BOM_UTF8)
        end = line
        while len(end) > MAX_LINE and not end.endswith(b"\n"):
            end = stream.readline(MAX_LINE + 1)
        if line.strip():
            yield number, line


def in_groups(lines: Iterable[tuple[int, bytes]]) -> Iterator[list[tuple[int, bytes]]]:
    """Yield lines in groups to import, each small enough for a short transaction."""
    group: list[tuple[int, bytes]] = []
    size = 0
    for number, text in lines:
        if group and (len(group) == _LINES_AT_ONCE or size + len(text) > _BYTES_AT_ONCE):
            yield group
            group, size = [], 0
        group.append((number, text))
        size += len(text)
    if group:
        yield group


async def import_lines(
    connection: Connection, lines: Sequence[tuple[int, bytes]], caller: Caller | None = None
) -> list[LineResult]:
    """Import lines for a caller, or for everyone if `caller` is None. Needs a transaction.

    A bad line is reported in its result and doesn't stop the others. Neither does one that the
    caller has no room for; whether there is room in bytes is decided once for all these lines.
    """
    results: list[LineResult] = []
    understood: list[tuple[LineResult, Incoming]] = []
    async for number, text in _in_turn(lines):
        result = LineResult(number)
        results.append(result)
        with _reporting(result):
            understood.append((result, parse_line(text)))
    imported_by = caller.account_id if caller else None
    accounts = await _accounts(connection, (line for _, line in understood), caller)
    await queries.lock_imports(connection, imported_by)
    room = None
    if caller is not None:
        used = await queries.select_usage(connection, caller.account_id)
        room = _Room(caller.limits, used)
    while understood:
        recorded = await queries.select_certificates(
            connection, [line.cert_id for _, line in understood], imported_by
        )
        changed: dict[str, Certificate] = {}
        async for result, line in _in_turn(understood):
            result.result = UNSET
            with _reporting(result):
                old = recorded.get(line.cert_id)
                account_id = _account_id(line.account, accounts, caller)
                new = merged(old, line, imported_by, account_id)
                if new != old:
                    if room is not None:
                        room.take(is_new=old is None)
                    recorded[line.cert_id] = changed[line.cert_id] = new
                result.cert_id = line.cert_id
                result.result = (
                    "created" if old is None else "updated" if new != old else "unchanged"
                )
        written = await queries.upsert_certificates(connection, changed.values())
        # Add to what the vendor told in the meantime, rather than overwrite it.
        overtaken = changed.keys() - written
        understood = [(result, line) for result, line in understood if line.cert_id in overtaken]
    return results


async def _in_turn(lines: Iterable[_Each]) -> AsyncIterator[_Each]:
    """Yield lines, and let other calls in this process take their turn after a moment's work."""
    began = time.perf_counter()
    for line in lines:
        yield line
        if time.perf_counter() - began > _MOMENT:
            await asyncio.sleep(0)
            began = time.perf_counter()


class _Room:
    """How much more an account may record."""

    def __init__(self, limits: Limits, used: Usage) -> None:
        self._limits = limits
        self._certificates = used.certificates
        self._bytes = used.bytes

    def take(self, *, is_new: bool) -> None:
        """Count a change. Raises `InvalidInput` if there is no room for it."""
        if self._bytes >= self._limits.certificate_bytes:
            most = self._limits.certificate_bytes
            raise InvalidInput("line", f"{self._bytes:,} bytes on record", f"within {most:,} bytes")
        if is_new and self._certificates >= self._limits.certificates:
            most = self._limits.certificates
            raise InvalidInput("line", "one more certificate", f"within {most:,} certificates")
        self._certificates += is_new


def parse_line(text: bytes) -> Incoming:
    """Parse one line. Raises `InvalidInput`."""
    if len(text) > MAX_LINE:
        raise InvalidInput("line", f"more than {MAX_LINE} bytes", f"at most {MAX_LINE} bytes")
    try:
        given = _decode_line(text)
        # As it is, with nulls and names that we don't know. Decoding that checks it, too.
        line = msgspec.json.decode(text)
    except msgspec.ValidationError as error:
        raise invalid_value(text, str(error), whole="line", kind=_Line) from None
    except (msgspec.DecodeError, ValueError, RecursionError):
        raise InvalidInput("line", text.strip().decode(errors="replace"), "a JSON object") from None
    stored = given if given.response is None else given.response
    cert_id, kind = _identified(given, stored)
    understood = incoming(
        cert_id,
        _facts(stored),
        _told_in(line if given.response is None else line["response"]),
        kind=kind,
        account=given.account,
        page_text=given.page_text,
        fingerprints=None
        if given.fingerprints is None
        else [_fingerprint(value, i) for i, value in enumerate(given.fingerprints)],
        proven=_proven(stored.match_lead),
    )
    _check_tells_something(understood, line, stored)
    return understood


def _identified(given: _Line, stored: _Response) -> tuple[str, Kind | None]:
    """Return the id of a line's certificate, and its kind if that is told. Raises `InvalidInput`."""
    given_id = given.cert_id or (stored.cert.cert_id if stored.cert else None)
    if given_id is None and given.cert_url is None:
        raise MissingInput("cert_id", "is required, unless cert_url is given")
    cert_id = checked_cert_id(given_id) if given_id is not None else None
    kind = given.kind
    if given.cert_url is not None:
        of_url, told = cert_id_of_url(given.cert_url)
        if cert_id not in (None, of_url):
            raise InvalidInput("cert_url", given.cert_url, "the URL of the certificate in cert_id")
        cert_id = of_url
        if told is not None and kind not in (None, told):
            raise InvalidInput("kind", str(kind), f"{told} for a ping URL")
        kind = told or kind
    assert cert_id is not None
    if kind is not None and not can_be(cert_id, kind):
        possible = [each for each in get_args(Kind) if can_be(cert_id, each)]
        raise InvalidInput("kind", kind, " or ".join(possible) + " for such an id")
    return cert_id, kind


def check_are_lines(lines: Sequence[tuple[int, bytes]]) -> None:
    """Check that a file, of which these are the first lines, has a JSON object on each line.

    Otherwise every line would be reported. Raises `MalformedBody`.
    """
    starts = [text.strip() for _, text in lines[:2]]
    if starts and (starts[0].startswith(b"[") or (starts[1:] and starts[0] == b"{")):
        raise MalformedBody(
            "this looks like one JSON document over several lines; write each object on one line"
        )
    if len(starts) == 2 and not any(start.startswith(b"{") for start in starts):
        for separator in (b",", b";", b"\t"):
            if starts[0].count(separator) == starts[1].count(separator) > 0:
                raise MalformedBody("this looks like CSV; write each line as a JSON object")


def _facts(stored: _Response) -> Facts:
    """Return the properties in a stored response, of whichever version."""
    facts = (stored.insights and stored.insights.properties) or Facts()
    if stored.cert is None:
        return facts
    old = msgspec.structs.asdict(stored.cert)
    return msgspec.structs.replace(
        facts,
        **{
            name: value
            for name, value in old.items()
            if name != "cert_id" and value is not UNSET and getattr(facts, name) is UNSET
        },
    )


def _told_in(stored: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the properties in a stored response as they are there, also unknown ones.

    An age is left out, since it was that of another moment.
    """
    insights = stored.get("insights") or {}
    told = insights.get("properties") or {}
    return {name: value for name, value in told.items() if name != "age_seconds"}


def _proven(match_lead: _MatchLead | None) -> list[str]:
    """Return the fingerprints of what a stored response proves to be on the certificate.

    A match of several values doesn't say which of them is there.
    """
    if match_lead is None or match_lead.result is None:
        return []
    result, proven = match_lead.result, list[str]()
    for value, is_match, fingerprints in (
        (match_lead.email, result.email_match, email_fingerprints),
        (match_lead.phone, result.phone_match, phone_fingerprints),
    ):
        values = [value] if isinstance(value, str) else value or []
        if is_match and len(values) == 1:
            proven += fingerprints(values)
    return proven


def _check_tells_something(line: Incoming, names: Collection[str], stored: _Response) -> None:
    """Raise `InvalidInput` for a line without a fact: mostly an error, or names of another kind."""
    told = (line.page_text, line.fingerprints, line.account, line.kind, line.proven or None)
    if not line.known.isdisjoint(Facts.__struct_fields__) or any(each is not None for each in told):
        return
    if stored.outcome == "error":
        raise InvalidInput("outcome", "error", "of an answer: an error tells nothing")
    if stored.insights is not None and stored.insights.properties is not None:
        raise MissingInput("insights.properties", "tells nothing: no name in it is a property's")
    raise MissingInput(
        "insights.properties", f"is required; this line has only {', '.join(names)}"[:200]
    )


def _fingerprint(value: str, index: int) -> str:
    digest = fingerprint_in(value)
    if digest is None:
        raise InvalidInput(f"fingerprints[{index}]", value, "a SHA-1 in hex or base64")
    return digest


async def _accounts(
    connection: Connection, lines: Iterable[Incoming], caller: Caller | None
) -> dict[str, UUID]:
    """Return the accounts that lines may name, by id and name. A caller may name only its own."""
    if caller is not None:
        return {str(caller.account_id): caller.account_id, caller.name: caller.account_id}
    called = {line.account for line in lines if line.account is not None}
    found = await accounts_called(connection, sorted(called)) if called else []
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
        result.error = LineError(error.field, error.value, error.problem)
