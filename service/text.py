"""Texts that people type: in one line, and without what is not seen."""

import re
import unicodedata

# Default_Ignorable_Code_Point in the Unicode Character Database (DerivedCoreProperties), without
# unassigned code points outside of the ranges that are set aside for more of them.
_IGNORABLE = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)


def as_one_line(text: str) -> str:
    """Return a text in NFC, with single spaces between its words."""
    return " ".join(unicodedata.normalize("NFC", text).split())


def without_ignorable(text: str) -> str:
    """Return a text without the characters that draw nothing, such as soft hyphens."""
    return text if text.isascii() else _IGNORABLE.sub("", text)


def has_ignorable(text: str) -> bool:
    """Whether a text has a character that draws nothing."""
    return not text.isascii() and _IGNORABLE.search(text) is not None
