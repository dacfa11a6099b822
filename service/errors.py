"""What callers can be told of, as one tree. Modules that can fail in ways of their own add to it.

ServiceError
├── InvalidInput          what was sent can't be used: field, value, and what would be right
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
│   └── SchemaViolation
├── ProductUnavailable    an operation this service does not offer
├── NotFound              nothing of that kind has that identifier
├── Conflict              the state of things forbids it
│   └── NoLongerOpen      it was open for a while, and has ended
├── LimitReached          that was done often enough for this hour, or day
├── Forbidden             whoever asks may not do that
├── Unauthorized          no API key, or one that is not known
├── InactiveAccount       the key is known, its account is suspended
├── CertificateNotFound   unknown, or past its window
├── Refused               it can't be done with this certificate, or for want of means
│   ├── PaymentRequired
│   ├── NotClaimable
│   └── Unprocessable
├── VendorFailed          the vendor behind us can't be reached, or makes no sense
│   └── VendorTimedOut
└── Unavailable           try again: saturated, or the database or the vendor is out of reach
"""

from collections.abc import Sequence

SHOWN = 80


def shorten(value: str) -> str:
    """`value` in printable characters, cut to at most `SHOWN` of them, for an error message."""
    printable = value if value.isprintable() else repr(value)[1:-1]
    return printable if len(printable) <= SHOWN else printable[: SHOWN - 1] + "…"


class ServiceError(Exception):
    """The root of the tree. `str()` of any of these is fit to be shown to whoever caused it."""


class InvalidInput(ServiceError):
    """A value that can't be used.

    `field` is where it was given (dotted for nested fields), `value` what was given, cut short,
    `expected` a phrase that completes "must be …", and `problem` what follows the field's name.
    """

    def __init__(self, field: str, value: object, expected: str) -> None:
        self.field = field
        self.value = shorten(value if isinstance(value, str) else repr(value))
        self.problem = f"must be {expected}"
        super().__init__(f"{field} {self.problem}, not “{self.value}”")


class MissingInput(InvalidInput):
    """A value that has to be given, and is not."""

    def __init__(self, field: str, problem: str = "is required") -> None:
        self.field, self.value, self.problem = field, "", problem
        ServiceError.__init__(self, f"{field} {problem}")


class UnknownInput(InvalidInput):
    """A field or parameter that does not exist; a misspelled one would otherwise have no effect."""

    def __init__(self, field: str, kind: str, known: Sequence[str] = ()) -> None:
        self.field = self.value = shorten(field)
        self.problem = f"is not a {kind}" + (f"; use {', '.join(known)}" if known else "")
        ServiceError.__init__(self, f"{self.field} {self.problem}")


class InvalidHostname(InvalidInput):
    """A text that names no host a company could own."""

    expected_hostname = "a host name"

    def __init__(self, value: str) -> None:
        super().__init__("domain", value, self.expected_hostname)


class NotAHostname(InvalidHostname):
    """Not a DNS name at all: empty labels, forbidden characters, too long, an URL."""

    expected_hostname = "a host name such as www.example.com"


class UrlNotHostname(NotAHostname):
    """A URL; the host in it is told."""

    def __init__(self, value: str, host: str) -> None:
        self.expected_hostname = f"only the host name: {host}"
        super().__init__(value)


class IPAddressHost(InvalidHostname):
    """An IP address: addresses have no owner here."""

    expected_hostname = "a host name, not an IP address"


class SingleLabelHost(InvalidHostname):
    """One label, such as `localhost`: nobody can own it."""

    expected_hostname = "a host name with at least two labels, such as example.com"


class UnknownSuffixHost(InvalidHostname):
    """A name below no suffix that there is in the public DNS."""

    expected_hostname = "a host name below a public suffix, such as example.com"


class PublicSuffixHost(InvalidHostname):
    """A public suffix, under which others register names of their own."""

    expected_hostname = "a name below a public suffix, such as example.co.uk"


class PrivateSuffixHost(InvalidHostname):
    """A suffix of the list's PRIVATE division, claimed with what is below it."""

    expected_hostname = "claimed without its subdomains: they belong to others"


class InvalidCertificateId(InvalidInput):
    """Neither a certificate id nor a certificate URL on the vendor's hosts."""

    def __init__(self, value: str, field: str = "cert_id") -> None:
        form = "40 or 80 characters of A-Z a-z 0-9 - _, or begin with “0.”"
        url = f"a certificate URL of the vendor's, ending in an id: {form}"
        super().__init__(field, value, url if field == "cert_url" else form)


class InvalidName(InvalidInput):
    """An account name that could deceive those it is shown to."""

    def __init__(self, value: str, expected: str) -> None:
        super().__init__("name", value, expected)


class UnacceptableBody(ServiceError):
    """A request body that can't be read as what it should be; `detail` says what is wrong with it."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__(detail)


class MalformedBody(UnacceptableBody):
    """Not JSON at all."""


class UnsupportedMediaType(UnacceptableBody):
    """Not declared to be what this resource takes."""


class BodyTooLarge(UnacceptableBody):
    """Longer than this resource takes."""


class SchemaViolation(UnacceptableBody):
    """JSON, but not of the published shape. `reason` is the published text for it."""

    def __init__(self, reason: str, detail: str) -> None:
        self.reason = reason
        super().__init__(detail)


class ProductUnavailable(ServiceError):
    """An operation of the Certificate API that this service does not offer."""

    def __init__(self, detail: str) -> None:
        self.detail = detail
        super().__init__("Unavailable product requested")


class NotFound(ServiceError):
    """Nothing of this `kind` has this `identifier`."""

    def __init__(self, kind: str, identifier: str) -> None:
        super().__init__(f"no {kind} “{shorten(identifier)}”")


class Conflict(ServiceError):
    """What was asked is well formed, and the state of things forbids it."""


class NoLongerOpen(Conflict):
    """An invitation or a link that has been used, withdrawn or replaced, or has expired."""


class LimitReached(ServiceError):
    """That was done as often as an hour or a day allows. `retry_after` is in whole seconds."""

    def __init__(self, retry_after: int) -> None:
        self.retry_after = retry_after
        hours, minutes = divmod(-(-retry_after // 60), 60)
        when = f"{hours} h {minutes} min" if hours else f"{minutes} min"
        super().__init__(f"you reached the limit; try again in {when}")


class Forbidden(ServiceError):
    """Whoever asks is known, or not, and may in either case not do that."""


class Unauthorized(ServiceError):
    """No API key was given, or it is unknown or revoked."""

    def __init__(self) -> None:
        super().__init__("Unauthorized")


class InactiveAccount(ServiceError):
    """The API key is good, but its account is suspended."""

    def __init__(self) -> None:
        super().__init__("Account is inactive")


class CertificateNotFound(ServiceError):
    """The certificate is unknown here, or past its window; the vendor tells the two apart neither."""

    def __init__(self) -> None:
        super().__init__("TrustedForm certificate has expired or could not be found")


class Refused(ServiceError):
    """What was asked is well formed and can't be done; `str()` is the reason published for that."""

    def __init__(self, reason: str, detail: str | None = None) -> None:
        self.detail = detail
        super().__init__(reason)


class PaymentRequired(Refused):
    """The account that this service has with the vendor is inactive or out of funds."""


class NotClaimable(Refused):
    """A sandboxed certificate."""


class Unprocessable(Refused):
    """The operations can't be run on this certificate."""


class VendorFailed(ServiceError):
    """The vendor behind us gave no answer that can be used."""


class VendorTimedOut(VendorFailed):
    """The vendor behind us took too long."""


class Unavailable(ServiceError):
    """The question could not be answered now. `retry_after` is in whole seconds."""

    def __init__(self, why: str, retry_after: int = 1) -> None:
        self.retry_after = retry_after
        super().__init__(why)


_STATUSES: dict[type[ServiceError], int] = {
    InvalidInput: 422,
    InvalidCertificateId: 400,
    MalformedBody: 400,
    UnsupportedMediaType: 415,
    BodyTooLarge: 413,
    SchemaViolation: 422,
    ProductUnavailable: 403,
    NotFound: 404,
    Conflict: 409,
    LimitReached: 429,
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


def http_status(error: ServiceError) -> int:
    """The HTTP status that tells a client of this error; 500 for what should never reach one."""
    return next((_STATUSES[kind] for kind in type(error).__mro__ if kind in _STATUSES), 500)


def http_headers(error: ServiceError) -> dict[str, str]:
    """The headers that go with that status."""
    if isinstance(error, Unauthorized):
        return {"WWW-Authenticate": 'Basic realm="API key as the password", charset="UTF-8"'}
    if isinstance(error, Unavailable | LimitReached):
        return {"Retry-After": str(error.retry_after)}
    return {}
