"""The demo: a few companies, their connections, and certificates for every kind of answer.

Its API keys are public, so it refuses to load into a database that other companies already use, and
the service refuses to open it to other machines.
"""

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID

import msgspec
from rich.console import Console
from rich.table import Table

from service import audit
from service.accounts import accounts, keys
from service.accounts.names import NO_VERIFIED_ACCOUNT, VERIFIED_ACCOUNT
from service.certificates.hosts import host_of
from service.certificates.imports import import_lines
from service.connections.connections import connect
from service.connections.grants import grant
from service.demo import leads
from service.errors import Conflict, InactiveAccount, Unauthorized
from service.ownership.ownerships import attest
from service.postgres.pools import Connection
from service.settings import is_loopback

HARBOR = "Harbor Insurance Group"
SUMMIT = "Summit Solar Buyers"
BRIGHT = "BrightQuote Media"
SPRING = "LeadSpring Networks"
HERON = "Blue Heron Marketing"
MUNICH = "München Leads GmbH"
SUSPENDED = "Closed Door Media"

_ROLES = {
    HARBOR: "buyer",
    SUMMIT: "buyer",
    BRIGHT: "seller",
    SPRING: "seller",
    HERON: "seller",
    MUNICH: "seller",
}

# This event distinguishes a database with the demo from one with other companies.
_LOADED = "demo.loaded"
_LEADS_LOADED = "demo.leads_loaded"

# Owner, domain, and whether its subdomains are covered.
_DOMAINS = (
    (BRIGHT, "brightquote.example", True),
    (HERON, "partners.brightquote.example", False),
    (SPRING, "quotes.leadspring.example", False),
    (HERON, "blueheron.example", True),
    (MUNICH, "münchen-leads.example", False),
    (SUSPENDED, "closeddoor.example", True),
)

# Buyer, seller, and whether the seller lets the buyer see its name.
_CONNECTIONS = (
    (HARBOR, BRIGHT, True),
    (HARBOR, SPRING, False),
    (HARBOR, MUNICH, True),
    (SUMMIT, HERON, True),
)


class DemoAccount(msgspec.Struct):
    """A demo company, and the key to call as it."""

    id: str
    api_key: str
    role: str


class DemoCertificate(msgspec.Struct):
    """A demo certificate. `expect` has each company's `confirmed_owner`, or None for a 404."""

    cert_id: str
    kind: str
    domain: str | None
    shows: str
    http_status: int
    expect: dict[str, str | None]


class Demo(msgspec.Struct):
    """Everything the demo holds."""

    url: str
    accounts: dict[str, DemoAccount]
    certificates: list[DemoCertificate]


class _Sample(msgspec.Struct):
    """A certificate to make, what it demonstrates, and the owner and viewers we expect for it."""

    shows: str
    properties: dict[str, object]
    kind: str = "web"
    account: str | None = None
    owner: str | None = None
    named_for: Sequence[str] = ()
    has_domain: bool = True
    expired: bool = False


_SAMPLES = (
    _Sample(
        "owned by a partner that lets Harbor see its name",
        {"domain": "brightquote.example", "page_url": "https://brightquote.example/auto"},
        owner=BRIGHT,
        named_for=(HARBOR, BRIGHT),
    ),
    _Sample(
        "a subdomain of a domain owned with all its subdomains",
        {"domain": "www.auto.brightquote.example"},
        owner=BRIGHT,
        named_for=(HARBOR, BRIGHT),
    ),
    _Sample(
        "a subdomain with an owner of its own",
        {"domain": "partners.brightquote.example"},
        owner=HERON,
        named_for=(SUMMIT, HERON),
    ),
    _Sample(
        "owned by a partner that shows its name to nobody",
        {"domain": "quotes.leadspring.example"},
        owner=SPRING,
        named_for=(SPRING,),
    ),
    _Sample(
        "a subdomain of a domain owned without its subdomains",
        {"domain": "news.quotes.leadspring.example"},
    ),
    _Sample(
        "a form framed by the page the consumer saw",
        {
            "is_framed": True,
            "page_url": "https://forms.widgets.example/solar",
            "parent_page_url": "https://www.blueheron.example/solar?source=search",
        },
        owner=HERON,
        named_for=(SUMMIT, HERON),
    ),
    _Sample(
        "an internationalized domain",
        {"domain": "www.münchen-leads.example", "page_url": "https://www.münchen-leads.example/"},
        owner=MUNICH,
        named_for=(HARBOR, MUNICH),
    ),
    _Sample("owned by nobody", {"domain": "unclaimed-offers.example"}),
    _Sample("owned by a suspended account", {"domain": "closeddoor.example"}),
    _Sample(
        "masked: no readable domain, so the certificate's account counts as the owner",
        {"is_masked": True, "domain": "f3a9c1d27be84650"},
        account=BRIGHT,
        owner=BRIGHT,
        named_for=(HARBOR, BRIGHT),
        has_domain=False,
    ),
    _Sample(
        "from a mobile app of a known account",
        {"seconds_on_page": 80, "os": {"name": "Android", "is_mobile": True}},
        kind="mobile",
        account=HERON,
        owner=HERON,
        named_for=(SUMMIT, HERON),
        has_domain=False,
    ),
    _Sample(
        "a Meta lead ad of a known account",
        {},
        kind="meta",
        account=BRIGHT,
        owner=BRIGHT,
        named_for=(HARBOR, BRIGHT),
        has_domain=False,
    ),
    _Sample("a Meta lead ad of no known account", {}, kind="meta", has_domain=False),
    _Sample("expired", {"domain": "brightquote.example"}, expired=True),
)


async def load(connection: Connection, url: str) -> Demo:
    """Load the demo if it isn't there, and renew its certificates. Needs a transaction.

    Raises `Conflict` if the database has other companies but not the demo.
    """
    if not await audit.happened(connection, _LOADED):
        if await accounts.count_accounts(connection):
            raise Conflict(
                "this database is in use, and the demo's API keys are public: load the demo into another"
            )
        await _load_companies(connection)
        await audit.record(connection, _LOADED)
    if not await audit.happened(connection, _LEADS_LOADED):
        await leads.load(connection)
        await audit.record(connection, _LEADS_LOADED)
    lines = [(number, _line(number, sample)) for number, sample in enumerate(_SAMPLES, start=1)]
    await import_lines(connection, lines)
    # Found by key, revoked or not, since a company may have been renamed.
    holders = await keys.holders_of(connection, map(_key, _ROLES))
    return Demo(
        url=url,
        accounts={
            name: DemoAccount(id=str(holders[_key(name)]), api_key=_key(name), role=role)
            for name, role in _ROLES.items()
        },
        certificates=[_certificate(number, sample) for number, sample in enumerate(_SAMPLES, 1)],
    )


async def _load_companies(connection: Connection) -> None:
    ids: dict[str, UUID] = {}
    for number, name in enumerate([*_ROLES, SUSPENDED]):
        account = await accounts.create_account(connection, name, f"admin@company{number}.example")
        ids[name] = account.id
    for name in _ROLES:
        await keys.create_key(connection, ids[name], _key(name))
    for owner, domain, covers_subdomains in _DOMAINS:
        await attest(connection, ids[owner], domain, covers_subdomains=covers_subdomains)
    for buyer, seller, shows_name in _CONNECTIONS:
        await connect(connection, buyer_id=ids[buyer], seller_id=ids[seller])
        if shows_name:
            await grant(connection, owner_id=ids[seller], viewer_id=ids[buyer])
    await accounts.suspend_account(connection, ids[SUSPENDED])


async def has_active_keys(connection: Connection) -> bool:
    """Whether a public key of the demo isn't revoked, even if its company is suspended now."""
    for name in _ROLES:
        with suppress(Unauthorized):
            with suppress(InactiveAccount):
                await keys.authenticate(connection, _key(name))
            return True
    return False


def check_host(host: str) -> None:
    """Raise `Conflict` if other machines can reach a host, as they would then the demo."""
    if not is_loopback(host):
        raise Conflict(
            f"with HOST={host}, other machines could use the demo's API keys, which are public: serve "
            "the demo on 127.0.0.1, or start without it, with a new STATE_DIR or an empty database"
        )


def show(demo: Demo, file: Path, console: Console) -> None:
    """Print who sees what, how to call the service, and how to check the file of leads."""
    table = Table(title="Who sees what", show_lines=True)
    table.add_column("Certificate", width=30, overflow="fold")
    table.add_column("Owner, and who is told its name", width=20)
    table.add_column("Everyone else is told", width=20)
    for certificate in demo.certificates:
        named = {name: told for name, told in certificate.expect.items() if told in _ROLES}
        owner = next(iter(named.values()), None)
        others = {told or "null" for told in certificate.expect.values() if told not in _ROLES}
        table.add_row(
            f"[bold]{certificate.domain or certificate.kind}[/]\n{certificate.shows}",
            f"[green]{owner}[/]\n"
            + ", ".join("itself" if name == owner else name for name in named)
            if owner
            else "–",
            "404, not found" if certificate.http_status == 404 else ", ".join(others),
        )
    console.print(table)
    key = demo.accounts[HARBOR].api_key
    console.print(f"\nAsk as {HARBOR}:")
    for certificate in demo.certificates:
        console.print(f"\n# {certificate.shows}", style="dim", highlight=False)
        console.print(
            f"curl -u X:{key} {demo.url}/{certificate.cert_id} -H 'Content-Type: application/json' "
            """-d '{"insights": {"properties": ["confirmed_owner", "domain"]}}'""",
            soft_wrap=True,
            highlight=False,
            markup=False,
        )
    if file.is_relative_to(Path.cwd()):
        file = file.relative_to(Path.cwd())
    console.print(f"\nCheck {leads.ROWS:,} leads at once:\n")
    console.print(
        f"CONFIRMED_OWNER_API_KEY={key} CONFIRMED_OWNER_URL={demo.url} "
        f".venv/bin/confirmed-owner check {file} --html {file.with_name('report.html')}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )


def _key(name: str) -> str:
    return keys.PREFIX + hashlib.sha256(f"the demo's key of {name}".encode()).hexdigest()[:48]


def _cert_id(number: int, kind: str) -> str:
    digest = hashlib.sha1(f"the demo's certificate {number}".encode(), usedforsecurity=False)
    forms = {"web": "{0}", "mobile": "{0}{0}", "meta": "0.{0}.demo"}
    return forms[kind].format(digest.hexdigest())


def _line(number: int, sample: _Sample) -> bytes:
    now = datetime.now(UTC).replace(microsecond=0)
    created_at = now - (timedelta(days=200) if sample.expired else timedelta(hours=1))
    properties = {
        "created_at": created_at,
        "expires_at": created_at + timedelta(days=90),
        **sample.properties,
    }
    line: dict[str, object] = {
        "cert_id": _cert_id(number, sample.kind),
        "kind": sample.kind,
        "insights": {"properties": properties},
    }
    if sample.account:
        line["account"] = sample.account
    return msgspec.json.encode(line)


def _certificate(number: int, sample: _Sample) -> DemoCertificate:
    def told(name: str) -> str | None:
        if sample.expired or (sample.owner is None and not sample.has_domain):
            return None
        if sample.owner is None:
            return NO_VERIFIED_ACCOUNT
        return sample.owner if name in sample.named_for else VERIFIED_ACCOUNT

    return DemoCertificate(
        cert_id=_cert_id(number, sample.kind),
        kind=sample.kind,
        domain=host_of(sample.kind, sample.properties),
        shows=sample.shows,
        http_status=404 if sample.expired else 200,
        expect={name: told(name) for name in _ROLES},
    )
