"""What can be known about a certificate: its id, its kind, its properties, and for how long.

Names and types of the properties come from the vendor's OpenAPI document.
"""

import re
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Annotated, Any, Literal, TypeAlias
from urllib.parse import urlsplit
from uuid import UUID

import msgspec
from msgspec import UNSET, Meta, Struct, UnsetType

from service.errors import InvalidCertificateId

Kind: TypeAlias = Literal["web", "mobile", "meta"]
MAX_CERT_ID = 255
# What the vendor's own clients take for its hosts. Ping URLs belong to web certificates.
_PING_HOST = "ping.trustedform.com"
_HOSTS = frozenset(
    {
        "cert.trustedform.com",
        "cert.staging.trustedform.com",
        "cert.trustedform-dev.com",
        "cert.trustedform-staging.com",
        _PING_HOST,
    }
)
# The vendor doesn't publish what follows “0.”, and its own client accepts anything. We take what a
# path segment can hold (RFC 3986, section 3.3), but no comma, which separates certificates.
CERT_ID = r"[-_A-Za-z0-9]{40}(?:[-_A-Za-z0-9]{40})?|0\.[-._~A-Za-z0-9!$&'()*+;=:@%]{1,253}"
_CERT_ID = re.compile(CERT_ID)
_HEX_ID = re.compile(r"[0-9a-fA-F]{40}")
# A URL in the path of a request: servers and proxies may have merged its slashes.
_URL_IN_PATH = re.compile(
    rf"/(?:https?:/{{1,2}})?(?P<host>{'|'.join(map(re.escape, sorted(_HOSTS)))})/(?P<rest>[^?]*)",
    re.IGNORECASE,
)


def checked_cert_id(text: str) -> str:
    """Return a certificate id in its one form: trimmed, and a hexadecimal one in lowercase.

    Mobile ids of the same length have letters of either case, and keep them. Of a list separated by
    commas, as forms send it, the first id counts. Raises `InvalidCertificateId`.
    """
    first = text.partition(",")[0].strip()
    if not _CERT_ID.fullmatch(first):
        raise InvalidCertificateId(text)
    return first.lower() if _HEX_ID.fullmatch(first) else first


def cert_id_of_url(url: str) -> tuple[str, Kind | None]:
    """Return the id in a certificate URL on one of the vendor's hosts, and what its host tells.

    Allows http, a trailing slash, and a list separated by commas, of which the first URL counts. A
    ping URL is a web certificate's. Raises `InvalidCertificateId`.
    """
    try:
        parts = urlsplit(url.partition(",")[0].strip())
        is_theirs = parts.scheme in ("http", "https") and parts.netloc.lower() in _HOSTS
    except ValueError:
        is_theirs = False
    if not is_theirs:
        raise InvalidCertificateId(url, field="cert_url")
    try:
        cert_id = checked_cert_id(parts.path.removeprefix("/").removesuffix("/"))
    except InvalidCertificateId:
        raise InvalidCertificateId(url, field="cert_url") from None
    return cert_id, "web" if parts.netloc.lower() == _PING_HOST else None


def without_vendor_host(path: str) -> str:
    """Return a request's path, without the vendor's host if the path is a certificate URL.

    Buyers often put the whole URL of a certificate where its id belongs.
    """
    in_path = _URL_IN_PATH.fullmatch(path)
    if in_path is None:
        return path
    cert_id, _, rest = in_path["rest"].partition(",")[0].strip().removesuffix("/").partition("/")
    try:
        checked_cert_id(cert_id)
    except InvalidCertificateId:
        return path
    # Nothing else may be reached in disguise.
    return {"": f"/{cert_id}", "validate": f"/{cert_id}/validate"}.get(rest, path)


def kind_told_by(path: str) -> Kind | None:
    """Return the kind of certificate that a request's path tells: a ping URL is a web one's."""
    in_path = _URL_IN_PATH.fullmatch(path)
    return "web" if in_path and in_path["host"].lower() == _PING_HOST else None


def kinds_of(cert_id: str) -> tuple[Kind, ...]:
    """Return the kinds of certificate an id suggests, likelier first."""
    if cert_id.startswith("0."):
        return ("meta",)
    if len(cert_id) == 80:
        return ("mobile",)
    return ("web", "mobile") if _HEX_ID.fullmatch(cert_id) else ("mobile", "web")


def can_be(cert_id: str, kind: Kind) -> bool:
    """Whether an id can be that of a certificate of this kind: a ping URL's looks like Meta's."""
    return kind in kinds_of(cert_id) or (kind == "web" and cert_id.startswith("0."))


# How much may be on record of one certificate. Many times what any real one has, and little enough
# that a statement which reads a hundred of them stays quick.
MAX_FINGERPRINTS = 500
MAX_PAGE_TEXT = 1_000_000
MAX_FACTS = 32 * 1024

Word: TypeAlias = Annotated[str, Meta(max_length=100)]
Line: TypeAlias = Annotated[str, Meta(max_length=1000)]


class Version(Struct, omit_defaults=True):
    """A version number and its parts."""

    full: Word | None = None
    major: Word | None = None
    minor: Word | None = None
    patch: Word | None = None


class Browser(Struct, omit_defaults=True):
    """The consumer's browser, from its user agent."""

    full: Line | None = None
    name: Line | None = None
    user_agent: Annotated[str, Meta(max_length=8192)] | None = None
    version: Version | None = None


class OperatingSystem(Struct, omit_defaults=True):
    """The consumer's operating system, from its user agent."""

    full: Line | None = None
    is_mobile: bool | None = None
    name: Line | None = None
    version: Version | None = None


class Place(Struct):
    """Where the consumer was, as far as the IP address tells."""

    city: Line | None = None
    country_code: Word | None = None
    lat: float | None = None
    lon: float | None = None
    postal_code: Word | None = None
    state: Line | None = None
    time_zone: Word | None = None


Count: TypeAlias = Annotated[float, Meta(ge=0, le=1e9)]
Time: TypeAlias = Annotated[datetime, Meta(tz=True)]
HostText: TypeAlias = Annotated[str, Meta(max_length=1024)]
UrlText: TypeAlias = Annotated[str, Meta(max_length=8192)]


class Facts(Struct, omit_defaults=True):
    """The properties recorded about a certificate."""

    approx_ip_geo: Place | None | UnsetType = UNSET
    bot_detected: bool | None | UnsetType = UNSET
    browser: Browser | None | UnsetType = UNSET
    created_at: Time | None | UnsetType = UNSET
    domain: HostText | None | UnsetType = UNSET
    expires_at: Time | None | UnsetType = UNSET
    form_input_kpm: Count | None | UnsetType = UNSET
    # Published are “autofill”, “paste”, “typing”, and “pre-populated”. The vendor sends further ones.
    form_input_method: list[Word] | None | UnsetType = UNSET
    form_input_wpm: Count | None | UnsetType = UNSET
    ip: Word | None | UnsetType = UNSET
    is_framed: bool | None | UnsetType = UNSET
    is_masked: bool | None | UnsetType = UNSET
    num_sensitive_content_elements: Count | None | UnsetType = UNSET
    num_sensitive_form_elements: Count | None | UnsetType = UNSET
    os: OperatingSystem | None | UnsetType = UNSET
    page_url: UrlText | None | UnsetType = UNSET
    parent_page_url: UrlText | None | UnsetType = UNSET
    seconds_on_page: Count | None | UnsetType = UNSET
    # Not published yet: the vendor sends it.
    session_replay_status: Any | UnsetType = UNSET


# Recorded separately from the other facts, or computed from what is recorded.
NOT_AMONG_FACTS = frozenset({"age_seconds", "created_at", "expires_at", "seconds_on_page"})


_META_FACTS = frozenset({"age_seconds", "created_at", "expires_at"})
_MOBILE_FACTS = _META_FACTS | {"approx_ip_geo", "ip", "is_masked", "os", "seconds_on_page"}
# The properties each kind of certificate has.
FACTS_OF: dict[str, frozenset[str]] = {
    "web": frozenset(Facts.__struct_fields__) | NOT_AMONG_FACTS,
    "mobile": _MOBILE_FACTS,
    "meta": _META_FACTS,
}

# The longest that a certificate can be asked about. In every published sample, `expires_at` is 93 days
# after `created_at`.
LONGEST_WINDOW = timedelta(days=93)
# The properties that can still change while a certificate is young, how long it is young, and how
# long such a value stays true in that time.
MOVING = frozenset({"age_seconds", "expires_at", "seconds_on_page"})
SETTLED_AFTER = timedelta(days=1)
TRUSTED_FOR = timedelta(minutes=15)


class Usage(msgspec.Struct, frozen=True):
    """How many certificates an account has on record, and how many bytes about them."""

    certificates: int
    bytes: int


class PageText(msgspec.Struct, frozen=True):
    """The text recorded on a certificate, `length` characters long; omitted if it is too long."""

    revision: int
    length: int | None
    text: str | None


class Certificate(msgspec.Struct, frozen=True):
    """A certificate as recorded. None means unknown, or not recorded yet.

    `facts` are the properties without a column of their own.
    """

    cert_id: str
    imported_by: UUID | None
    kind: Kind
    account_id: UUID | None = None
    host: str | None = None
    covering_names: Sequence[str] | None = None
    suffix_list: str | None = None
    created_at: datetime | None = None
    expires_at: datetime | None = None
    seconds_on_page: float | None = None
    last_event_at: datetime | None = None
    fetched_at: datetime | None = None
    facts: dict[str, object] = {}
    known: Sequence[str] = ()
    page_text: str | None = None
    fingerprints: Sequence[str] | None = None
    recorded_at: datetime | None = None
    revision: int | None = None
