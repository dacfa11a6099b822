"""A file of leads to check: 5,000 that Harbor bought in the last 60 days, with their certificates."""

import csv
import hashlib
import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec

from service.certificates.imports import import_lines, in_groups
from service.postgres.pools import Connection

FILE = "demo-leads.csv"
ROWS = 5000
_DAYS = 60

# Domains, and how many of 1,000 leads come from each. Others share the rest.
_SITES = {
    "brightquote.example": 190,
    "auto.brightquote.example": 110,
    "quotes.leadspring.example": 150,
    "blueheron.example": 100,
    "partners.brightquote.example": 40,
    "münchen-leads.example": 30,
    "closeddoor.example": 25,
    "unclaimed-offers.example": 90,
}
_OTHERS = [
    f"{what}-{where}.example"
    for what in ("save", "quotes", "compare", "switch", "my", "best")
    for where in ("solar", "medicare", "auto", "mortgage", "roofing", "loans", "windows")
]

# Who sold them, and how they are mixed: one vendor's leads are mostly from sites that nobody verified.
_VENDORS = {
    "Northgate Leads": (0.30, 0.6),
    "Cedar Lane Partners": (0.25, 1.0),
    "BrightQuote Media": (0.25, 0.0),
    "Riverbend Digital": (0.12, 2.5),
    "Lumen Acquisition": (0.08, 1.2),
}
_STATES = ("AZ", "CA", "FL", "GA", "IL", "NC", "NY", "OH", "PA", "TX")


class _Lead(msgspec.Struct, frozen=True):
    lead_id: str
    received_at: datetime
    vendor: str
    state: str
    price: str
    cert_url: str
    cert_id: str
    domain: str


def leads() -> Iterator[_Lead]:
    """Yield the same leads every time, but for when they came in."""
    chance = random.Random(5000)  # noqa: S311 - a demo has to be the same every time
    midnight = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    for number in range(ROWS):
        age = timedelta(days=_DAYS - number * _DAYS // ROWS, seconds=-chance.randrange(86_400))
        vendor = chance.choices(list(_VENDORS), [share for share, _ in _VENDORS.values()])[0]
        strangeness = _VENDORS[vendor][1]
        weights = [*_SITES.values(), *(strangeness * 265 / (n + 2) for n in range(len(_OTHERS)))]
        if vendor == "BrightQuote Media":
            weights[2:] = [0] * (len(weights) - 2)
        domain = chance.choices([*_SITES, *_OTHERS], weights)[0]
        digest = hashlib.sha1(f"the demo's lead {number}".encode(), usedforsecurity=False)
        cert_id = digest.hexdigest()
        yield _Lead(
            lead_id=f"L-{100_000 + number}",
            received_at=min(midnight - age, datetime.now(UTC)).replace(microsecond=0),
            vendor=vendor,
            state=chance.choice(_STATES),
            price=f"{chance.uniform(8, 60):.2f}",
            cert_url=f"https://cert.trustedform.com/{cert_id}",
            cert_id=cert_id,
            domain=domain,
        )


async def load(connection: Connection) -> None:
    """Record the certificates of all leads but a few, as if they had come from elsewhere."""
    lines = (
        (
            number,
            msgspec.json.encode(
                {
                    "cert_id": lead.cert_id,
                    "kind": "web",
                    "insights": {
                        "properties": {"created_at": lead.received_at, "domain": lead.domain}
                    },
                }
            ),
        )
        for number, lead in enumerate(leads(), 1)
        if number % 97
    )
    for group in in_groups(lines):
        await import_lines(connection, group)


def write(path: Path) -> None:
    """Write the file of leads."""
    columns = ("lead_id", "received_at", "vendor", "state", "price", "cert_url")
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        for lead in leads():
            row = msgspec.to_builtins(lead)
            writer.writerow([row[name] for name in columns])
