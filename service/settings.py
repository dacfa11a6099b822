"""Settings, read from the environment and checked before anything starts."""

import os
import re
from collections.abc import Mapping
from email.headerregistry import Address
from email.utils import getaddresses
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import SplitResult, unquote, urlsplit

import msgspec
from email_validator import EmailNotValidError, validate_email

from service.errors import InvalidInput

LogFormat = Literal["console", "json"]


TRUSTEDFORM_URL = "https://cert.trustedform.com"


class TrustedForm(msgspec.Struct, frozen=True):
    """The vendor's Certificate API: its URL, and our key."""

    api_key: str
    url: str = TRUSTEDFORM_URL
    """Without a trailing slash."""
    budget: float = 6.0
    """How many seconds one of our calls may spend waiting for the vendor."""


class DnsServer(msgspec.Struct, frozen=True):
    """A DNS server that resolves names for us; `host` is an IP address."""

    host: str
    port: int = 53

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class Smtp(msgspec.Struct, frozen=True):
    """The server we send email through."""

    host: str
    port: int
    security: Literal["none", "starttls", "tls"]
    user: str | None = None
    password: str | None = None


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Configuration from the environment: the variable `X_Y` sets `x_y`.

    Fields that are structs are set by the variables that start with the struct's name.
    """

    database_url: str | None = None
    """PostgreSQL 15 or newer; None means the embedded server."""
    pooler_url: str | None = None
    """A pooler before it that lends sessions by transaction; None means calls need none."""
    state_dir: Path = Path("var")
    """Where the embedded database and our other files live."""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    public_url: str
    """The URL clients use to reach the service, without a trailing slash."""
    dns_resolvers: tuple[DnsServer, ...] = ()
    """The DNS servers to query; empty means the system's."""
    secret_key: str | None = None
    """The secret behind tokens in emailed links and forms; None means one kept in `state_dir`."""
    smtp: Smtp | None = None
    """None means emails are written to files in `state_dir`."""
    mail_from: str = "confirmed-owner <confirmed-owner@localhost>"
    """The From header of every email, with or without a display name."""
    trustedform: TrustedForm | None = None
    """None means calls are answered only from what is on record here."""
    local_retain: bool = False
    """Whether `retain` without a vendor is offered. It keeps only labels, not the certificate."""
    facts_retention_days: int | None = None
    """How long facts about certificates are kept; None means forever."""
    answers_retention_months: int | None = None
    """How many full months of answers are kept; None means all."""
    log_signing_key: bytes | None = None
    """The Ed25519 seed that signs the log of answers; None means one kept in `state_dir`."""
    log_format: LogFormat = "console"
    access_log: bool = True
    """Whether every request leaves a line in the log."""


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. An empty variable counts as unset.

    Raises `InvalidInput`, which names the variable.
    """
    host = environ.get("HOST") or "127.0.0.1"
    port = _whole_number(environ, "PORT", default=8000, highest=65535)
    public_url = _public_url(environ, f"http://{f'[{host}]' if ':' in host else host}:{port}")
    return Settings(
        database_url=_database_url(environ),
        pooler_url=_pooler_url(environ),
        state_dir=Path(environ.get("STATE_DIR") or "var").absolute(),
        host=host,
        port=port,
        workers=_whole_number(environ, "WORKERS", default=1, highest=256),
        public_url=public_url,
        dns_resolvers=_dns_resolvers(environ),
        secret_key=_secret_key(environ),
        smtp=_smtp(environ),
        mail_from=_mail_from(environ, urlsplit(public_url).hostname or "localhost"),
        trustedform=_trustedform(environ),
        local_retain=_yes_or_no(environ, "LOCAL_RETAIN", default=False),
        access_log=_yes_or_no(environ, "ACCESS_LOG", default=True),
        facts_retention_days=_whole_number_or_none(environ, "FACTS_RETENTION_DAYS", highest=36_500),
        answers_retention_months=_whole_number_or_none(
            environ, "ANSWERS_RETENTION_MONTHS", highest=1200
        ),
        log_signing_key=_log_signing_key(environ),
        log_format=_log_format(environ),
    )


def _yes_or_no(environ: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environ.get(name) or str(default)
    if text.lower() not in ("true", "false"):
        raise InvalidInput(name, text, "true or false")
    return text.lower() == "true"


def _whole_number(environ: Mapping[str, str], name: str, *, default: int, highest: int) -> int:
    given = _whole_number_or_none(environ, name, highest=highest)
    return default if given is None else given


def _whole_number_or_none(environ: Mapping[str, str], name: str, *, highest: int) -> int | None:
    text = environ.get(name)
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and len(text) < 10 and 1 <= int(text) <= highest):
        raise InvalidInput(name, text, f"a whole number from 1 to {highest}")
    return int(text)


def _database_url(environ: Mapping[str, str], name: str = "DATABASE_URL") -> str | None:
    url = environ.get(name)
    if not url:
        return None
    scheme, _, rest = url.partition("://")
    hosts = re.split("[/?#]", rest, maxsplit=1)[0].rpartition("@")[2].split(",")
    if scheme not in ("postgresql", "postgres") or not all(_split(f"//{host}") for host in hosts):
        # The value may hold a password, so repeat only what precedes the first colon.
        raise InvalidInput(name, f"{url.partition(':')[0]}:…", "a postgresql:// URL")
    return url


def _pooler_url(environ: Mapping[str, str]) -> str | None:
    url = _database_url(environ, "POOLER_URL")
    if url is not None and not environ.get("DATABASE_URL"):
        raise InvalidInput("POOLER_URL", "…", "unset, or set together with DATABASE_URL")
    return url


def _split(url: str) -> SplitResult | None:
    """Return the parts of a URL, or None if the URL or its port is invalid."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return None
    return parts if port is None or port > 0 else None


def _public_url(environ: Mapping[str, str], default: str) -> str:
    url = environ.get("PUBLIC_URL") or default
    parts = _split(url)
    if (
        parts is None
        or parts.scheme not in ("http", "https")
        or not parts.hostname
        # Pages link to each other from the root.
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
    ):
        raise InvalidInput("PUBLIC_URL", url, "an http:// or https:// URL without a path")
    return url.rstrip("/")


def _dns_resolvers(environ: Mapping[str, str]) -> tuple[DnsServer, ...]:
    text = environ.get("DNS_RESOLVERS")
    if not text:
        return ()
    resolvers = []
    for each in (part.strip() for part in text.split(",")):
        is_bare = each.count(":") > 1 and "[" not in each
        parts = _split(f"dns://[{each}]" if is_bare else f"dns://{each}")
        try:
            host = str(ip_address((parts and parts.hostname) or ""))
        except ValueError:
            host = ""
        if parts is None or not host or parts.path or parts.query or parts.username is not None:
            raise InvalidInput(
                "DNS_RESOLVERS", each, "IP addresses with or without a port, such as 192.0.2.1:53"
            )
        resolvers.append(DnsServer(host, parts.port or 53))
    return tuple(dict.fromkeys(resolvers))


_SHORTEST_SECRET = 32


def _secret_key(environ: Mapping[str, str]) -> str | None:
    secret = environ.get("SECRET_KEY")
    if secret and len(secret) < _SHORTEST_SECRET:
        # Not repeated, because it is a secret.
        raise InvalidInput("SECRET_KEY", "…", f"{_SHORTEST_SECRET} or more random characters")
    return secret or None


# How each scheme of SMTP_URL is secured, and its default port.
_SMTP_SCHEMES: dict[str, tuple[Literal["none", "starttls", "tls"], int]] = {
    "smtp": ("none", 25),
    "smtp+starttls": ("starttls", 587),
    "smtps": ("tls", 465),
}


def _smtp(environ: Mapping[str, str]) -> Smtp | None:
    url = environ.get("SMTP_URL")
    if not url:
        return None
    parts = _split(url)
    if (
        parts is None
        or parts.scheme not in _SMTP_SCHEMES
        or not parts.hostname
        or parts.path not in ("", "/")
        or parts.query
        or parts.fragment
        # Emails contain links that grant access, so plain SMTP is allowed only to this machine.
        or (parts.scheme == "smtp" and not is_loopback(parts.hostname))
    ):
        # Not repeated in full, because it may hold a password.
        raise InvalidInput(
            "SMTP_URL",
            f"{url.partition(':')[0]}:…",
            "smtps://USER:PASSWORD@HOST, smtp+starttls://… or, on this machine, smtp://HOST",
        )
    security, port = _SMTP_SCHEMES[parts.scheme]
    return Smtp(
        host=parts.hostname,
        port=parts.port or port,
        security=security,
        user=None if parts.username is None else unquote(parts.username),
        password=None if parts.password is None else unquote(parts.password),
    )


def _log_signing_key(environ: Mapping[str, str]) -> bytes | None:
    text = environ.get("LOG_SIGNING_KEY")
    if not text:
        return None
    if not re.fullmatch(r"[0-9a-fA-F]{64}", text):
        # Not repeated, because it is a secret.
        raise InvalidInput("LOG_SIGNING_KEY", "…", "64 hexadecimal digits: openssl rand -hex 32")
    return bytes.fromhex(text)


def mail_domain(host: str) -> str:
    """Return a host as SMTP writes it: an IP address as a literal (RFC 5321, section 4.1.3)."""
    if ":" in host:
        return f"[IPv6:{host}]"
    return f"[{host}]" if re.fullmatch(r"[0-9.]+", host) else host


def _mail_from(environ: Mapping[str, str], host: str) -> str:
    given = environ.get("MAIL_FROM")
    if not given:
        return f"confirmed-owner <confirmed-owner@{mail_domain(host)}>"
    addresses = getaddresses([given])
    name, address = addresses[0]
    try:
        if len(addresses) > 1 or not given.isprintable():
            raise EmailNotValidError
        checked = validate_email(
            # Not every mail server takes an address with other characters before the “@”.
            address,
            allow_smtputf8=False,
            check_deliverability=False,
            test_environment=True,
        )
    except EmailNotValidError:
        raise InvalidInput(
            "MAIL_FROM", given, "one email address in ASCII, or “Name <address>”"
        ) from None
    return str(Address(display_name=name, addr_spec=checked.ascii_email))


def _trustedform(environ: Mapping[str, str]) -> TrustedForm | None:
    api_key = environ.get("TRUSTEDFORM_API_KEY")
    url = environ.get("TRUSTEDFORM_URL") or TRUSTEDFORM_URL
    parts = _split(url)
    if (
        parts is None
        or not parts.hostname
        # Every call carries the key, so plain HTTP is allowed only to this machine.
        or not (parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname)))
        or parts.username is not None
        or parts.query
        or parts.fragment
    ):
        # Not repeated in full, because it may hold a password.
        shown = url if "@" not in url else f"{url.partition(':')[0]}:…"
        raise InvalidInput("TRUSTEDFORM_URL", shown, "an https:// URL without a user or query")
    if not api_key:
        return None
    if not (api_key.isascii() and api_key.isprintable()):
        # Not repeated, because it is a secret.
        raise InvalidInput("TRUSTEDFORM_API_KEY", "…", "printable ASCII characters")
    return TrustedForm(api_key, url.rstrip("/"))


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a host: `localhost`, or a loopback address."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _log_format(environ: Mapping[str, str]) -> LogFormat:
    text = environ.get("LOG_FORMAT") or "console"
    if text not in get_args(LogFormat):
        raise InvalidInput("LOG_FORMAT", text, " or ".join(get_args(LogFormat)))
    return cast("LogFormat", text)
