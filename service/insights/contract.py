"""The Certificate API v4 as the vendor publishes it: ids, requests, responses, texts.

The vendor's OpenAPI document is the source of names and types; what it leaves open is said where
it is decided. Absent and null are told apart by `UNSET`.
"""

import re
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service.errors import InvalidCertificateId

Kind: TypeAlias = Literal["web", "mobile", "meta"]
Outcome: TypeAlias = Literal["success", "failure", "error"]
Status: TypeAlias = Literal["named", "verified", "none", "not_applicable"]

MAX_CERT_ID = 255
MAX_BODY = 64 * 1024
MAX_MATCHED = 3
# Where the vendor publishes no limit, ours.
MAX_LABEL = 1000
MAX_TERMS = 100
MAX_DELIMITER = 10

MALFORMED_ID = "Malformed certificate id"
SCHEMA = "The request cannot be processed because it does not meet the expected schema."
NO_PRODUCTS = "No valid products detected"
NO_MATCH_FIELDS = "Match Lead fields not included in request."
NOT_A_WEB_CERTIFICATE = "match_lead requires a web certificate"
NOTHING_TO_MATCH = "match_lead must contain either phone or email keys"
TOO_MANY_PHONES = "match_lead phone must be a list of 3 or less phone numbers"
TOO_MANY_EMAILS = "match_lead email must be a list of 3 or less email addresses"
INVALID_PROPERTIES = "Invalid property key(s) requested"
DELIMITER_WHITE_SPACE = "Invalid delimiter contains whitespace characters"
DELIMITER_LENGTH = "Invalid delimiter length"
NO_MATCHES = "No matches found"
SCANS_UNSUCCESSFUL = "Insights page scans unsuccessful"
INVALID_ID = "This is an invalid certificate id"
TOO_OLD = "Certificate is more than 90 days old"
VALID_ID: dict[Kind, str] = {
    "web": "This is a valid Web certificate id",
    "mobile": "This is a valid Mobile certificate id",
    "meta": "This is a valid Facebook certificate id",
}
# All that the vendor publishes as reasons of errors (“possible failure outcomes on
# API v4.0” and the errors of its OpenAPI document).
PUBLISHED_ERRORS = frozenset(
    {
        SCHEMA,
        NO_PRODUCTS,
        NO_MATCH_FIELDS,
        NOT_A_WEB_CERTIFICATE,
        NOTHING_TO_MATCH,
        TOO_MANY_PHONES,
        TOO_MANY_EMAILS,
        INVALID_PROPERTIES,
        DELIMITER_WHITE_SPACE,
        DELIMITER_LENGTH,
        "Account is inactive",
        "Certificate has been claimed too many times",
        "Certificate has expired or could not be found.",
        "Certificate is not claimable",
        "Sandbox certs cannot be retained",
        "The cert could not be retained",
        "The cert has been claimed too many times",
        "The cert has expired",
        "Unavailable product requested",
        "Unavailable product requested Insights",
        "Unavailable product requested: Retain",
        "Unavailable product requested: Verify",
    }
)
# Not published: without fingerprints, or text, it can't be told whether they would match.
NO_FINGERPRINTS = "Lead matching could not be performed: no fingerprints are on record"
NO_PAGE_TEXT = "Page scans could not be performed: no page text is on record"

_HOSTS = frozenset(
    {"cert.trustedform.com", "cert.staging.trustedform.com", "cert.trustedform-dev.com"}
)
# What follows “0.” in a Meta id is not published, and the vendor's own client accepts anything; a
# slash would make two segments of a path out of it.
CERT_ID = r"[-_A-Za-z0-9]{40}(?:[-_A-Za-z0-9]{40})?|0\.[!-.0-~]{1,253}"
_CERT_ID = re.compile(CERT_ID)
_WEB_ID = re.compile(r"[0-9a-f]{40}")


def checked_cert_id(text: str) -> str:
    """A well-formed certificate id, as it is. Raises `InvalidCertificateId`."""
    if _CERT_ID.fullmatch(text):
        return text
    raise InvalidCertificateId(text)


def cert_id_of_url(url: str) -> str:
    """The id in a certificate URL on one of the vendor's hosts; http and a trailing slash will do.

    Raises `InvalidCertificateId`.
    """
    try:
        parts = urlsplit(url.strip())
        is_theirs = parts.scheme in ("http", "https") and parts.netloc.lower() in _HOSTS
    except ValueError:
        is_theirs = False
    if not is_theirs:
        raise InvalidCertificateId(url, field="cert_url")
    try:
        return checked_cert_id(parts.path.removeprefix("/").removesuffix("/"))
    except InvalidCertificateId:
        raise InvalidCertificateId(url, field="cert_url") from None


def kinds_of(cert_id: str) -> tuple[Kind, ...]:
    """The kinds of certificate that an id can be of, the likelier first."""
    if cert_id.startswith("0."):
        return ("meta",)
    if len(cert_id) == 80:
        return ("mobile",)
    return ("web", "mobile") if _WEB_ID.fullmatch(cert_id) else ("mobile", "web")


def values_of(given: str | list[str] | UnsetType | None) -> list[str]:
    """What was given as one value or several, as a list."""
    if not given:
        return []
    return [given] if isinstance(given, str) else given


class Version(Struct, omit_defaults=True):
    """A version number, in parts."""

    full: str | None = None
    major: str | None = None
    minor: str | None = None
    patch: str | None = None


class Browser(Struct, omit_defaults=True):
    """The consumer's browser, from its user agent."""

    full: str | None = None
    name: str | None = None
    user_agent: str | None = None
    version: Version | None = None


class OperatingSystem(Struct, omit_defaults=True):
    """The consumer's operating system, from its user agent."""

    full: str | None = None
    is_mobile: bool | None = None
    name: str | None = None
    version: Version | None = None


class Place(Struct):
    """Where the consumer was, as far as its IP address tells."""

    city: str | None = None
    country_code: str | None = None
    lat: float | None = None
    lon: float | None = None
    postal_code: str | None = None
    state: str | None = None
    time_zone: str | None = None


class ConfirmedOwnerDetail(Struct):
    """`confirmed_owner` for programs. What identifies the owner is there only if it may be named."""

    status: Status
    domain: str | None
    answer_id: str
    covered_by: str | None = None
    owner_account_id: str | None = None
    verified_at: str | None = None


Count: TypeAlias = Annotated[float, Meta(ge=0, le=1e9)]
Time: TypeAlias = Annotated[datetime, Meta(tz=True)]
HostText: TypeAlias = Annotated[str, Meta(max_length=1024)]
UrlText: TypeAlias = Annotated[str, Meta(max_length=8192)]
OptInType: TypeAlias = Literal["manual", "pre-selected", "non-interactive"]
InputMethod: TypeAlias = Literal["autofill", "paste", "typing", "pre-populated"]


class Facts(Struct, omit_defaults=True):
    """The properties that are recorded about a certificate."""

    approx_ip_geo: Place | None | UnsetType = UNSET
    bot_detected: bool | None | UnsetType = UNSET
    browser: Browser | None | UnsetType = UNSET
    created_at: Time | None | UnsetType = UNSET
    domain: HostText | None | UnsetType = UNSET
    expires_at: Time | None | UnsetType = UNSET
    form_input_kpm: Count | None | UnsetType = UNSET
    form_input_method: list[InputMethod] | None | UnsetType = UNSET
    form_input_wpm: Count | None | UnsetType = UNSET
    ip: str | None | UnsetType = UNSET
    is_framed: bool | None | UnsetType = UNSET
    is_masked: bool | None | UnsetType = UNSET
    num_sensitive_content_elements: Count | None | UnsetType = UNSET
    num_sensitive_form_elements: Count | None | UnsetType = UNSET
    os: OperatingSystem | None | UnsetType = UNSET
    page_url: UrlText | None | UnsetType = UNSET
    parent_page_url: UrlText | None | UnsetType = UNSET
    seconds_on_page: Count | None | UnsetType = UNSET


class Properties(Facts):
    """What an `insights` operation returns: the properties that were asked for, no others."""

    age_seconds: int | None | UnsetType = UNSET
    confirmed_owner: str | None | UnsetType = UNSET
    confirmed_owner_detail: ConfirmedOwnerDetail | UnsetType = UNSET


PROPERTIES = frozenset(Properties.__struct_fields__)
OWNER_PROPERTIES = frozenset({"confirmed_owner", "confirmed_owner_detail"})
# Recorded apart from the other facts, or computed from what is.
NOT_AMONG_FACTS = frozenset({"age_seconds", "created_at", "expires_at", "seconds_on_page"})

_META_PROPERTIES = OWNER_PROPERTIES | {"age_seconds", "created_at", "expires_at"}
_MOBILE_PROPERTIES = _META_PROPERTIES | {
    "approx_ip_geo",
    "ip",
    "is_masked",
    "os",
    "seconds_on_page",
}
# The properties that certificates of a kind have; the others are answered null.
PROPERTIES_OF: dict[str, frozenset[str]] = {
    "web": PROPERTIES,
    "mobile": _MOBILE_PROPERTIES,
    "meta": _META_PROPERTIES,
}


# How many values there may be is checked apart, since it has a published reason of its own.
MatchValues: TypeAlias = Annotated[
    str | list[str] | None,
    Meta(
        description="One value or up to three, each as it is or its SHA-1 in hex or base64.",
        extra_json_schema={"maxItems": MAX_MATCHED},
    ),
]
# PostgreSQL keeps no NUL characters.
Label: TypeAlias = Annotated[str, Meta(max_length=MAX_LABEL, pattern="^[^\\u0000]*$")]
Terms: TypeAlias = Annotated[
    str | list[str] | None, Meta(extra_json_schema={"maxItems": MAX_TERMS})
]
Delimiter: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"pattern": f"^\\S{{1,{MAX_DELIMITER}}}$"})
]


class MatchLeadParameters(Struct, omit_defaults=True):
    """The lead to be found on the certificate: an e-mail address, a phone number, or both."""

    email: MatchValues | UnsetType = UNSET
    phone: MatchValues | UnsetType = UNSET


class RetainParameters(Struct, omit_defaults=True):
    """What to note about the certificate in the caller's account; no other account here sees it."""

    reference: Label | None | UnsetType = UNSET
    vendor: Label | None | UnsetType = UNSET
    campaign_id: Label | None | UnsetType = UNSET


class ScanParameters(Struct, omit_defaults=True):
    """What the recorded page must and must not contain."""

    required: Terms | UnsetType = UNSET
    forbidden: Terms | UnsetType = UNSET
    delimiter: Delimiter | None | UnsetType = UNSET


class InsightsParameters(Struct, omit_defaults=True):
    """What to tell about the certificate, and what to look for on the recorded page."""

    properties: list[Annotated[str, Meta(extra_json_schema={"enum": sorted(PROPERTIES)})]]
    scans: ScanParameters | None = None


class VerifyParameters(Struct, omit_defaults=True):
    """The criteria of consent, in place of those set with the vendor, who applies them."""

    advertiser_name: str | None | UnsetType = UNSET
    min_font_size_px_required: float | None | UnsetType = UNSET
    min_contrast_ratio_required: float | None | UnsetType = UNSET
    opt_in_types_allowed: list[OptInType] | None | UnsetType = UNSET


def _asks_for(operation: str) -> dict[str, object]:
    return {"required": [operation], "properties": {operation: {"type": "object"}}}


def _gives(name: str) -> dict[str, object]:
    not_blank = {"type": "string", "pattern": "\\S"}
    values = {"anyOf": [not_blank, {"type": "array", "contains": not_blank}]}
    return {"required": [name], "properties": {name: values}}


# What a JSON Schema can say of the rules between fields, for whoever makes requests from it.
REQUEST_RULES: dict[str, object] = {
    "anyOf": [_asks_for(name) for name in ("insights", "match_lead", "verify")],
    "if": _asks_for("retain"),
    "then": _asks_for("match_lead"),
    "allOf": [
        {
            "properties": {
                "match_lead": {"anyOf": [{"type": "null"}, _gives("email"), _gives("phone")]}
            }
        }
    ],
}


class OperationsRequest(Struct, omit_defaults=True):
    """The operations to perform on one certificate, at least one. `retain` needs `match_lead`."""

    match_lead: MatchLeadParameters | None = None
    retain: RetainParameters | None = None
    insights: InsightsParameters | None = None
    verify: VerifyParameters | None = None


class MatchLeadOutcome(Struct):
    """Whether the lead was found: null where that kind was not given, or could not be looked for."""

    success: bool | None = None
    email_match: bool | None = None
    phone_match: bool | None = None


class MatchLeadResult(MatchLeadParameters):
    """The parameters, and what came of them."""

    result: MatchLeadOutcome | UnsetType = UNSET


class Kept(Struct, omit_defaults=True):
    """What stays noted, where an earlier call had noted something else."""

    reference: str | UnsetType = UNSET
    vendor: str | UnsetType = UNSET
    campaign_id: str | UnsetType = UNSET


class RetainOutcome(Struct, omit_defaults=True):
    """That the certificate is retained. `expires_at` is when it can't be asked about any more."""

    expires_at: str | None
    masked_cert_url: str | None
    share_url: str | None
    previously_retained: bool
    kept: Kept | UnsetType = UNSET


class RetainResult(RetainParameters):
    """The parameters, and what came of them."""

    results: RetainOutcome | UnsetType = UNSET


class Found(Struct, frozen=True):
    """Terms as they were sent: those the text contains, and the others."""

    found: list[str]
    not_found: list[str]


class ScansOutcome(Struct):
    """Whether all that is required was found and nothing forbidden; null if nothing was looked for."""

    success: bool | None
    required: Found
    forbidden: Found


class ScansResult(ScanParameters):
    """The parameters, and what came of them."""

    result: ScansOutcome | UnsetType = UNSET


class InsightsResult(Struct, omit_defaults=True):
    """What the `insights` operation found."""

    properties: Properties
    scans: ScansResult | UnsetType = UNSET


class OperationsResponse(Struct, omit_defaults=True):
    """The outcome of all operations together, and the result of each that was asked for."""

    outcome: Outcome
    reason: str | None
    match_lead: MatchLeadResult | UnsetType = UNSET
    retain: RetainResult | UnsetType = UNSET
    insights: InsightsResult | UnsetType = UNSET
    verify: dict[str, Any] | UnsetType = UNSET


class ValidateResponse(Struct):
    """Whether an id is that of a certificate."""

    outcome: Literal["success", "failure"]
    reason: str


class ErrorDetail(Struct):
    """What exactly is wrong."""

    detail: str


class ErrorResponse(Struct, omit_defaults=True):
    """Any answer that is not a 200. `errors` and `message` come where there is more to say."""

    outcome: Literal["error"]
    reason: str
    errors: ErrorDetail | UnsetType = UNSET
    message: str | UnsetType = UNSET


decode_request = msgspec.json.Decoder(OperationsRequest).decode
