"""The errors that callers can see, as one tree. Modules with errors of their own add to it.

ServiceError
├── InvalidInput          a value can't be used: field, value, and what is expected
│   ├── MissingInput
│   ├── UnknownInput
│   ├── InvalidHostname
│   │   ├── NotAHostname
│   │   │   └── UrlNotHostname
│   │   ├── IPAddressHost
│   │   ├── SingleLabelHost
│   │   ├── UnknownSuffixHost
│   │   ├── PublicSuffixHost
│   │   └── PrivateSuffixHost
│   ├── InvalidCertificateId
│   └── InvalidName
├── UnacceptableBody      the request's body as a whole
│   ├── MalformedBody
│   ├── UnsupportedMediaType
│   ├── BodyTooLarge
│   ├── BodyTooSlow
│   └── SchemaViolation
├── ProductUnavailable    an operation this service does not offer
├── NotFound              nothing of that kind has that identifier
├── Conflict              the current state forbids it
│   └── NoLongerOpen      it was open once, and has ended
├── LimitReached          too often in this hour or day
├── TooManyCalls          more at once than the caller's share
├── Forbidden             the caller may not do that
├── Unauthorized          no API key, or an unknown one
├── InactiveAccount       the key is known, but its account is suspended
├── CertificateNotFound   unknown, or past its window
├── Refused               it can't be done with this certificate, or there are no funds
│   ├── PaymentRequired
│   ├── NotClaimable
│   └── Unprocessable
├── VendorFailed          the vendor can't be reached, or its answer makes no sense
│   └── VendorTimedOut
└── Unavailable           try again: overloaded, or the database or vendor can't be reached
    ├── Overloaded        more at once than this process takes, whoever sends it
    └── TookTooLong       the database was stopped at it: maybe this very question is the reason
"""

from collections.abc import Sequence

SHOWN = 80


def shorten(value: str) -> str:
    """Return `value` for an error message: printable, and cut to at most `SHOWN` characters."""
    printable = value if value.isprintable() else repr(value)[1:-1]
    return printable if len(printable) <= SHOWN else printable[: SHOWN - 1] + "…"


class ServiceError(Exception):
    """The root of the tree. `str()` of any of these is safe to show to the caller."""


class InvalidInput(ServiceError):
    """A value that can't be used.

    `field` is where it was given (dotted if nested), `value` is what was given, shortened,
    `expected` completes "must be …", and `problem` is what follows the field's name.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = shorten(value if isinstance(value, str) else repr(value))
        self.problem = f"must be {expected}"
        super().__init__(f"{field} {self.problem}, not “{self.value}”")


class MissingInput(InvalidInput):
    """A required value that is missing."""

    def __init__(self, field: str, problem: str = "is required") -> None:
        self.field, self.value, self.problem = field, "", problem
        ServiceError.__init__(self, f"{field} {problem}")


class UnknownInput(InvalidInput):
    """A field or parameter that doesn't exist. Ignoring it would hide a misspelled one."""

    def __init__(self, field: str, kind: str, known: Sequence[str] = ()) -> None:
        self.field = self.value = shorten(field)
        self.problem = f"is not a {kind}" + (f"; use {', '.join(known)}" if known else "")
        ServiceError.__init__(self, f"{self.field} {self.problem}")


class InvalidHostname(InvalidInput):
    """Text that doesn't name a host a company could own."""

    expected_hostname = "a host name"

    def __init__(self, value: str) -> None:
        super().__init__("domain", value, self.expected_hostname)


class NotAHostname(InvalidHostname):
    """Not a DNS name at all: empty labels, forbidden characters, too long, or a URL."""

    expected_hostname = "a host name such as www.example.com"


class UrlNotHostname(NotAHostname):
    """A URL. The message names the host in it."""

    def __init__(self, value: str, host: str) -> None:
        self.expected_hostname = f"only the host name: {host}"
        super().__init__(value)


class IPAddressHost(InvalidHostname):
    """An IP address. Addresses have no owner here."""

    expected_hostname = "a host name, not an IP address"


class SingleLabelHost(InvalidHostname):
    """A single label, such as `localhost`. No one can own it."""

    expected_hostname = "a host name with at least two labels, such as example.com"


class UnknownSuffixHost(InvalidHostname):
    """A name that is not below any public suffix in the DNS."""

    expected_hostname = "a host name below a public suffix, such as example.com"


class PublicSuffixHost(InvalidHostname):
    """A public suffix, under which others register their own names."""

    expected_hostname = "a name below a public suffix, such as example.co.uk"


class PrivateSuffixHost(InvalidHostname):
    """A suffix in the Public Suffix List's PRIVATE division, claimed with its subdomains."""

    expected_hostname = "claimed without its subdomains: they belong to others"


class InvalidCertificateId(InvalidInput):
    """Neither a certificate id nor a certificate URL on the vendor's hosts."""

    def __init__(self, value: str, field: str = "cert_id") -> None:
        form = "40 or 80 characters of A-Z a-z 0-9 - _, or begin with “0.”"
        url = f"a certificate URL of the vendor's, ending in an id: {form}"
        super().__init__(field, value, url if field == "cert_url" else form)


class InvalidName(InvalidInput):
    """An account name that could deceive those who see it."""

    def __init__(self, value: str, expected: str) -> None:
        super().__init__("name", value, expected)


class UnacceptableBody(ServiceError):
    """A request body that can't be read. `detail` says what is wrong with it."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class MalformedBody(UnacceptableBody):
    """Not JSON at all."""


class UnsupportedMediaType(UnacceptableBody):
    """The declared content type is not one that this resource accepts."""


class BodyTooLarge(UnacceptableBody):
    """Longer than this resource accepts."""


class BodyTooSlow(UnacceptableBody):
    """It takes longer to arrive than its size allows."""


class SchemaViolation(UnacceptableBody):
    """JSON that doesn't match the published schema. `reason` is the published text for it."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class ProductUnavailable(ServiceError):
    """An operation of the Certificate API that is not offered. `str()` is the published reason."""

    def __init__(self, detail: str, reason: str = "Unavailable product requested") -> None:
        self.detail = detail
        super().__init__(reason)


class NotFound(ServiceError):
    """Nothing of this `kind` has this `identifier`."""

    def __init__(self, kind: str, identifier: str) -> None:
        super().__init__(f"{kind} “{shorten(identifier)}” not found")


class InvalidLink(NotFound):
    """A mailed link that leads to nothing; the link itself is a secret, so it isn't repeated."""

    def __init__(self, why: str) -> None:
        ServiceError.__init__(self, why)


class Conflict(ServiceError):
    """The request is well formed, but the current state forbids it."""


class NoLongerOpen(Conflict):
    """An invitation or link that was used, canceled, or replaced, or has expired."""


class LimitReached(ServiceError):
    """A limit is used up. `retry_after` is in whole seconds.

    `limit` names it, if the caller may know.
    """

    def __init__(self, retry_after: int, limit: str | None = None) -> None:
        self.retry_after = retry_after
        hours, minutes = divmod(-(-retry_after // 60), 60)
        when = f"{hours} h {minutes} min" if hours else f"{minutes} min"
        super().__init__(f"you've reached {limit or 'a limit'}; try again in {when}")


class TooManyCalls(ServiceError):
    """The caller already has as many calls in progress as it may. Others are not affected."""

    retry_after = 1


class Forbidden(ServiceError):
    """The caller may not do that, signed in or not."""


class Unauthorized(ServiceError):
    """No API key was given, or it is unknown or revoked."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class InactiveAccount(ServiceError):
    """The API key is valid, but its account is suspended."""

    def __init__(self) -> None:
        super().__init__("Account is inactive")


class CertificateNotFound(ServiceError):
    """The certificate is unknown here, or past its window. Like the vendor, we don't say which."""

    def __init__(self) -> None:
        super().__init__("TrustedForm certificate has expired or could not be found")


class Refused(ServiceError):
    """The request is well formed but can't be done. `str()` is the published reason."""

    def __init__(self, reason: str, detail: str | None = None) -> None:
        self.detail = detail
        super().__init__(reason)


class PaymentRequired(Refused):
    """This service's account with the vendor is inactive or out of funds."""


class NotClaimable(Refused):
    """The certificate is sandboxed."""


class Unprocessable(Refused):
    """The operations can't be run on this certificate."""


class VendorFailed(ServiceError):
    """The vendor gave no usable answer."""


class VendorTimedOut(VendorFailed):
    """The vendor took too long."""


class Unavailable(ServiceError):
    """No answer is available right now. `retry_after` is in whole seconds."""

    def __init__(self, why: str, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(why)


class Overloaded(Unavailable):
    """This process has as much to do at once as it takes, whoever sends it."""


class TookTooLong(Unavailable):
    """The database gave up a statement that ran for too long."""


_STATUSES: dict[type[ServiceError], int] = {
    InvalidInput: 422,
    InvalidCertificateId: 400,
    MalformedBody: 400,
    UnsupportedMediaType: 415,
    BodyTooLarge: 413,
    BodyTooSlow: 408,
    SchemaViolation: 400,
    ProductUnavailable: 403,
    NotFound: 404,
    Conflict: 409,
    LimitReached: 429,
    TooManyCalls: 429,
    Forbidden: 403,
    Unauthorized: 401,
    InactiveAccount: 402,
    CertificateNotFound: 404,
    PaymentRequired: 402,
    NotClaimable: 405,
    Unprocessable: 422,
    VendorFailed: 502,
    VendorTimedOut: 504,
    Unavailable: 503,
}


_CODES: dict[type[ServiceError], str] = {
    InvalidInput: "invalid_value",
    MissingInput: "missing_value",
    UnknownInput: "unknown_field",
    InvalidHostname: "invalid_host_name",
    InvalidName: "invalid_name",
    InvalidCertificateId: "invalid_certificate_id",
    MalformedBody: "malformed_body",
    UnsupportedMediaType: "unsupported_media_type",
    BodyTooLarge: "body_too_large",
    BodyTooSlow: "body_too_slow",
    NotFound: "not_found",
    Conflict: "conflict",
    NoLongerOpen: "no_longer_open",
    LimitReached: "limit_reached",
    CertificateNotFound: "certificate_not_found",
    Refused: "refused",
    TooManyCalls: "too_many_calls",
    Forbidden: "forbidden",
    Unauthorized: "unauthorized",
    InactiveAccount: "inactive_account",
    VendorFailed: "vendor_failed",
    VendorTimedOut: "vendor_timed_out",
    Unavailable: "unavailable",
}
INTERNAL_ERROR = "internal_error"


def error_code(error: ServiceError) -> str:
    """Return the stable code of an error, for programs to branch on. Each is in the guide to errors."""
    return next((_CODES[kind] for kind in type(error).__mro__ if kind in _CODES), INTERNAL_ERROR)


def http_status(error: ServiceError) -> int:
    """Return an error's HTTP status, or 500 for one that should never reach a client."""
    return next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)


def http_headers(error: ServiceError) -> dict[str, str]:
    """Return the headers that go with the error's status."""
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": 'Basic realm="API key as the password", charset="UTF-8"'}
    if isinstance(error, Unavailable | LimitReached | TooManyCalls):
        return {"Retry-After": str(error.retry_after)}
    return {}
