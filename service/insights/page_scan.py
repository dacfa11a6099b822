"""Page scans: which terms the text recorded on a certificate contains.

Case is ignored, any run of white space equals any other, and punctuation must match exactly.
Wildcards in a term stand for any text, including none. A wildcard is `{{*}}`, or `*` between two of
the caller's delimiters. White space at the ends of a term is ignored, and a blank term is skipped.

Each term costs one pass over the text: we look for its parts in order, and the first match of each
part is as good as any. CPython finds a part in linear time (the two-way algorithm), so no crafted
term can make a scan slow.
"""

from collections.abc import Iterable

import msgspec

from service.insights.contract import Found, ScanParameters, ScansOutcome, values_of

WILDCARD = "{{*}}"


class ScanText(msgspec.Struct, frozen=True):
    """A recorded text, prepared for repeated scans."""

    folded: str

    @classmethod
    def of(cls, recorded: str) -> "ScanText":
        """Fold case, and turn each run of white space into one space."""
        return cls(" ".join(recorded.casefold().split()))


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
    """Return the parts of a term between its wildcards, folded like the text."""
    parts = term.strip().split(WILDCARD)
    if delimiter:
        parts = [piece for part in parts for piece in part.split(f"{delimiter}*{delimiter}")]
    return [folded for part in parts if (folded := _folded_part(part))]


def _folded_part(part: str) -> str:
    # White space next to a wildcard has to match: “of {{*}} at” is not in “often at”.
    words = " ".join(part.casefold().split())
    if not words:
        return " " if part else ""
    return f"{' ' * part[0].isspace()}{words}{' ' * part[-1].isspace()}"
