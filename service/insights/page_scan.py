"""Page scans: which terms the text recorded on a certificate contains.

Case does not count, every run of white space equals every other, and punctuation counts exactly. A
term may hold wildcards, `{{*}}` or `*` between two of the caller's delimiters, each of which stands for
any text, also none. White space at the ends of a term does not count, and a term of nothing else is
passed over: it is no term.

Each term costs one pass over the text: its parts are looked for one after the other, the first
occurrence of each being as good as any. CPython looks for a part in linear time (the two-way
algorithm), so no pattern is hostile.
"""

from collections.abc import Iterable

import msgspec

from service.insights.contract import Found, ScanParameters, ScansOutcome, values_of

WILDCARD = "{{*}}"


class ScanText(msgspec.Struct, frozen=True):
    """A recorded text, made ready for being scanned many times."""

    folded: str

    @classmethod
    def of(cls, recorded: str) -> "ScanText":
        """Case folded, and each run of white space one space."""
        return cls(" ".join(recorded.casefold().split()))


def scan_page(text: ScanText | None, scans: ScanParameters) -> ScansOutcome:
    """What a page has of what it must and must not contain; None if no text of it is on record.

    `success` is None where there was nothing to look for, or nothing to look at.
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
    """Look for each term in the text."""
    result = Found([], [])
    for term in terms:
        if term.strip():
            (result.found if _contains(text, term, delimiter) else result.not_found).append(term)
    return result


def _contains(text: ScanText, term: str, delimiter: str | None) -> bool:
    at = 0
    for part in _parts(term, delimiter):
        at = text.folded.find(part, at)
        if at < 0:
            return False
        at += len(part)
    return True


def _parts(term: str, delimiter: str | None) -> list[str]:
    """The parts of a term between its wildcards, folded as the text is."""
    parts = term.strip().split(WILDCARD)
    if delimiter:
        parts = [piece for part in parts for piece in part.split(f"{delimiter}*{delimiter}")]
    return [folded for part in parts if (folded := _folded_part(part))]


def _folded_part(part: str) -> str:
    # White space beside a wildcard has to be there: “of {{*}} at” is not in “often at”.
    words = " ".join(part.casefold().split())
    if not words:
        return " " if part else ""
    return f"{' ' * part[0].isspace()}{words}{' ' * part[-1].isspace()}"
