"""Settings, read from the environment and checked before anything starts."""

import os
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from typing import Literal, cast, get_args
from urllib.parse import SplitResult, urlsplit

import msgspec

from service.errors import InvalidInput

LogFormat = Literal["console", "json"]


TRUSTEDFORM_URL = "https://cert.trustedform.com"


class TrustedForm(msgspec.Struct, frozen=True):
    """The vendor behind us: where its Certificate API is, and our key to it."""

    api_key: str
    url: str = TRUSTEDFORM_URL
    """Without a trailing slash."""
    budget: float = 6.0
    """How many seconds may be waited for it within one call of ours."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is told from outside: `x_y` by the environment variable `X_Y`, and what is in a
    struct of its own by the variables that begin with the struct's name."""

    database_url: str | None = None
    """A PostgreSQL 15 or newer; None means the embedded one."""
    state_dir: Path = Path("var")
    """Where the embedded database and other files of ours live."""
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    public_url: str
    """How clients reach the service, without a trailing slash."""
    trustedform: TrustedForm | None = None
    """None means that only what is on record here can be answered."""
    facts_retention_days: int | None = None
    """How long facts about certificates are kept; None means without end."""
    log_format: LogFormat = "console"


def load_settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """Read the settings. An empty variable counts as unset.

    Raises `InvalidInput` that names the variable.
    """
    host = environ.get("HOST") or "127.0.0.1"
    port = _whole_number(environ, "PORT", default=8000, highest=65535)
    return Settings(
        database_url=_database_url(environ),
        state_dir=Path(environ.get("STATE_DIR") or "var").absolute(),
        host=host,
        port=port,
        workers=_whole_number(environ, "WORKERS", default=1, highest=256),
        public_url=_public_url(environ, f"http://{f'[{host}]' if ':' in host else host}:{port}"),
        trustedform=_trustedform(environ),
        facts_retention_days=_whole_number_or_none(environ, "FACTS_RETENTION_DAYS", highest=36_500),
        log_format=_log_format(environ),
    )


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


def _database_url(environ: Mapping[str, str]) -> str | None:
    url = environ.get("DATABASE_URL")
    if not url:
        return None
    parts = _split(url)
    if parts is None or parts.scheme not in ("postgresql", "postgres"):
        # The value may hold a password, so only what stands before the first colon is repeated.
        raise InvalidInput("DATABASE_URL", f"{url.partition(':')[0]}:…", "a postgresql:// URL")
    return url


def _split(url: str) -> SplitResult | None:
    """The parts of a URL whose port is a number; None if it can't be one."""
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
        or parts.query
        or parts.fragment
    ):
        raise InvalidInput("PUBLIC_URL", url, "an http:// or https:// URL")
    return url.rstrip("/")


def _trustedform(environ: Mapping[str, str]) -> TrustedForm | None:
    api_key = environ.get("TRUSTEDFORM_API_KEY")
    url = environ.get("TRUSTEDFORM_URL") or TRUSTEDFORM_URL
    parts = _split(url)
    if (
        parts is None
        or not parts.hostname
        # The key goes with every call, so in the clear only to this machine.
        or not (
            parts.scheme == "https" or (parts.scheme == "http" and _is_loopback(parts.hostname))
        )
        or parts.username is not None
        or parts.query
        or parts.fragment
    ):
        # It may hold a password.
        shown = url if "@" not in url else f"{url.partition(':')[0]}:…"
        raise InvalidInput("TRUSTEDFORM_URL", shown, "an https:// URL without user or query")
    if not api_key:
        return None
    if not (api_key.isascii() and api_key.isprintable()):
        # Not repeated: it is a secret.
        raise InvalidInput("TRUSTEDFORM_API_KEY", "…", "of printable ASCII characters")
    return TrustedForm(api_key, url.rstrip("/"))


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _log_format(environ: Mapping[str, str]) -> LogFormat:
    text = environ.get("LOG_FORMAT") or "console"
    if text not in get_args(LogFormat):
        raise InvalidInput("LOG_FORMAT", text, " or ".join(get_args(LogFormat)))
    return cast("LogFormat", text)
