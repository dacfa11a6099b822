"""What a request asks for, and the checks it must pass before we look anything up."""

import difflib
import re
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType

from service.certificates.facts import NOT_AMONG_FACTS, can_be, kinds_of
from service.certificates.fingerprints import email_fingerprints, phone_fingerprints
from service.errors import (
    MalformedBody,
    ProductUnavailable,
    SchemaViolation,
    Unprocessable,
    shorten,
)
from service.insights import contract
from service.insights.contract import (
    MAX_UNKNOWN,
    OWNER_PROPERTIES,
    PROPERTIES,
    PROPERTIES_OF,
    MatchLeadParameters,
    OperationsRequest,
    ScanParameters,
    values_of,
)
from service.insights.page_scan import is_blank
from service.insights.queries import Labels

_OWNER_AND_COLUMNS = OWNER_PROPERTIES | NOT_AMONG_FACTS

# Of a property that we don't know. It goes into the database among others.
_PROPERTY_NAME = re.compile(r"[A-Za-z0-9_.-]{1,64}")


class Asked(msgspec.Struct, frozen=True, dict=True):
    """A valid request, and what follows from it.

    `properties` are in the order asked, without duplicates; None without insights. Fingerprints to
    look for are lowercase hex; None if the request has no email address, or no phone number.
    `unknown` has the keys that we don't know, for the vendor to judge, by the object they are in, as
    in `contract.KEYS`.
    """

    request: OperationsRequest
    properties: tuple[str, ...] | None
    email_fingerprints: tuple[str, ...] | None
    phone_fingerprints: tuple[str, ...] | None
    unknown: Mapping[str, Mapping[str, object]] = {}

    @cached_property
    def asks_for_owner(self) -> bool:
        """Whether the owner has to be decided."""
        return not OWNER_PROPERTIES.isdisjoint(self.properties or ())

    @cached_property
    def asks_for_facts(self) -> bool:
        """Whether any property is asked for that is only among the facts."""
        return not _OWNER_AND_COLUMNS.issuperset(self.properties or ())

    @property
    def asks_for_properties_only(self) -> bool:
        """Whether nothing is asked for but properties that we know."""
        sent = self.request
        others = (sent.match_lead, sent.retain, sent.verify, self.scans)
        return not self.unknown and all(other is None for other in others)

    @property
    def scans(self) -> ScanParameters | None:
        """The scans the request asks for, if any."""
        return self.request.insights.scans if self.request.insights else None

    @property
    def has_terms(self) -> bool:
        """Whether there is anything to scan for."""
        scans = self.scans
        return scans is not None and any(
            not is_blank(term)
            for terms in (scans.required, scans.forbidden)
            for term in values_of(terms)
        )

    @property
    def labels(self) -> Labels | None:
        """The labels to save with a retained certificate. Blank ones are left for a later call."""
        sent = self.request.retain
        if sent is None:
            return None
        return Labels(*map(_label, (sent.reference, sent.vendor, sent.campaign_id)))


def asked_of(
    cert_id: str, body: bytes, *, has_vendor: bool, retains_locally: bool = False
) -> Asked:
    """Return what a request body asks for about a certificate.

    If several operations are invalid, the error is about the first in the order match_lead, retain,
    insights, verify. Keys that we don't know are refused, since leaving out a misspelled scan would
    pass what it forbids. With a vendor, only those are that look like a known one misspelled.

    Raises `MalformedBody`, `SchemaViolation`, `Unprocessable`, or `ProductUnavailable`.
    """
    try:
        request = contract.decode_request(body or b"{}")
        # The whole of it, since what we don't know is passed on. Decoding that checks it, too.
        sent = msgspec.json.decode(body or b"{}")
    except msgspec.ValidationError as error:
        raise SchemaViolation(contract.SCHEMA, str(error)) from None
    except (msgspec.DecodeError, ValueError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    unknown = _unknown_keys(sent, has_vendor=has_vendor)
    operations = (request.match_lead, request.retain, request.insights, request.verify)
    if all(operation is None for operation in operations) and not unknown.get(""):
        raise SchemaViolation(
            contract.NO_PRODUCTS, "the body names none of match_lead, retain, insights, verify"
        )
    emails = phones = None
    if request.match_lead is not None:
        emails, phones = _lead(request.match_lead)
        if not can_be(cert_id, "web") and not has_vendor:
            raise not_a_web_certificate()
    elif request.retain is not None:
        raise SchemaViolation(contract.NO_MATCH_FIELDS, "retain needs match_lead in the same call")
    if request.retain is not None and not (has_vendor or retains_locally):
        raise ProductUnavailable(
            "this service keeps no certificates, so nothing was retained",
            contract.RETAIN_UNAVAILABLE,
        )
    properties = None
    if request.insights is not None:
        properties = tuple(dict.fromkeys(request.insights.properties))
        if len(properties) > contract.MAX_PROPERTIES:
            raise SchemaViolation(
                contract.SCHEMA, f"at most {contract.MAX_PROPERTIES} properties can be asked for"
            )
        for name in properties:
            if name in PROPERTIES:
                continue
            near = _nearest(name, PROPERTIES)
            if near is not None or not has_vendor or not _PROPERTY_NAME.fullmatch(name):
                raise SchemaViolation(
                    contract.INVALID_PROPERTIES, f"no such property: {shorten(name)}" + _meant(near)
                )
        if request.insights.scans is not None:
            _check_scans(request.insights.scans)
    if request.verify is not None and not has_vendor:
        raise ProductUnavailable("this service does not offer the verify operation")
    return Asked(request, properties, emails, phones, unknown)


def _unknown_keys(sent: dict[str, Any], *, has_vendor: bool) -> dict[str, dict[str, object]]:
    """Return the keys that we don't know, by where they are. Raises `SchemaViolation`."""
    insights = sent.get("insights") or {}
    parts = {"": sent, "insights.scans": insights.get("scans") or {}}
    parts |= {name: sent.get(name) or {} for name in contract.OPERATIONS}
    strange = {where: part.keys() - contract.KEYS[where] for where, part in parts.items()}
    if sum(map(len, strange.values())) > MAX_UNKNOWN:
        raise SchemaViolation(contract.SCHEMA, "the body has too many unknown keys")
    unknown: dict[str, dict[str, object]] = {}
    for where, keys in strange.items():
        for key in keys:
            near = _nearest(key, contract.KEYS[where])
            if near is not None or not has_vendor:
                named = f"{where}.{key}".lstrip(".")
                old = " (this is version 4.0)" if not where and near is None else ""
                raise SchemaViolation(
                    contract.SCHEMA, f"unknown key: {shorten(named)}{old}" + _meant(near)
                )
            unknown.setdefault(where, {})[key] = parts[where][key]
    return unknown


def _nearest(key: str, known: Iterable[str]) -> str | None:
    """Return the known key that an unknown one is likely meant to be, if any."""
    near = difflib.get_close_matches(key.lower()[:100], known, n=1, cutoff=0.8)
    return near[0] if near else None


def _meant(near: str | None) -> str:
    return f"; did you mean {near}?" if near else ""


def _label(sent: str | float | UnsetType | None) -> str | None:
    """Return a label as text, since CRMs send the number of a lead; None if it is blank."""
    label = sent if isinstance(sent, str) else "" if sent is None or sent is UNSET else str(sent)
    return label if label.strip() else None


def not_a_web_certificate() -> Unprocessable:
    """Return the error for matching a lead on another kind of certificate."""
    return Unprocessable(
        contract.NOT_A_WEB_CERTIFICATE,
        "this certificate comes from a mobile app or a Meta lead ad",
    )


def _lead(
    sent: MatchLeadParameters,
) -> tuple[tuple[str, ...] | None, tuple[str, ...] | None]:
    """Return the fingerprints of the email addresses and of the phone numbers to match."""
    emails = values_of(sent.email) + values_of(sent.email_sha1)
    phones = values_of(sent.phone) + values_of(sent.phone_sha1)
    for values, reason in ((phones, contract.TOO_MANY_PHONES), (emails, contract.TOO_MANY_EMAILS)):
        if len(values) > contract.MAX_MATCHED:
            raise SchemaViolation(reason, f"{len(values)} values were sent")
    of_emails, of_phones = email_fingerprints(emails), phone_fingerprints(phones)
    if not of_emails and not of_phones:
        raise SchemaViolation(
            contract.NOTHING_TO_MATCH, "match_lead needs a non-blank email or phone"
        )
    return tuple(of_emails) or None, tuple(of_phones) or None


def _check_scans(scans: ScanParameters) -> None:
    for name in ("required", "forbidden"):
        if len(values_of(getattr(scans, name))) > contract.MAX_TERMS:
            raise SchemaViolation(
                contract.SCHEMA,
                f"at most {contract.MAX_TERMS} terms - at `$.insights.scans.{name}`",
            )
    if isinstance(scans.delimiter, str):
        if any(character.isspace() for character in scans.delimiter):
            raise SchemaViolation(
                contract.DELIMITER_WHITE_SPACE, "a delimiter can't contain white space"
            )
        if not 1 <= len(scans.delimiter) <= contract.MAX_DELIMITER:
            raise SchemaViolation(
                contract.DELIMITER_LENGTH,
                f"a delimiter must have 1 to {contract.MAX_DELIMITER} characters",
            )


def needed_for(cert_id: str, asked: Asked) -> frozenset[str]:
    """Return what must be known about a certificate to answer a call without the vendor."""
    properties = frozenset(asked.properties or ())
    possible = frozenset[str]().union(*(PROPERTIES_OF[kind] for kind in kinds_of(cert_id)))
    needed = set((properties & possible) - OWNER_PROPERTIES) | (properties - PROPERTIES)
    if asked.asks_for_owner:
        needed.add("host")
    if asked.request.match_lead is not None:
        needed.add("fingerprints")
    if asked.has_terms:
        needed.add("page_text")
    # Only the vendor can do these, so they are never known.
    if asked.request.retain is not None:
        needed.add("retain")
    if asked.request.verify is not None:
        needed.add("verify")
    if asked.unknown:
        needed.add("unknown")
    return frozenset(needed)
