"""What an account's latest answers said: how many, day by day, and the sites without an owner."""

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from uuid import UUID

from msgspec import Struct

from service.answers import queries
from service.postgres.pools import Connection

# How many of the latest answers are counted, so that the page takes as long however many there are.
LATEST = 5_000

# Statuses in the order in which they are drawn.
DRAWN = ("named", "verified", "none", "other")

# The chart, in units of its own: as wide as so many days.
_DAYS = 30
_WIDTH, _HEIGHT, _GAP = 600.0, 120.0, 4.0
_RANKED = 5


class Bar(Struct, frozen=True):
    """A part of a day's column."""

    status: str
    x: float
    y: float
    width: float
    height: float
    day: date
    answers: int


class Overview(Struct, frozen=True):
    """Counts by status of the latest answers, a chart of the last days, and who is behind “none”.

    `is_all` is whether there are no more answers than were counted. `unowned` are the hosts that most
    often had no verified owner, and `vendors` those whose leads did, and how often.
    """

    total: int
    is_all: bool
    counts: Mapping[str, int]
    bars: Sequence[Bar]
    first: date | None
    last: date | None
    most: int
    unowned: Sequence[tuple[str, int]]
    vendors: Sequence[tuple[str, int]]

    def percent(self, status: str) -> int:
        """Return what share of all a status has, in percent."""
        return round(100 * self.counts.get(status, 0) / self.total) if self.total else 0


async def overview_of(connection: Connection, account_id: UUID) -> Overview:
    """Return what an account's latest answers said."""
    days, unowned, vendors = await queries.count_latest(connection, account_id, LATEST, _RANKED)
    counts = dict.fromkeys(DRAWN, 0)
    for _, status, answers in days:
        counts[status] += answers
    total = sum(counts.values())
    last = max((day for day, _, _ in days), default=None)
    first = last and max(min(day for day, _, _ in days), last - timedelta(_DAYS - 1))
    shown = [each for each in days if first is not None and each[0] >= first]
    most = max(
        (sum(count for day, _, count in shown if day == each) for each, _, _ in shown), default=0
    )
    return Overview(
        total, total < LATEST, counts, _bars(shown, last, most), first, last, most, unowned, vendors
    )


def _bars(days: Sequence[tuple[date, str, int]], last: date | None, most: int) -> list[Bar]:
    bars: list[Bar] = []
    width = _WIDTH / _DAYS
    tops: dict[date, float] = {}
    for day, status, answers in sorted(days, key=lambda each: (each[0], DRAWN.index(each[1]))):
        assert last is not None
        height = _HEIGHT * answers / most
        top = tops[day] = tops.get(day, _HEIGHT) - height
        x = _WIDTH - width * ((last - day).days + 1)
        bars.append(Bar(status, x, top, width - _GAP, height, day, answers))
    return bars
