"""Build the world that tests use: companies, their connections, and certificates."""

import asyncio
import base64
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import httpx

from service.accounts import accounts, keys, members, sign_in
from service.audit import OPERATOR, Actor
from service.certificates.imports import LineResult, import_lines
from service.connections import connections, grants
from service.invitations import invitations, opt_outs
from service.invitations.invitations import Sent
from service.invitations.queries import select_invitation
from service.invitations.records import Invitation, Reason
from service.ownership import claims, ownerships
from service.postgres.pools import Database
from service.tokens import link_token

SECRET = "a secret of the tests, long enough"
NO_VERIFIED = "No Verified ActiveProspect Account Identified"
VERIFIED = "ActiveProspect Verified Account"

# Every table that tests write to. Referring tables come before those they refer to.
TABLES = (
    "sealed_answer", "log_tile", "log_checkpoint", "log_drop", "log_key", "log",
    "batch_upload", "batch_chunk", "batch_result", "batch_format", "batch",
    "domain_evidence", "ownership", "domain_claim", "answer", "retained_certificate",
    "sign_in_link", "invitation_link", "invitation", "mail", "invitation_opt_out", "grant_request",
    "visibility_grant", "connection", "certificate", "certificate_usage", "account_limit",
    "account_name", "account_suspension", "event",
    "idempotent_request", "allowance", "user_session", "membership", "api_key", "app_user",
    "account", "pgqueuer", "pgqueuer_schedules",
)  # fmt: skip

_counter = itertools.count(1)


@dataclass(frozen=True)
class Company:
    """An account with a key."""

    id: UUID
    name: str
    key: str
    key_id: UUID
    email: str
    """Of its admin."""

    @property
    def headers(self) -> dict[str, str]:
        return basic(self.key)


def link_of(invitation: Invitation) -> str:
    """The path of the link in the invitation's latest mail."""
    return f"/invitations/{link_token(SECRET.encode(), invitation.mail_id)}"


def basic(key: str, user: str = "X") -> dict[str, str]:
    """An HTTP Basic authentication header."""
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{key}".encode()).decode()}


def web_id() -> str:
    """A new, unique certificate id."""
    return f"{next(_counter):040x}"


def mobile_id() -> str:
    return f"Mobile-{next(_counter):073d}"


def meta_id() -> str:
    return f"0.{next(_counter)}.meta"


def by(company: Company) -> Actor:
    return Actor("key", company.id, company.key_id)


async def until(condition: Callable[[], Awaitable[object]], seconds: float = 20) -> None:
    """Wait until the condition holds, and fail if it doesn't in time."""
    deadline = time.monotonic() + seconds
    while not await condition():
        assert time.monotonic() < deadline
        await asyncio.sleep(0.02)


class World:
    """Change the world through the service's functions, and ask over HTTP."""

    def __init__(self, database: Database, client: httpx.AsyncClient) -> None:
        self.database = database
        self.client = client

    async def reset(self) -> None:
        """Empty every table. With few rows, DELETE is 50 times as fast as TRUNCATE."""
        async with self.database.general.transaction() as connection:
            await connection.execute("; ".join(f"DELETE FROM {table}" for table in TABLES))

    async def instant(self) -> datetime:
        """An instant between what was done before and what is done next."""
        (row,) = await self.fetch("SELECT clock_timestamp() AS now")
        now: datetime = row["now"]
        return now

    async def company(self, name: str | None = None, email: str | None = None) -> Company:
        number = next(_counter)
        name = name or f"Company number {number}"
        async with self.database.general.transaction() as connection:
            email = email or f"a{number}@example.com"
            account = await accounts.create_account(connection, name, email)
            key_id, key = await keys.create_key(connection, account.id)
        return Company(account.id, name, key, key_id, email)

    async def own(self, owner: Company, domain: str, *, covers_subdomains: bool = False) -> None:
        async with self.database.general.transaction() as connection:
            await ownerships.attest(
                connection,
                owner.id,
                domain,
                covers_subdomains=covers_subdomains,
                replace=True,
            )

    async def disown(self, domain: str) -> None:
        """Remove a domain on behalf of its owner."""
        async with self.database.general.transaction() as connection:
            (owner,) = await connection.fetch(
                "SELECT account_id FROM ownership WHERE domain = $1 AND ended_at IS NULL", domain
            )
            await claims.remove(connection, owner["account_id"], domain, OPERATOR)

    async def connect(self, buyer: Company, seller: Company) -> None:
        async with self.database.general.transaction() as connection:
            await connections.connect(connection, buyer_id=buyer.id, seller_id=seller.id)

    async def disconnect(self, buyer: Company, seller: Company) -> None:
        async with self.database.general.transaction() as connection:
            await connections.disconnect(connection, buyer_id=buyer.id, seller_id=seller.id)

    async def grant(self, owner: Company, viewer: Company) -> None:
        async with self.database.general.transaction() as connection:
            await grants.grant(connection, owner_id=owner.id, viewer_id=viewer.id)

    async def revoke(self, owner: Company, viewer: Company) -> None:
        async with self.database.general.transaction() as connection:
            await grants.revoke(connection, owner_id=owner.id, viewer_id=viewer.id)

    async def permit(self, owner: Company, viewer: Company) -> None:
        """Connect the two companies, and show the owner's name to the viewer."""
        await self.connect(viewer, owner)
        await self.grant(owner, viewer)

    async def invite(
        self, inviter: Company, email: str, reason: Reason = "domain_ownership_visibility"
    ) -> Invitation:
        """Invite an address that is neither invited nor connected yet."""
        async with self.database.general.transaction() as connection:
            sent = await invitations.invite(
                connection,
                SECRET.encode(),
                inviter.id,
                Actor("key", inviter.id, inviter.key_id),
                email,
                reason,
                role="member" if reason == "join_account" else None,
            )
        assert isinstance(sent, Sent)
        return sent.invitation

    async def opt_out(self, invitation: Invitation, *, of_all: bool) -> None:
        """Opt its recipient out, as by the link in the invitation's email."""
        async with self.database.general.transaction() as connection:
            await opt_outs.opt_out(connection, SECRET.encode(), invitation, of_all=of_all)

    async def invitation(self, invitation: Invitation) -> Invitation:
        """The current state of an invitation."""
        async with self.database.general.connection() as connection:
            now = await select_invitation(connection, invitation.id)
        assert now is not None
        return now

    async def mails(self, kind: str) -> list[tuple[str, str]]:
        """The recipient and state of each mail of a kind."""
        rows = await self.fetch(
            "SELECT recipient, state FROM mail WHERE kind = $1 ORDER BY recipient, created_at", kind
        )
        return [(row["recipient"], row["state"]) for row in rows]

    async def events(self, company: Company) -> list[tuple[str, str]]:
        """The action and actor of each event that an account sees, oldest first.

        Leaves out the creation of the account and its keys.
        """
        response = await self.client.get("/v1/events?limit=100", headers=company.headers)
        assert response.status_code == 200, response.text
        told = [(item["action"], item["by"]["kind"]) for item in response.json()["items"]]
        return [each for each in reversed(told) if not each[0].startswith(("account.", "key."))]

    async def rename(self, company: Company, name: str) -> None:
        async with self.database.general.transaction() as connection:
            account = await accounts.find_account(connection, str(company.id))
            await accounts.rename_account(connection, account, name)

    async def suspend(self, company: Company) -> None:
        async with self.database.general.transaction() as connection:
            await accounts.suspend_account(connection, company.id)

    async def reinstate(self, company: Company) -> None:
        async with self.database.general.transaction() as connection:
            await accounts.reinstate_account(connection, company.id)

    async def certificate(
        self,
        cert_id: str | None = None,
        *,
        account: Company | None = None,
        created: timedelta = timedelta(hours=-1),
        **properties: Any,
    ) -> str:
        """Record a certificate as the operator, and return its id. By default it is an hour old."""
        cert_id = cert_id or web_id()
        created_at = datetime.now(UTC) + created
        line: dict[str, Any] = {
            "cert_id": cert_id,
            "insights": {"properties": {"created_at": created_at.isoformat(), **properties}},
        }
        if account:
            line["account"] = str(account.id)
        (result,) = await self.import_lines(line)
        assert not result.error, result.error
        return cert_id

    async def import_lines(self, *lines: Mapping[str, Any] | bytes) -> list[LineResult]:
        """Import lines as the operator."""
        encoded = [line if isinstance(line, bytes) else json.dumps(line).encode() for line in lines]
        async with self.database.general.transaction() as connection:
            return await import_lines(connection, list(enumerate(encoded, start=1)))

    async def ask(self, viewer: Company, cert_id: str, *properties: str) -> httpx.Response:
        """Call the endpoint, by default for `confirmed_owner`."""
        return await self.client.post(
            f"/{cert_id}",
            headers=viewer.headers,
            json={"insights": {"properties": properties or ["confirmed_owner"]}},
        )

    async def confirmed_owner(self, viewer: Company, cert_id: str) -> str | None:
        """The `confirmed_owner` that a viewer gets for a certificate."""
        response = await self.ask(viewer, cert_id)
        assert response.status_code == 200, response.text
        return response.json()["insights"]["properties"]["confirmed_owner"]

    async def fetch(self, statement: str, *arguments: Any) -> list[Any]:
        """Query the database."""
        async with self.database.general.connection() as connection:
            return await connection.fetch(statement, *arguments)

    async def session(self, email: str) -> str:
        """Sign a user in, and return the token of the session."""
        async with self.database.general.transaction() as connection:
            user = await members.find_user(connection, email)
            assert user is not None
            return await sign_in.start_session(connection, user, None)

    async def contents(self) -> dict[str, str]:
        """A digest of each table, to tell whether a call changed anything.

        Leaves out when keys were last used, which is written in the background.
        """
        row = "(to_jsonb(each) - 'last_used_at')::text"
        digests = " UNION ALL ".join(
            f"SELECT '{table}', md5(string_agg({row}, ' ' ORDER BY {row})) FROM {table} AS each"
            for table in TABLES
        )
        return dict(await self.fetch(digests))


async def make_member(world: World, account: Company, company: Company, role: str) -> UUID:
    """Make a company's admin a member of another account as well."""
    (row,) = await world.fetch(
        """
        INSERT INTO membership (account_id, user_id, role)
        SELECT $1, id, $3 FROM app_user WHERE email = $2 RETURNING user_id
        """,
        account.id,
        company.email,
        role,
    )
    user_id: UUID = row["user_id"]
    return user_id


async def member_of(world: World, company: Company, email: str, role: str = "member") -> None:
    await world.fetch(
        """
        WITH person AS (
            INSERT INTO app_user (id, email) VALUES (gen_random_uuid(), $1)
            ON CONFLICT (email) DO UPDATE SET email = excluded.email RETURNING id
        )
        INSERT INTO membership (account_id, user_id, role) SELECT $2, id, $3 FROM person
        """,
        email,
        company.id,
        role,
    )
