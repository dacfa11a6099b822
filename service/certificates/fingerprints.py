"""Lead matching: whether a lead's email address or phone number was recorded on a certificate.

A certificate keeps SHA-1 fingerprints of normalized values. As published (“Match Lead” in the
vendor's OpenAPI document), an email address is lowercased, and a phone number loses all white space,
hyphens, brackets, and parentheses. People write more than that, and newer pages of the vendor say
that everything but digits goes. So each value has several fingerprints: the published one first, then
those of other ways to write the same address or number. Callers may send values already hashed.
"""

import base64
import binascii
import hashlib
import re
import unicodedata
from collections.abc import Callable, Iterable

_SHA1_HEX = re.compile(r"[0-9a-f]{40}")
_NOT_OF_A_PHONE_NUMBER = re.compile(r"[\s\-\u2010\u2011\[\]()]")
_EXTENSION = re.compile(
    r"(?:;?\s*ext(?:ension|n)?[\s.:=]*|[\s,;]*[x#]\s*)\d{1,8}\s*$", re.IGNORECASE
)
# With or without the country code, to which other codes in its place don't belong.
_NANP = re.compile(r"(?P<plus>\+?)1?(?P<ten>[2-9]\d{2}[2-9]\d{6})")
# Of a number as people write it. Looking for an extension takes time in proportion to the square.
_LONGEST_NUMBER = 64
_IN_NUMBERS = re.compile(r"[+0-9]")


def fingerprint_in(text: str) -> str | None:
    """Return a SHA-1 in hex of any case or base64 as lowercase hex; None if the text is not one."""
    text = text.strip()
    if _SHA1_HEX.fullmatch(text.lower()):
        return text.lower()
    try:
        digest = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return digest.hex() if len(digest) == 20 else None


def email_fingerprints(values: Iterable[str]) -> list[str]:
    """Return the fingerprints of raw or hashed email addresses as lowercase hex, without blanks.

    White space around an address is tried with and without.
    """
    return _fingerprints(values, lambda value: [value.lower(), value.strip().lower()])


def phone_fingerprints(values: Iterable[str]) -> list[str]:
    """Return the fingerprints of raw or hashed phone numbers as lowercase hex, without blanks.

    A number of the North American Numbering Plan is tried in ten digits, and with a leading 1.
    """
    return _fingerprints(
        values, lambda value: [_NOT_OF_A_PHONE_NUMBER.sub("", value), *_nanp_forms(value)]
    )


def _nanp_forms(value: str) -> list[str]:
    if len(value) > _LONGEST_NUMBER:
        return []
    number = _EXTENSION.sub("", unicodedata.normalize("NFKC", value))
    plain = "".join(_IN_NUMBERS.findall(number))
    found = _NANP.fullmatch(plain)
    # After a plus, anything but 1 is another country's code.
    if found is None or (found["plus"] and not plain.startswith("+1")):
        return []
    return [found["ten"], f"1{found['ten']}"]


def _fingerprints(values: Iterable[str], forms: Callable[[str], list[str]]) -> list[str]:
    found = (
        [hashed] if (hashed := fingerprint_in(value)) else map(_sha1, forms(value))
        for value in values
        if value.strip()
    )
    return list(dict.fromkeys(each for every in found for each in every))


def _sha1(value: str) -> str:
    return hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()
