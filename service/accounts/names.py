"""Account names. Other companies see them as fact, so they are guarded against imitation.

A name must not pass for one of the two fixed strings of `confirmed_owner`, nor for another
account's name. Names are compared by *skeleton* (Unicode Technical Standard 39): two names with
equal skeletons can be confused with each other.
"""

import re
import unicodedata
from typing import Literal, TypeAlias

import disarm

from service.errors import InvalidInput, InvalidName

NO_VERIFIED_ACCOUNT = "No Verified ActiveProspect Account Identified"
VERIFIED_ACCOUNT = "ActiveProspect Verified Account"

Status: TypeAlias = Literal["named", "verified", "none", "not_applicable"]
"""The decision about an owner: see `confirmed_owner` in sql/migrations."""

MAX_NAME = 120

# Categories that draw nothing or change how their neighbors are drawn: controls, formats (such as
# bidi and zero-width), surrogates, private use, unassigned, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# Default-ignorable code points that the categories above don't catch (Unicode Character Database,
# DerivedCoreProperties).
_IGNORABLE = re.compile(
    "[\u034f\u115f\u1160\u17b4\u17b5\u180b-\u180f\u3164\ufe00-\ufe0f\uffa0\U000e0000-\U000e0fff]"
)
_URL = re.compile(r"://|\bwww\.|\b(https?|mailto|javascript|data):", re.IGNORECASE)


def told_of_owner(status: Status | None, name: str | None) -> str | None:
    """Return the value of `confirmed_owner` for a status. `name` counts only for `named`."""
    match status:
        case "named":
            return name
        case "verified":
            return VERIFIED_ACCOUNT
        case "none":
            return NO_VERIFIED_ACCOUNT
        case _:
            return None


def skeleton(name: str) -> str:
    """Return what a name looks like: equal for two names that a reader could confuse."""
    # Letters that look like two: UTS 39 or readers equate them, but disarm does not.
    return disarm.skeleton_key(name, digit_policy="tr39").replace("m", "rn").replace("w", "vv")


def _letters(text: str) -> set[str]:
    """Return the letters and digits a text can be read as: as written, and in lower case.

    They come from its skeleton, without marks. Since i and l look alike, they count as one.
    """
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return {
        "".join(c for c in skeleton(form) if c.isalnum()).replace("i", "l")
        for form in (plain, plain.casefold())
    }


# Names must not begin with a fixed answer, nor be a word that programs could read as a missing one.
_FIXED = tuple(_letters(NO_VERIFIED_ACCOUNT) | _letters(VERIFIED_ACCOUNT))
_MISSING = frozenset[str]().union(*map(_letters, ("null", "none", "undefined", "error")))


def has_unseen(text: str) -> bool:
    """Whether a text has control, invisible, or direction-changing characters."""
    return (
        any(unicodedata.category(c) in _UNSEEN for c in text) or _IGNORABLE.search(text) is not None
    )


def has_link(text: str) -> bool:
    """Whether a text has something written as a web address."""
    return _URL.search(text) is not None


def checked_person_name(text: str) -> str:
    """Return a person's name as we store it: NFC, single spaces, 1 to `MAX_NAME` characters.

    Raises `InvalidInput`.
    """
    name = " ".join(unicodedata.normalize("NFC", text).split())
    if not 1 <= len(name) <= MAX_NAME or has_unseen(name) or has_link(name):
        raise InvalidInput("your_name", text, f"a name of 1 to {MAX_NAME} visible characters")
    return name


def checked_name(text: str) -> str:
    """Return the name as we store and show it: NFC, single spaces, 2 to `MAX_NAME` characters.

    The database checks that no other account's name has the same skeleton. Raises `InvalidName`.
    """
    composed = unicodedata.normalize("NFC", text)
    if has_unseen(composed):
        raise InvalidName(text, "free of control, invisible, and direction-changing characters")
    name = " ".join(composed.split())
    if not 2 <= len(name) <= MAX_NAME or not any(c.isalnum() for c in name):
        raise InvalidName(text, f"2 to {MAX_NAME} characters, with at least one letter or digit")
    if has_link(name):
        raise InvalidName(text, "a name, not a web address")
    if any(
        not letters or letters in _MISSING or letters.startswith(_FIXED)
        for letters in _letters(name)
    ):
        raise InvalidName(text, "different from the reserved names")
    return name
