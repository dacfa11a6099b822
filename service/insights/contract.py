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

MALFORMED_ID = "Malformed certificate id"
SCHEMA = "The request cannot be processed because it does not meet the expected schema."
NO_PRODUCTS = "No valid products detected"
INVALID_PROPERTIES = "Invalid property key(s) requested"

_HOSTS = frozenset(
    {"cert.trustedform.com", "cert.staging.trustedform.com", "cert.trustedform-dev.com"}
)
_LONG_ID = re.compile(r"[-_A-Za-z0-9]{40}(?:[-_A-Za-z0-9]{40})?")
# What follows “0.” in a Meta id is not published, and the vendor's own client accepts anything; a
# slash would make two segments of a path out of it.
_META_ID = re.compile(r"0\.[!-.0-~]+")
_WEB_ID = re.compile(r"[0-9a-f]{40}")


def checked_cert_id(text: str) -> str:
    """A well-formed certificate id, as it is. Raises `InvalidCertificateId`."""
    if _LONG_ID.fullmatch(text) or (len(text) <= MAX_CERT_ID and _META_ID.fullmatch(text)):
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


class InsightsParameters(Struct):
    """What to tell about the certificate."""

    properties: list[Annotated[str, Meta(extra_json_schema={"enum": sorted(PROPERTIES)})]]
    scans: dict[str, Any] | None = None


class OperationsRequest(Struct):
    """The operations to perform on one certificate. Only `insights` is offered so far."""

    insights: InsightsParameters | None = None
    match_lead: dict[str, Any] | None = None
    retain: dict[str, Any] | None = None
    verify: dict[str, Any] | None = None


class InsightsResult(Struct):
    """What the `insights` operation found."""

    properties: Properties


class OperationsResponse(Struct):
    """The outcome of all operations, and the result of each."""

    outcome: Outcome
    reason: str | None
    insights: InsightsResult


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
