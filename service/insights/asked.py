"""What a request asks for, and everything that can be wrong with it before anybody is asked."""

import msgspec
from msgspec import UnsetType

from service.errors import MalformedBody, SchemaViolation
from service.insights import contract
from service.insights.contract import (
    OWNER_PROPERTIES,
    PROPERTIES,
    PROPERTIES_OF,
    OperationsRequest,
    ScanParameters,
    kinds_of,
)
from service.insights.lead_match import email_fingerprints, phone_fingerprints
from service.insights.queries import Retention


class Asked(msgspec.Struct, frozen=True):
    """A request that can be carried out, and what follows from it.

    `properties` are each there once, in the order asked; None without insights. `emails` and `phones`
    are fingerprints, joined by commas.
    """

    request: OperationsRequest
    properties: tuple[str, ...] | None
    emails: str | None
    phones: str | None

    @property
    def scans(self) -> ScanParameters | None:
        """What to scan for, if that was asked for at all."""
        return self.request.insights.scans if self.request.insights else None

    @property
    def has_terms(self) -> bool:
        """Whether there is anything to scan for."""
        scans = self.scans
        return scans is not None and any(
            term.strip() for terms in (scans.required, scans.forbidden) for term in values_of(terms)
        )

    @property
    def retention(self) -> Retention | None:
        """What to note. What is empty leaves room for a later call."""
        sent = self.request.retain
        if sent is None:
            return None
        return Retention(sent.reference or None, sent.vendor or None, sent.campaign_id or None)


def asked_of(body: bytes) -> Asked:
    """What a request body asks for. Raises `MalformedBody` or `SchemaViolation`."""
    try:
        request = contract.decode_request(body or b"{}")
    except msgspec.ValidationError as error:
        raise SchemaViolation(contract.SCHEMA, str(error)) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise MalformedBody(f"the body is not JSON: {error}") from None
    except RecursionError:
        raise MalformedBody("the body is nested too deeply") from None
    emails, phones = _lead(request)
    if request.retain is not None and request.match_lead is None:
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
    elif request.match_lead is None and request.verify is None:
        raise SchemaViolation(contract.NO_PRODUCTS, "the body asks for no operation; try insights")
    return Asked(request, properties, emails, phones)


def _lead(request: OperationsRequest) -> tuple[str | None, str | None]:
    """The fingerprints of the e-mail addresses and of the phone numbers that are to be matched."""
    if request.match_lead is None:
        return None, None
    emails, phones = values_of(request.match_lead.email), values_of(request.match_lead.phone)
    for values, reason in ((phones, contract.TOO_MANY_PHONES), (emails, contract.TOO_MANY_EMAILS)):
        if len(values) > contract.MAX_MATCHED:
            raise SchemaViolation(reason, f"{len(values)} were given")
    found = (",".join(email_fingerprints(emails)), ",".join(phone_fingerprints(phones)))
    if not any(found):
        raise SchemaViolation(
            contract.NOTHING_TO_MATCH, "match_lead needs an email or a phone that is not blank"
        )
    return found[0] or None, found[1] or None


def _check_scans(scans: ScanParameters) -> None:
    for name in ("required", "forbidden"):
        if len(values_of(getattr(scans, name))) > contract.MAX_TERMS:
            raise SchemaViolation(
                contract.SCHEMA,
                f"at most {contract.MAX_TERMS} terms - at `$.insights.scans.{name}`",
            )
    delimiter = scans.delimiter or None
    if scans.delimiter == "" or (delimiter and len(delimiter) > contract.MAX_DELIMITER):
        raise SchemaViolation(
            contract.DELIMITER_LENGTH, f"a delimiter has 1 to {contract.MAX_DELIMITER} characters"
        )
    if delimiter and any(character.isspace() for character in delimiter):
        raise SchemaViolation(
            contract.DELIMITER_WHITE_SPACE, "a delimiter has no white space in it"
        )


def values_of(given: str | list[str] | UnsetType | None) -> list[str]:
    """What was given as one value or several, as a list."""
    if not given:
        return []
    return [given] if isinstance(given, str) else given


def needed_for(cert_id: str, asked: Asked) -> frozenset[str]:
    """What has to be known of a certificate for a call to be answered without the vendor."""
    properties = frozenset(asked.properties or ())
    possible = frozenset[str]().union(*(PROPERTIES_OF[kind] for kind in kinds_of(cert_id)))
    needed = set((properties & possible) - OWNER_PROPERTIES)
    if not OWNER_PROPERTIES.isdisjoint(properties):
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
