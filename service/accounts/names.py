"""Account names. Other companies see them as fact, so they are guarded against imitation.

A name must not pass for one of the fixed strings of `confirmed_owner`, a status, or the vendor, nor
for another account's name. Names are compared as people read them, by their `readings`.
"""

import re
import unicodedata
from typing import Literal, TypeAlias

import disarm
from idna import IDNAError
from idna.core import valid_contextj

from service.errors import InvalidInput, InvalidName
from service.text import as_one_line, has_ignorable

NO_VERIFIED_ACCOUNT = "No Verified ActiveProspect Account Identified"
VERIFIED_ACCOUNT = "ActiveProspect Verified Account"

Status: TypeAlias = Literal["named", "verified", "none", "not_applicable"]
"""The decision about an owner: see `confirmed_owner` in sql/migrations."""

MAX_NAME = 120

# Categories that draw nothing or change how their neighbors are drawn: controls, formats (such as
# bidi and zero-width), surrogates, private use, unassigned, line and paragraph separators.
_UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_AS_EMOJI = "\ufe0f"
# A colon makes a link only if something follows it at once: “Big Data: Insights” has none.
_URL = re.compile(r"://|\bwww\.|\b(https?|mailto|javascript|data):\S", re.IGNORECASE)

# What says how a company is incorporated, in the countries that leads are sold in.
_LEGAL_FORMS = """
    inc, incorporated, corp, corporation, co, company, llc, l3c, pllc, ltd, limited, lp, llp, lllp,
    plc, pc, pa, unlimited, ulc, cic, lda, ltda, limitada, eireli, sa, sas, sasu, sarl, eurl, snc,
    sca, srl, srls, spa, sapi, sapi de cv, sa de cv, s de rl, s de rl de cv, sl, slu, sau, gmbh,
    mbh, ggmbh, ug, ug haftungsbeschränkt, ag, kg, kgaa, ohg, ohg mbh, ek, ev, eg, se, bv, nv, vof,
    cv, bvba, sprl, as, asa, aps, ab, hb, kb, oy, oyj, ehf, hf, doo, dd, sro, zoo, sp zoo, spzoo,
    kft, zrt, bt, ood, eood, ooo, oao, pty, pty ltd, proprietary, pte, pte ltd, pvt, pvt ltd,
    private, private limited, bhd, sdn bhd, kk, gk, pt, tbk, jsc, fze, fzco, fzllc, wll, saoc
"""
# Those that are recognized without a space before them.
_GLUED_FORMS = "inc, incorporated, corp, corporation, company, llc, llp, ltd, limited, plc, gmbh"
_SHORTEST_GLUED_NAME = 4
_TRADE_MARKS = str.maketrans("", "", "™℠®©")


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


def readings(name: str) -> frozenset[str]:
    """Return how people can read a name: two names with a reading in common can be confused.

    Case, punctuation, spaces, symbols, and legal forms at the end (“Inc.”, “GmbH”) make no
    difference, nor do look-alikes, by their skeletons (Unicode Technical Standard 39, section 4).
    A name is read as written and in lower case, since it depends on the case which letters look
    alike: “I” is like “l”, but “i” is not. Names outside of ASCII are read in capitals as well.
    """
    marked = name.translate(_TRADE_MARKS)
    cased = {marked, marked.lower()} | (set() if marked.isascii() else {marked.upper()})
    words = [_words(form) for text in cased for form in (text, _without_punctuation(text))]
    return frozenset(filter(None, map(_without_legal_form, words)))


def _without_punctuation(text: str) -> str:
    return "".join(" " if unicodedata.category(c)[0] in "PS" else c for c in text)


def _words(text: str) -> tuple[str, ...]:
    """Return the letters, marks, and digits of each word of a text's skeleton.

    A full stop or apostrophe ends no word. Of marks, only those of scripts count that have marks of
    their own, such as vowels: others can be put on any letter, and drawn so that they aren't seen.
    """
    # Letters that look like two: UTS 39 or readers equate them, but disarm does not.
    skeleton = disarm.skeleton_key(text, digit_policy="tr39").replace("m", "rn").replace("w", "vv")
    return tuple("".join(map(_kept, skeleton)).split())


def _kept(character: str) -> str:
    if character in ".'":
        return ""
    category = unicodedata.category(character)
    if category[0] == "M":
        is_common = unicodedata.name(character, "").startswith(_COMMON_MARKS)
        return "" if category == "Me" or is_common else character
    return character if category[0] in "LN" else " "


_COMMON_MARKS = ("COMBINING ", "IDEOGRAPHIC ", "MUSICAL ")


def _read(forms: str) -> frozenset[str]:
    """Return how each of the forms, separated by commas, can be read, in one word."""
    return frozenset(
        "".join(_words(case))
        for form in forms.split(",")
        for case in (form, form.title(), form.upper())
    )


_LEGAL, _GLUED = _read(_LEGAL_FORMS), tuple(_read(_GLUED_FORMS))
_LONGEST_FORM = 5


def _without_legal_form(words: tuple[str, ...]) -> str:
    """Return the words as one, without the legal forms at the end."""
    while count := next(
        (
            n
            for n in range(min(_LONGEST_FORM, len(words) - 1), 0, -1)
            if "".join(words[-n:]) in _LEGAL
        ),
        0,
    ):
        words = words[:-count]
    text = "".join(words)
    glued = max((form for form in _GLUED if text.endswith(form)), key=len, default="")
    return text.removesuffix(glued) if len(text) - len(glued) >= _SHORTEST_GLUED_NAME else text


def _plain_readings(text: str) -> set[str]:
    """Return the readings of a text whose accents, and whether it has i or l, are overlooked."""
    plain = "".join(c for c in unicodedata.normalize("NFD", text) if not unicodedata.combining(c))
    return {reading.replace("i", "l") for reading in readings(plain)}


# No name may contain these: the vendor's names, and what its fixed answers have in common.
_RESERVED_PART = re.compile(
    "|".join(
        reading
        for part in ("ActiveProspect", "TrustedForm", "LeadConduit", "Verified Account")
        for reading in sorted(_plain_readings(part))
    )
)
# What only begins like a reserved name is honest: “Verified Accounting”.
_HONEST = re.compile(r"\baccount(?:ants?|ing)\b", re.IGNORECASE)
# No name may be one of these: programs could read them as a missing answer, people as a status.
_RESERVED = frozenset[str]().union(
    *map(
        _plain_readings,
        (
            "null", "none", "nil", "undefined", "unknown", "error", "N/A", "not applicable",
            "named", "verified", "unverified", "not verified", "confirmed", "unconfirmed",
            "not confirmed", "verification pending", "pending", "masked", "anonymous",
            "no account", "no owner", "no verified owner", "confirmed owner", "verified owner",
        ),
    )
)  # fmt: skip


def has_unseen(text: str) -> bool:
    """Whether a text has control, invisible, or direction-changing characters.

    Those with a task where they stand are seen: a joiner of Persian, Sinhala, and other scripts
    (RFC 5892, appendices A.1 and A.2), and the sign that a symbol is an emoji.
    """
    return any(
        (unicodedata.category(c) in _UNSEEN or has_ignorable(c)) and not _has_task(text, place)
        for place, c in enumerate(text)
    )


def _has_task(text: str, place: int) -> bool:
    if text[place] == _AS_EMOJI:
        return place > 0 and unicodedata.category(text[place - 1]) == "So"
    try:
        return valid_contextj(text, place)
    except (ValueError, IDNAError):
        return False


def has_link(text: str) -> bool:
    """Whether a text has something written as a web address."""
    return _URL.search(text) is not None


def checked_person_name(text: str) -> str:
    """Return a person's name as we store it: NFC, single spaces, 1 to `MAX_NAME` characters.

    Raises `InvalidInput`.
    """
    name = as_one_line(text)
    if not 1 <= len(name) <= MAX_NAME or has_unseen(name) or has_link(name):
        raise InvalidInput("your_name", text, f"a name of 1 to {MAX_NAME} visible characters")
    return name


def checked_name(text: str) -> str:
    """Return the name as we store and show it: NFC, single spaces, 1 to `MAX_NAME` characters.

    The database checks that no other account's name has a reading of it. Raises `InvalidName`.
    """
    if has_unseen(unicodedata.normalize("NFC", text)):
        raise InvalidName(text, "a name without invisible characters")
    name = as_one_line(text)
    if not 1 <= len(name) <= MAX_NAME or not any(c.isalnum() for c in name):
        raise InvalidName(text, f"1 to {MAX_NAME} characters, with at least one letter or digit")
    if has_link(name):
        raise InvalidName(text, "a name without web addresses")
    plain = _plain_readings(_HONEST.sub("books", name))
    if not plain or any(
        reading in _RESERVED or _RESERVED_PART.search(reading) for reading in plain
    ):
        raise InvalidName(text, "unlike the vendor’s names and our answers")
    return name
