"""The Certificate API v4 as the vendor publishes it: ids, requests, responses, texts.

Names and types come from the vendor's OpenAPI document. Where it leaves something open, a comment
says what we decided. `UNSET` tells an absent field from a null one.
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service.accounts.names import Status
from service.certificates.facts import FACTS_OF, Facts, Kind

Outcome: TypeAlias = Literal["success", "failure", "error"]

MAX_BODY = 64 * 1024
MAX_MATCHED = 3
# Our own limits, where the vendor publishes none.
MAX_LABEL = 1000
MAX_TERMS = 100
MAX_PROPERTIES = 100
MAX_UNKNOWN = 20
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
UNAVAILABLE = "Unavailable product requested"
RETAIN_UNAVAILABLE = "Unavailable product requested: Retain"
NO_MATCHES = "No matches found"
SCANS_UNSUCCESSFUL = "Insights page scans unsuccessful"
CANT_RUN = "The operations can't be run on this certificate"
INVALID_ID = "This is an invalid certificate id"
TOO_OLD = "Certificate is more than 90 days old"
VALID_ID: dict[Kind, str] = {
    "web": "This is a valid Web certificate id",
    "mobile": "This is a valid Mobile certificate id",
    "meta": "This is a valid Facebook certificate id",
}
# Every error reason the vendor publishes (“possible failure outcomes on API v4.0” and the errors in
# its OpenAPI document).
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
        UNAVAILABLE,
        "Unavailable product requested Insights",
        RETAIN_UNAVAILABLE,
        "Unavailable product requested: Verify",
    }
)
# Our own reasons: without fingerprints or text, we can't tell whether they would match.
NO_FINGERPRINTS = "Lead matching could not be performed: not all fingerprints are on record"
NO_PAGE_TEXT = "Page scans could not be performed: no page text is on record"


def values_of(given: str | list[str] | UnsetType | None) -> list[str]:
    """Return a value that may be single or several as a list."""
    if not given:
        return []
    return [given] if isinstance(given, str) else given


class ConfirmedOwnerDetail(Struct):
    """`confirmed_owner` for programs. The owner's details are set only if you may see its name."""

    status: Status
    domain: str | None
    answer_id: str
    covered_by: str | None = None
    owner_account_id: str | None = None
    verified_at: str | None = None


OptInType: TypeAlias = Literal["manual", "pre-selected", "non-interactive"]


class Properties(Facts):
    """The properties you asked for, and no others."""

    age_seconds: int | None | UnsetType = UNSET
    confirmed_owner: str | None | UnsetType = UNSET
    confirmed_owner_detail: ConfirmedOwnerDetail | UnsetType = UNSET


PROPERTIES = frozenset(Properties.__struct_fields__)
OWNER_PROPERTIES = frozenset({"confirmed_owner", "confirmed_owner_detail"})

# The properties each kind of certificate has; any other is answered with null.
PROPERTIES_OF: dict[str, frozenset[str]] = {
    kind: facts | OWNER_PROPERTIES for kind, facts in FACTS_OF.items()
}


# The number of values is checked separately, because it has its own published reason.
MatchValues: TypeAlias = Annotated[
    str | list[str] | None,
    Meta(
        description="One value or up to three, each as plain text or its SHA-1 in hex or base64.",
        extra_json_schema={"maxItems": MAX_MATCHED},
    ),
]
# PostgreSQL can't store NUL characters.
Label: TypeAlias = Annotated[str, Meta(max_length=MAX_LABEL, pattern="^[^\\u0000]*$")]
# A label can be a number, which is kept as text: a 64-bit integer or a double.
Number: TypeAlias = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | float
Terms: TypeAlias = Annotated[
    str | list[str] | None, Meta(extra_json_schema={"maxItems": MAX_TERMS})
]
Delimiter: TypeAlias = Annotated[
    str, Meta(extra_json_schema={"pattern": f"^\\S{{1,{MAX_DELIMITER}}}$"})
]


class MatchLeadParameters(Struct, omit_defaults=True):
    """The lead to find on the certificate: an email address, a phone number, or both."""

    email: MatchValues | UnsetType = UNSET
    phone: MatchValues | UnsetType = UNSET
    # Named on one of the vendor's help pages alone, and sent by clients.
    email_sha1: MatchValues | UnsetType = UNSET
    phone_sha1: MatchValues | UnsetType = UNSET


class RetainParameters(Struct, omit_defaults=True):
    """Labels to save with the certificate in your account. No other account here sees them."""

    reference: Label | Number | None | UnsetType = UNSET
    vendor: Label | Number | None | UnsetType = UNSET
    campaign_id: Label | Number | None | UnsetType = UNSET


class ScanParameters(Struct, omit_defaults=True):
    """Terms that the recorded page must contain, and terms it must not contain."""

    required: Terms | UnsetType = UNSET
    forbidden: Terms | UnsetType = UNSET
    delimiter: Delimiter | None | UnsetType = UNSET


PropertyName: TypeAlias = Annotated[str, Meta(extra_json_schema={"enum": sorted(PROPERTIES)})]


class InsightsParameters(Struct, omit_defaults=True):
    """The properties to return, and the terms to look for on the recorded page."""

    properties: list[PropertyName]
    scans: ScanParameters | None = None


class VerifyParameters(Struct, omit_defaults=True):
    """Consent criteria, in place of those configured with the vendor. The vendor applies them."""

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


# The rules between fields that a JSON Schema can express, for clients that generate requests.
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
    """The operations to run on one certificate, at least one. `retain` needs `match_lead`."""

    match_lead: MatchLeadParameters | None = None
    retain: RetainParameters | None = None
    insights: InsightsParameters | None = None
    verify: VerifyParameters | None = None


class MatchLeadOutcome(Struct):
    """Whether the lead was found. Null where you sent no such value, or we could not check it."""

    success: bool | None = None
    email_match: bool | None = None
    phone_match: bool | None = None


class MatchLeadResult(MatchLeadParameters):
    """The parameters you sent, and the result."""

    result: MatchLeadOutcome | UnsetType = UNSET


class Kept(Struct, omit_defaults=True):
    """The labels that stay because an earlier call already saved different ones."""

    reference: str | UnsetType = UNSET
    vendor: str | UnsetType = UNSET
    campaign_id: str | UnsetType = UNSET


class RetainOutcome(Struct, omit_defaults=True):
    """The retained certificate. You can't ask about it after `expires_at`.

    `stored` is `labels` if no vendor is connected: then only your labels are kept, and not the
    certificate.
    """

    expires_at: str | None
    masked_cert_url: str | None
    share_url: str | None
    previously_retained: bool
    kept: Kept | UnsetType = UNSET
    stored: Literal["labels"] | UnsetType = UNSET


class RetainResult(RetainParameters):
    """The parameters you sent, and the result."""

    results: RetainOutcome | UnsetType = UNSET


class Found(Struct, frozen=True):
    """The terms that the text contains, and those it doesn't, as you sent them."""

    found: list[str]
    not_found: list[str]


class ScansOutcome(Struct):
    """Whether every required term and no forbidden term was found; null if nothing was scanned."""

    success: bool | None
    required: Found
    forbidden: Found


class ScansResult(ScanParameters):
    """The parameters you sent, and the result."""

    result: ScansOutcome | UnsetType = UNSET


class InsightsResult(Struct, omit_defaults=True):
    """The result of the `insights` operation."""

    properties: Properties
    scans: ScansResult | UnsetType = UNSET


class OperationsResponse(Struct, omit_defaults=True):
    """The overall outcome, and the result of each operation you asked for."""

    outcome: Outcome
    reason: str | None
    match_lead: MatchLeadResult | UnsetType = UNSET
    retain: RetainResult | UnsetType = UNSET
    insights: InsightsResult | UnsetType = UNSET
    verify: dict[str, Any] | UnsetType = UNSET


class ValidateResponse(Struct):
    """Whether the id belongs to a certificate."""

    outcome: Literal["success", "failure"]
    reason: str


class ErrorDetail(Struct):
    """What exactly is wrong."""

    detail: str


class ErrorResponse(Struct, omit_defaults=True):
    """Any response other than a 200. `errors` and `message` are present if there is more to say."""

    outcome: Literal["error"]
    reason: str
    errors: ErrorDetail | UnsetType = UNSET
    message: str | UnsetType = UNSET


# The keys of each object of a request, by where the object is.
KEYS: dict[str, frozenset[str]] = {
    "": frozenset(OperationsRequest.__struct_fields__),
    "match_lead": frozenset(MatchLeadParameters.__struct_fields__),
    "retain": frozenset(RetainParameters.__struct_fields__),
    "insights": frozenset(InsightsParameters.__struct_fields__),
    "insights.scans": frozenset(ScanParameters.__struct_fields__),
    "verify": frozenset(VerifyParameters.__struct_fields__),
}
OPERATIONS = tuple(OperationsRequest.__struct_fields__)

decode_request = msgspec.json.Decoder(OperationsRequest).decode
