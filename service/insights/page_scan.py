"""Page scans: which terms the text recorded on a certificate contains.

We compare what people read. Case is ignored, any run of white space equals any other, and punctuation
must match exactly. It makes no difference how a letter is encoded (as one character or with its
marks, in full width, as a ligature), and characters that draw nothing are left out.
Wildcards in a term stand for any text, including none. A wildcard is `{{*}}`, or `*` between two of
the caller's delimiters. White space at the ends of a term is ignored, and a blank term is skipped.

Each different term costs one pass over the text: we look for its parts in order, and the first match
of each part is as good as any. CPython finds a part in linear time (the two-way algorithm), so the
costliest scan is that of the most terms in the longest text, and `most_terms` bounds it. A long text
is worked on in pieces, because each step holds the interpreter, and every other call with it.
"""

import re
import time
import unicodedata
from collections.abc import Iterable, Iterator

import msgspec

from service.insights.contract import Found, ScanParameters, ScansOutcome, values_of
from service.text import without_ignorable

WILDCARD = "{{*}}"


# How many characters a scan compares at most, all terms together: a fraction of a second.
_MOST_COMPARED = 50_000_000

# How many characters are worked on in one step, and the pause between two steps in seconds.
_PIECE = 50_000
_PAUSE = 0.0002

_SPACE = re.compile(r"\s")


class ScanText(msgspec.Struct, frozen=True):
    """A recorded text, prepared for repeated scans."""

    folded: str

    @classmethod
    def of(cls, recorded: str) -> "ScanText":
        """Fold what looks alike, and turn each run of white space into one space."""
        pieces = (" ".join(_folded(piece).split()) for piece in _pieces(recorded))
        return cls(" ".join(filter(None, pieces)))


def most_terms(length: int) -> int:
    """Return how many different terms can be looked for in a text of that many characters."""
    return _MOST_COMPARED // max(1, length)


def scan_page(text: ScanText | None, scans: ScanParameters) -> ScansOutcome:
    """Scan a page for what it must and must not contain; `text` is None if none is on record.

    `success` is None if there was nothing to look for, or no text.
    """
    if text is None:
        return ScansOutcome(None, Found([], []), Found([], []))
    delimiter = scans.delimiter or None
    required = scan(text, values_of(scans.required), delimiter)
    forbidden = scan(text, values_of(scans.forbidden), delimiter)
    success = None
    if any((required.found, required.not_found, forbidden.found, forbidden.not_found)):
        success = not required.not_found and not forbidden.found
    return ScansOutcome(success, required, forbidden)


def scan(text: ScanText, terms: Iterable[str], delimiter: str | None = None) -> Found:
    """Return which of the terms the text contains."""
    result = Found([], [])
    contained: dict[str, bool] = {}
    compared = 0
    for term in terms:
        if is_blank(term):
            continue
        if term not in contained:
            if compared >= _PIECE:
                _let_others_go_on()
                compared = 0
            contained[term] = _contains(text, term, delimiter)
            compared += len(text.folded)
        (result.found if contained[term] else result.not_found).append(term)
    return result


def is_blank(term: str) -> bool:
    """Whether a term has nothing to look for."""
    return not without_ignorable(term).strip()


def _contains(text: ScanText, term: str, delimiter: str | None) -> bool:
    at = 0
    for part in _parts(term, delimiter):
        at = _find(text.folded, part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def _find(text: str, part: str, at: int) -> int:
    while True:
        found = text.find(part, at, at + _PIECE + len(part))
        if found >= 0:
            return found
        at += _PIECE
        if at + len(part) > len(text):
            return -1
        _let_others_go_on()


def _pieces(text: str) -> Iterator[str]:
    """Yield a text in pieces that end before white space, where nothing combines."""
    start = 0
    while start < len(text):
        space = _SPACE.search(text, start + _PIECE)
        end = len(text) if space is None else space.start()
        yield text[start:end]
        start = end
        if end < len(text):
            _let_others_go_on()


def _let_others_go_on() -> None:
    # Long enough for another thread to wake up and take the interpreter.
    time.sleep(_PAUSE)


def _parts(term: str, delimiter: str | None) -> list[str]:
    """Return the parts of a term between its wildcards, folded like the text."""
    parts = without_ignorable(term).strip().split(WILDCARD)
    if delimiter:
        own = f"{without_ignorable(delimiter)}*{without_ignorable(delimiter)}"
        parts = [piece for part in parts for piece in part.split(own)]
    return [folded for part in parts if (folded := _folded_part(part))]


def _folded_part(part: str) -> str:
    # White space next to a wildcard has to match: “of {{*}} at” is not in “often at”.
    words = " ".join(_folded(part).split())
    if not words:
        return " " if part else ""
    return f"{' ' * part[0].isspace()}{words}{' ' * part[-1].isspace()}"


def _folded(text: str) -> str:
    """Return a text in a form that is equal for texts that read the same, but for white space.

    That is a canonical caseless match (The Unicode Standard, D145), without what draws nothing.
    """
    if text.isascii():
        return text.casefold()
    plain = without_ignorable(text).translate(_COMPATIBLE)
    folded = unicodedata.normalize("NFD", plain).casefold()
    return unicodedata.normalize("NFC", folded)


class _Compatible(dict[int, str]):
    """Characters with the compatible ones they read like (NFKC). Punctuation only loses its width."""

    def __missing__(self, code: int) -> str:
        character = chr(code)
        is_exact = unicodedata.category(character)[0] in "PSZ"
        is_wide = "\uff00" <= character <= "\uffef" or character == "\u3000"
        read = unicodedata.normalize("NFKC", character) if is_wide or not is_exact else character
        self[code] = read
        return read


_COMPATIBLE = _Compatible()
