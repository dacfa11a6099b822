"""Lead matching: whether a lead's e-mail address or phone number was recorded on a certificate.

A certificate keeps SHA-1 fingerprints of normalised values. An e-mail address is lower-cased, nothing
else; of a phone number all white space, hyphens, brackets and parentheses are removed, nothing else
(“Match Lead” in the vendor's OpenAPI document). What is asked about may come hashed already.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Iterable

_SHA1_HEX = re.compile(r"[0-9a-f]{40}")
_NOT_OF_A_PHONE_NUMBER = re.compile(r"[\s\-\u2010\u2011\[\]()]")


def email_fingerprints(values: Iterable[str]) -> list[str]:
    """The fingerprints of e-mail addresses, raw or hashed, as lower-case hex; blank ones have none."""
    return [sha1_of_text(value) or _sha1(value.lower()) for value in values if value.strip()]


def phone_fingerprints(values: Iterable[str]) -> list[str]:
    """The fingerprints of phone numbers, raw or hashed, as lower-case hex; blank ones have none."""
    return [
        sha1_of_text(value) or _sha1(_NOT_OF_A_PHONE_NUMBER.sub("", value))
        for value in values
        if value.strip()
    ]


def sha1_of_text(text: str) -> str | None:
    """The SHA-1 that a text is, in hex of any case or base64, as lower-case hex; None if it is none."""
    text = text.strip()
    if _SHA1_HEX.fullmatch(text.lower()):
        return text.lower()
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 20 else None


def _sha1(value: str) -> str:
    return hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()
