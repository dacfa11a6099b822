"""The Certificate API v4 as the vendor publishes it: ids, requests, responses, texts.

The vendor's OpenAPI document is the source of names and types; what it leaves open is said where
it is decided. Absent and null are told apart by `UNSET`.
"""

from typing import Annotated, Any, Literal, TypeAlias

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service.accounts.names import Status
from service.certificates.facts import FACTS_OF, Facts, Kind

Outcome: TypeAlias = Literal["success", "failure", "error"]

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


def values_of(given: str | list[str] | UnsetType | None) -> list[str]:
    """What was given as one value or several, as a list."""
    if not given:
        return []
    return [given] if isinstance(given, str) else given


class ConfirmedOwnerDetail(Struct):
    """`confirmed_owner` for programs. What identifies the owner is there only if it may be named."""

    status: Status
    domain: str | None
    answer_id: str
    covered_by: str | None = None
    owner_account_id: str | None = None
    verified_at: str | None = None


OptInType: TypeAlias = Literal["manual", "pre-selected", "non-interactive"]


class Properties(Facts):
    """What an `insights` operation returns: the properties that were asked for, no others."""

    age_seconds: int | None | UnsetType = UNSET
    confirmed_owner: str | None | UnsetType = UNSET
    confirmed_owner_detail: ConfirmedOwnerDetail | UnsetType = UNSET


PROPERTIES = frozenset(Properties.__struct_fields__)
OWNER_PROPERTIES = frozenset({"confirmed_owner", "confirmed_owner_detail"})

# The properties that certificates of a kind have; the others are answered null.
PROPERTIES_OF: dict[str, frozenset[str]] = {
    kind: facts | OWNER_PROPERTIES for kind, facts in FACTS_OF.items()
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
