"""Unguessable tokens, for emailed links, forms, and sessions. Each has 256 bits.

The token of an emailed link is derived from the service's secret and the email's id. So it is in no
queue or table, and an email sent twice has the same link. Only a digest of it is stored.
"""

import hashlib
import hmac
import os
import re
import secrets
import tempfile
from base64 import urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from uuid import UUID

from service.errors import InvalidInput


def load_secret(configured: str | None, state_dir: Path) -> bytes:
    """Return the configured secret, or else one that is generated once and kept in `state_dir`."""
    return configured.encode() if configured is not None else _kept(state_dir, "secret_key")


def load_log_signing_key(configured: bytes | None, state_dir: Path) -> bytes:
    """Return the seed that signs the log: the configured one, or one that is kept in `state_dir`.

    Raises `InvalidInput` if what is kept is no key. Another one would be no better: it isn't the log's.
    """
    if configured is not None:
        return configured
    kept = _kept(state_dir, "log_signing_key").decode(errors="replace").strip()
    if not re.fullmatch(r"[0-9a-fA-F]{64}", kept):
        where = str(state_dir / "log_signing_key")
        raise InvalidInput(where, "…", "64 hexadecimal digits: restore it, or set LOG_SIGNING_KEY")
    return bytes.fromhex(kept)


def _kept(state_dir: Path, name: str) -> bytes:
    """Return 64 random hexadecimal digits that are generated once and kept in a file."""
    kept = state_dir / name
    if not kept.exists():
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        # A file that only this process has, and that no other user can read.
        descriptor, path = tempfile.mkstemp(dir=state_dir)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        made = Path(path)
        # If several processes start at once, the first wins: a hard link never replaces a file.
        with suppress(FileExistsError):
            kept.hardlink_to(made)
        made.unlink()
    return kept.read_bytes()


def link_token(secret: bytes, mail_id: UUID) -> str:
    """Return the token of an email's link: 43 characters of URL-safe base64 (RFC 4648)."""
    return _token(secret, f"link of mail {mail_id}")


def stop_token(secret: bytes, mail_id: UUID) -> str:
    """Return the token of an email's link to stop such emails, which can do nothing else.

    Mail providers and gateways see and log that link (RFC 8058).
    """
    return _token(secret, f"stop of mail {mail_id}")


def form_token(secret: bytes, session_token: str) -> str:
    """Return the token that proves a form was made for the session with `session_token`."""
    return _token(secret, f"form of session {session_token}")


def new_token() -> str:
    """Return a random token."""
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> bytes:
    """Return what we store of a token: 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _token(secret: bytes, purpose: str) -> str:
    return urlsafe_b64encode(hmac.digest(secret, purpose.encode(), "sha256")).rstrip(b"=").decode()
