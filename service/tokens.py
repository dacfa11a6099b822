"""Tokens that cannot be guessed: those in mailed links, and those in forms.

A mailed link's token follows from the service's secret and the mail's id, so that it is in no queue and
no table, and a mail sent twice is the same mail. What is kept of it is a digest. Each has 256 bits.
"""

import hashlib
import hmac
import os
import secrets
import tempfile
from base64 import urlsafe_b64encode
from contextlib import suppress
from pathlib import Path
from uuid import UUID


def load_secret(configured: str | None, state_dir: Path) -> bytes:
    """The service's secret: the configured one, or one of its own that is made once and kept."""
    if configured is not None:
        return configured.encode()
    kept = state_dir / "secret_key"
    if not kept.exists():
        state_dir.mkdir(parents=True, exist_ok=True)
        # A file that nobody else reads or has.
        descriptor, name = tempfile.mkstemp(dir=state_dir)
        with os.fdopen(descriptor, "w") as file:
            file.write(secrets.token_hex(32))
        made = Path(name)
        # Of several that start at once, one is first; a link never replaces what is there.
        with suppress(FileExistsError):
            kept.hardlink_to(made)
        made.unlink()
    return kept.read_bytes()


def link_token(secret: bytes, mail_id: UUID) -> str:
    """The token in the link of a mail: 43 characters of the URL-safe base64 alphabet (RFC 4648)."""
    return _token(secret, f"link of mail {mail_id}")


def form_token(secret: bytes, session_token: str) -> str:
    """What a form shows that it was made for the session with that token."""
    return _token(secret, f"form of session {session_token}")


def new_token() -> str:
    """A random token."""
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> bytes:
    """What is kept of a token: 32 bytes."""
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).digest()


def _token(secret: bytes, purpose: str) -> str:
    return urlsafe_b64encode(hmac.digest(secret, purpose.encode(), "sha256")).rstrip(b"=").decode()
