"""Lead matching: whether a lead's e-mail address or phone number was recorded on a certificate.

A certificate keeps SHA-1 fingerprints of normalised values. An e-mail address is lower-cased, nothing
else; of a phone number all white space, hyphens, brackets and parentheses are removed, nothing else
(“Match Lead” in the vendor's OpenAPI document). What is asked about may come hashed already.
"""

import hashlib
import re
from collections.abc import Iterable

from service.certificates.facts import fingerprint_in

_NOT_OF_A_PHONE_NUMBER = re.compile(r"[\s\-\u2010\u2011\[\]()]")


def email_fingerprints(values: Iterable[str]) -> list[str]:
    """The fingerprints of e-mail addresses, raw or hashed, as lower-case hex; blank ones have none."""
    return [fingerprint_in(value) or _sha1(value.lower()) for value in values if value.strip()]


def phone_fingerprints(values: Iterable[str]) -> list[str]:
    """The fingerprints of phone numbers, raw or hashed, as lower-case hex; blank ones have none."""
    return [
        fingerprint_in(value) or _sha1(_NOT_OF_A_PHONE_NUMBER.sub("", value))
        for value in values
        if value.strip()
    ]


def _sha1(value: str) -> str:
    return hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()
