"""What a request asks for, and the checks it must pass before we look anything up."""

import msgspec
from msgspec import UNSET, UnsetType

from service.certificates.facts import can_be, kinds_of
from service.certificates.fingerprints import email_fingerprints, phone_fingerprints
from service.errors import MalformedBody, ProductUnavailable, SchemaViolation, Unprocessable
from service.insights import contract
from service.insights.contract import (
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


class Asked(msgspec.Struct, frozen=True):
    """A valid request, and what follows from it.

    `properties` are in the order asked, without duplicates; None without insights. Fingerprints to
    look for are lowercase hex; None if the request has no email address, or no phone number.
    """

    request: OperationsRequest
    properties: tuple[str, ...] | None
    email_fingerprints: tuple[str, ...] | None
    phone_fingerprints: tuple[str, ...] | None

    @property
    def asks_for_owner(self) -> bool:
        """Whether the owner has to be decided."""
        return not OWNER_PROPERTIES.isdisjoint(self.properties or ())

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


def asked_of(cert_id: str, body: bytes, *, has_vendor: bool) -> Asked:
    """Return what a request body asks for about a certificate.

    If several operations are invalid, the error is about the first in the order match_lead, retain,
    insights, verify.

    Raises `MalformedBody`, `SchemaViolation`, `Unprocessable`, or `ProductUnavailable`.
    """
    try:
        request = contract.decode_request(body or b"{}")
    except msgspec.ValidationError as error:
        raise SchemaViolation(contract.SCHEMA, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    operations = (request.match_lead, request.retain, request.insights, request.verify)
    if all(operation is None for operation in operations):
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
    properties = None
    if request.insights is not None:
        properties = tuple(dict.fromkeys(request.insights.properties))
        if unknown := [name for name in properties if name not in PROPERTIES]:
            raise SchemaViolation(
                contract.INVALID_PROPERTIES, f"no such property: {unknown[0][:80]}"
            )
        if request.insights.scans is not None:
            _check_scans(request.insights.scans)
    if request.verify is not None and not has_vendor:
        raise ProductUnavailable("this service does not offer the verify operation")
    return Asked(request, properties, emails, phones)


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
    emails, phones = values_of(sent.email), values_of(sent.phone)
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
    needed = set((properties & possible) - OWNER_PROPERTIES)
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
    return frozenset(needed)
