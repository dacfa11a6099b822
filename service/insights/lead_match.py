"""Lead matching: whether a lead's email address or phone number was recorded on a certificate.

A certificate keeps SHA-1 fingerprints of normalized values. An email address is lowercased, nothing
else. A phone number loses all white space, hyphens, brackets, and parentheses, nothing else (“Match
Lead” in the vendor's OpenAPI document). Callers may send values already hashed.
"""

import hashlib
import re
from collections.abc import Iterable

from service.certificates.facts import fingerprint_in

_NOT_OF_A_PHONE_NUMBER = re.compile(r"[\s\-\u2010\u2011\[\]()]")


def email_fingerprints(values: Iterable[str]) -> list[str]:
    """Return the fingerprints of raw or hashed email addresses as lowercase hex, without blanks."""
    return [fingerprint_in(value) or _sha1(value.lower()) for value in values if value.strip()]


def phone_fingerprints(values: Iterable[str]) -> list[str]:
    """Return the fingerprints of raw or hashed phone numbers as lowercase hex, without blanks."""
    return [
        fingerprint_in(value) or _sha1(_NOT_OF_A_PHONE_NUMBER.sub("", value))
        for value in values
        if value.strip()
    ]


def _sha1(value: str) -> str:
    return hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()
