"""Merging what is learned about a certificate with what is on record.

New facts fill in what was unknown and replace what is told again. They never empty anything. While a
certificate is young, its window is still extended and its consumer still active, so of two such times
the later one counts.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timedelta
from typing import TypeVar
from uuid import UUID

import msgspec
from msgspec import Struct, UnsetType

from service.certificates import queries
from service.certificates.facts import (
    MAX_FACTS,
    MAX_FINGERPRINTS,
    MOVING,
    NOT_AMONG_FACTS,
    SETTLED_AFTER,
    TRUSTED_FOR,
    Certificate,
    Count,
    Facts,
    Kind,
)
from service.certificates.hosts import (
    TELLS_HOST,
    TELLS_HOST_OTHERWISE,
    host_of,
    lacking_for_host,
    likeliest_kind,
)
from service.errors import InvalidInput, Unavailable
from service.ownership.hostname import SUFFIX_LIST_VERSION, covering_names
from service.postgres.pools import Connection

# How often to retry when concurrent calls record the same certificate. No call needs more.
_ATTEMPTS = 20


_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")


# In stored responses, but about one call.
_NEVER_FACTS = frozenset({"confirmed_owner", "confirmed_owner_detail"})


_Ordered = TypeVar("_Ordered", datetime, float)


_Known = TypeVar("_Known")


class Incoming(Struct, frozen=True, kw_only=True):
    """What an import line or the vendor tells about a certificate.

    `known` names the properties it tells. `facts` holds those with a value and without a column of
    their own. `fetched_at` is when the vendor told it; None for an import line. `fingerprints` are
    all that the certificate has, and `proven` some of them.
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
    proven: list[str] = []


class _Told(Facts):
    """The properties as the vendor tells them."""

    age_seconds: Count | None | UnsetType = msgspec.UNSET


async def record_told(
    connection: Connection, cert_id: str, told: Mapping[str, object], at: datetime
) -> Certificate:
    """Record properties the vendor told at that time, for every caller.

    A value that can't be is taken for unknown, unless it tells the host. Raises `InvalidInput` or
    `Unavailable`.
    """
    new_facts = _told_by_vendor(cert_id, told, at)
    for _ in range(_ATTEMPTS):
        recorded = await queries.select_certificates(connection, [cert_id], None)
        old = recorded.get(cert_id)
        new = merged(old, new_facts, None, None)
        if new == old or await queries.upsert_certificates(connection, [new]):
            return new
    raise Unavailable("too many calls record the same certificate")


def incoming(
    cert_id: str,
    properties: Facts,
    told: Mapping[str, object],
    *,
    last_event_at: datetime | None = None,
    fetched_at: datetime | None = None,
    kind: Kind | None = None,
    account: str | None = None,
    page_text: str | None = None,
    fingerprints: list[str] | None = None,
    proven: Sequence[str] = (),
) -> Incoming:
    """Return what these properties tell about a certificate.

    `told` are the same properties as they were sent. Of these, nulls, objects, and what has a name
    that we don't know are recorded and told again as they are. Raises `InvalidInput`.
    """
    for name in ("created_at", "expires_at"):
        _check_time(f"insights.properties.{name}", getattr(properties, name))
    as_sent = {
        name: value
        for name, value in told.items()
        if value is None or isinstance(value, dict) or name not in Facts.__struct_fields__
    }
    told = {**msgspec.to_builtins(properties), **as_sent}
    result = Incoming(
        cert_id=cert_id,
        known=frozenset(told) - _NEVER_FACTS,
        facts={
            # Whole numbers stay whole, as the vendor writes them.
            name: int(value) if isinstance(value, float) and value.is_integer() else value
            for name, value in told.items()
            if name not in NOT_AMONG_FACTS | _NEVER_FACTS and value is not None
        },
        created_at=_value(properties.created_at),
        expires_at=_value(properties.expires_at),
        seconds_on_page=_value(properties.seconds_on_page),
        last_event_at=last_event_at,
        fetched_at=fetched_at,
        kind=kind,
        account=account,
        page_text=page_text,
        fingerprints=fingerprints,
        proven=list(proven),
    )
    # PostgreSQL stores no NUL characters, neither in text nor in jsonb. Looking for just the escape
    # first is far quicker, and it is hardly ever there.
    encoded = msgspec.json.encode(result)
    if b"\\u0000" in encoded and _NUL.search(encoded):
        raise InvalidInput("line", "\0", "text without NUL characters")
    return result


def merged(
    old: Certificate | None, new: Incoming, imported_by: UUID | None, account_id: UUID | None
) -> Certificate:
    """Return the record of a certificate after new information is added to it.

    Raises `InvalidInput` if the domain is invalid, or if it would be more than may be on record.
    """
    before = old or Certificate(new.cert_id, imported_by, "web")
    facts = {**before.facts, **new.facts}
    size = len(msgspec.json.encode(facts))
    if size > MAX_FACTS:
        raise InvalidInput(
            "insights.properties", f"{size} bytes", f"at most {MAX_FACTS} bytes, as JSON"
        )
    kind = new.kind or (old and _given_kind(old)) or likeliest_kind(new.cert_id, facts)
    created_at = new.created_at or before.created_at
    seconds_on_page = _later(before.seconds_on_page, new.seconds_on_page)
    page_text = new.page_text or before.page_text
    fingerprints = new.fingerprints or before.fingerprints
    if fingerprints is None:
        fingerprints = new.fingerprints
    if new.proven:
        fingerprints = list(dict.fromkeys((*(fingerprints or ()), *new.proven)))
    if fingerprints is not None and len(fingerprints) > MAX_FINGERPRINTS:
        raise InvalidInput(
            "fingerprints", f"{len(fingerprints)} of them", f"at most {MAX_FINGERPRINTS}"
        )
    known, fetched_at = _known_with(old, new)
    if created_at is not None and seconds_on_page is not None and "seconds_on_page" in known:
        known.add("age_seconds")
    if new.fingerprints is not None:
        known.add("fingerprints")
    if page_text is not None:
        known.add("page_text")
    if not lacking_for_host(new.cert_id, kind, facts, known):
        known.add("host")
    host: str | None = None
    if new.fetched_at is None:
        host = host_of(kind, facts)
    elif "host" in known:
        # An import line with an unreadable domain can be corrected. What the vendor told can't, so
        # it is kept and leads to no owner.
        with suppress(InvalidInput):
            host = host_of(kind, facts)
    host, covering, suffix_list = host_columns(host)
    return Certificate(
        cert_id=new.cert_id,
        imported_by=imported_by,
        kind=kind,
        account_id=account_id or before.account_id,
        host=host,
        covering_names=covering,
        suffix_list=suffix_list,
        created_at=created_at,
        expires_at=_later(before.expires_at, new.expires_at),
        seconds_on_page=seconds_on_page,
        last_event_at=_later(before.last_event_at, new.last_event_at),
        fetched_at=fetched_at,
        facts=facts,
        known=sorted(known),
        page_text=page_text,
        fingerprints=fingerprints,
        recorded_at=before.recorded_at,
        revision=before.revision,
    )


def host_columns(host: str | None) -> tuple[str | None, list[str] | None, str | None]:
    if host is None:
        return None, None, None
    return host, list(covering_names(host)), SUFFIX_LIST_VERSION


def _told_by_vendor(cert_id: str, told: Mapping[str, object], at: datetime) -> Incoming:
    valid: dict[str, object] = {}
    for name, value in told.items():
        try:
            msgspec.convert({name: value}, _Told, strict=False)
        except msgspec.ValidationError as error:
            if name in TELLS_HOST | TELLS_HOST_OTHERWISE:
                # Without it we would tell the owner of another host.
                raise InvalidInput(f"insights.properties.{name}", str(error), "valid") from None
            valid[name] = None
        else:
            valid[name] = value
    typed = msgspec.convert(valid, _Told, strict=False)
    age = _value(typed.age_seconds)
    last_event_at = None if age is None else at - timedelta(seconds=age)
    return incoming(cert_id, typed, valid, last_event_at=last_event_at, fetched_at=at)


def _known_with(old: Certificate | None, new: Incoming) -> tuple[set[str], datetime | None]:
    """Return what is known once `new` is added, and when the vendor last told `MOVING` properties.

    While a certificate is young, these stay true for a while after the vendor told them. When some
    are told again, the others become unknown, because they may be too old.
    """
    tells_what_moves = not MOVING.isdisjoint(new.known)
    if old is None:
        return set(new.known), new.fetched_at if tells_what_moves else None
    known = {*old.known, *new.known} - {"host"}
    if new.fetched_at is None or not tells_what_moves:
        return known, old.fetched_at
    if old.fetched_at is not None:
        made_at = old.created_at or old.recorded_at
        is_settled = made_at is not None and old.fetched_at >= made_at + SETTLED_AFTER
        if is_settled or new.fetched_at < old.fetched_at + TRUSTED_FOR:
            return known, old.fetched_at
    return known - (MOVING - new.known), new.fetched_at


def _given_kind(old: Certificate) -> Kind | None:
    """Return the kind that was given, or None if it equals the guess from the facts."""
    return None if old.kind == likeliest_kind(old.cert_id, old.facts) else old.kind


def _check_time(field: str, time: datetime | None | UnsetType) -> None:
    if isinstance(time, datetime) and not 2000 <= time.year < 3000:
        raise InvalidInput(field, time.isoformat(), "between the years 2000 and 2999")


def _value(given: _Known | None | UnsetType) -> _Known | None:
    return None if isinstance(given, UnsetType) else given


def _later(old: _Ordered | None, new: _Ordered | None) -> _Ordered | None:
    return max((value for value in (old, new) if value is not None), default=None)
