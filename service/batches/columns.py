"""Find the column that a file asks about, and what each of its values asks."""

import re
from collections.abc import Sequence
from functools import lru_cache

from service.batches.records import ADDED, Kind
from service.certificates.facts import cert_id_of_url, checked_cert_id
from service.errors import InvalidCertificateId, InvalidInput, MissingInput, ServiceError, shorten
from service.insights.bulk import Item, RowQuestion, site_of
from service.ownership.hostname import has_known_suffix

# How many of a column's values must be of a kind for it to be found by content.
_MOST_OF_THEM = 0.8

_URL = re.compile(r"https?://", re.IGNORECASE)
_VENDORS_URL = re.compile(r"(?:https?://)?[a-z]+\.trustedform(?:-\w+)?\.com/", re.IGNORECASE)
# Nearly all of them, recognized at once: a file may have millions.
_USUAL = re.compile(r"(?:https://cert\.trustedform\.com/)?([0-9a-f]{40})(?<!0{25})")
_FRACTION = re.compile(r"0\.\d*")
_DATE = re.compile(r"(?:19|20)\d\d-(?:0[1-9]|1[0-2])-(?:0[1-9]|[12]\d|3[01])(?:$|[T ])")
# What spreadsheets make of an id that has only digits, or digits around one “e”.
_MADE_A_NUMBER = re.compile(r"\d(?:[.,]\d+)?E\+?\d+|\d+(?:\.\d+)?e\+\d+|[1-9]\d{14}0{25}")


# Too large to be an amount of anything, so it was an id.
_WAS_AN_ID = re.compile(r"\d(?:[.,]\d+)?E\+?[2-9]\d")


class NoSuchColumn(ServiceError):
    """The column to ask about can't be told. `detail` says what to do."""


def question_of(kind: Kind, value: str) -> RowQuestion:
    """Return what a value asks about. Raises `InvalidInput`."""
    if kind == "certificates" and (usual := _USUAL.fullmatch(value)):
        return usual[1], None
    text = value.strip()
    if not text:
        raise MissingInput("the cell", "is empty")
    if kind == "certificates":
        if _MADE_A_NUMBER.fullmatch(text):
            raise InvalidInput(
                "cert_id", text, "an id: a spreadsheet made a number of it, so format its column as "
                "text and paste the ids again"
            )  # fmt: skip
        if _VENDORS_URL.match(text):
            return cert_id_of_url(text if _URL.match(text) else f"https://{text}")[0], None
        return checked_cert_id(text), None
    return None, _site(text)


def item_of(value: str) -> Item:
    """Return what one value, of whatever kind, asks about. It need not be valid."""
    if _VENDORS_URL.match(value):
        return Item(cert_url=value if _URL.match(value) else f"https://{value}")
    if _URL.match(value):
        return Item(page_url=value)
    try:
        return Item(cert_id=checked_cert_id(value))
    except InvalidCertificateId:
        return Item(host=value)


@lru_cache(maxsize=50_000)
def _site(text: str) -> tuple[str, Sequence[str]]:
    return site_of("page_url" if _URL.match(text) else "host", text)


def kinds_of_value(value: str) -> set[Kind]:
    """Return what a value looks like: a certificate, a page's URL, or a host below a known suffix."""
    kinds: set[Kind] = set()
    if _WAS_AN_ID.fullmatch(value.strip()):
        return {"certificates"}
    if _FRACTION.fullmatch(value.strip()):
        # A score, although ids may begin like that.
        return kinds
    for kind in ("certificates", "pages", "hosts"):
        is_url = _URL.match(value.strip()) is not None
        if kind != "certificates" and is_url != (kind == "pages"):
            continue
        try:
            cert_id, site = question_of(kind, value)
        except ServiceError:
            continue
        # “id”, “name”, and “CA” are top-level domains too, and nobody's site.
        if cert_id is not None or (
            site is not None and "." in site[0] and has_known_suffix(site[0])
        ):
            kinds.add(kind)
    return kinds


def find_column(
    names: Sequence[str], rows: Sequence[Sequence[str]], wanted: str | None
) -> tuple[int, Kind]:
    """Return the position of the column that some first rows ask about, and what its values are.

    Certificates come before pages, and pages before hosts. Raises `NoSuchColumn`.
    """
    fitting: dict[Kind, list[int]] = {"certificates": [], "pages": [], "hosts": []}
    positions = list(range(len(names)))
    if wanted is not None:
        positions = [at for at, name in enumerate(names) if name == wanted]
        if not positions:
            raise NoSuchColumn(f"there is no column “{shorten(wanted)}”; use {_listed(names)}")
    for at in positions:
        values = [row[at] for row in rows if at < len(row) and row[at].strip()]
        looks = [kinds_of_value(value) for value in values]
        for kind, found in fitting.items():
            if looks and sum(kind in each for each in looks) >= _MOST_OF_THEM * len(looks):
                found.append(at)
    for kind, found in fitting.items():
        if len(found) > 1:
            several = _listed([names[at] for at in found])
            raise NoSuchColumn(f"several columns have {kind}: name one of {several} as the column")
        if found:
            return found[0], kind
    if wanted is not None:
        # Its owner knows best what it is: each of its values gets an answer or an error.
        values = [row[positions[0]] for row in rows if positions[0] < len(row)]
        looks = [kinds_of_value(value) for value in values]
        often = {kind: sum(kind in each for each in looks) for kind in fitting}
        return positions[0], max(often, key=lambda kind: often[kind])
    raise NoSuchColumn(
        "no column has certificate ids, certificate URLs, page URLs, or host names in most of its "
        f"rows; name the column, one of {_listed(names)}"
    )


def is_header(first: Sequence[str], below: Sequence[Sequence[str]], wanted: str | None) -> bool:
    """Return whether the first row of a table names its columns, and isn't a row like those below."""
    if wanted is not None and wanted in unique_names(first):
        return True
    of_first = [kinds_of_value(name) for name in first]
    if any(kinds - {"hosts"} for kinds in of_first):
        return False
    if not any(of_first):
        return True
    # “lead.site” could be a host. It is one among hosts, unless other columns have better.
    of_below = [
        set[Kind]().union(*(kinds_of_value(row[at]) for row in below[:100] if at < len(row)))
        for at in range(len(first))
    ]
    if any(kinds - {"hosts"} for kinds in of_below):
        return True
    return bool(below) and not any(map(set.intersection, of_first, of_below))


def find_dates(rows: Sequence[Sequence[str]], columns: int) -> int | None:
    """Return the position of the first column that has a date (ISO 8601) in most rows, if any."""
    for at in range(columns):
        values = [row[at] for row in rows if at < len(row) and row[at].strip()]
        if values and sum(map(is_date, values)) >= _MOST_OF_THEM * len(values):
            return at
    return None


def is_date(value: str) -> bool:
    """Whether a text begins with a date (ISO 8601), such as a time does."""
    return _DATE.match(value) is not None


def unique_names(header: Sequence[str]) -> list[str]:
    """Return a name for each column: those that are blank or taken get a number."""
    taken: set[str] = set()
    names = []
    for number, given in enumerate(header, 1):
        names.append(_free(given.strip() or f"column_{number}", taken))
        taken.add(names[-1])
    return names


def added_names(columns: Sequence[str]) -> list[str]:
    """Return the names of the columns that results add, none of which the input has."""
    taken = set(columns)
    return [_free(name, taken) for name in ADDED]


def _free(name: str, taken: set[str]) -> str:
    free, number = name, 2
    while free in taken:
        free, number = f"{name}_{number}", number + 1
    return free


def _listed(names: Sequence[str]) -> str:
    listed = ", ".join(f"“{shorten(name)}”" for name in names[:10])
    return f"{listed}, …" if len(names) > 10 else listed
