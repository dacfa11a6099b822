"""Companies that use the management API."""

from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import httpx

from tests.builders import Company, World

INVITATIONS, CONNECTIONS, EVENTS = "/v1/invitations", "/v1/connections", "/v1/events"
ACCOUNT, MEMBERS, VISIBILITY = "/v1/account", "/v1/account/members", "/v1/account/visibility"


@dataclass(frozen=True)
class Party(Company):
    """A company that uses the API."""

    world: World

    async def do(
        self, method: str, path: str, body: Any = None, key: str | None = None
    ) -> httpx.Response:
        headers = {**self.headers, **({"Idempotency-Key": key} if key else {})}
        return await self.world.client.request(method, path, headers=headers, json=body)

    async def see(self, path: str) -> Any:
        response = await self.do("GET", path)
        assert response.status_code == 200, response.text
        return response.json()

    async def pages(self, path: str) -> list[Any]:
        """All items of a list, fetched two at a time."""
        items: list[Any] = []
        path += f"{'&' if '?' in path else '?'}limit=2"
        page = await self.see(path)
        while page["next"]:
            assert len(page["items"]) == 2
            items += page["items"]
            page = await self.see(f"{path}&cursor={page['next']}")
        return items + page["items"]

    async def invite(
        self, *emails: str, reason: str = "receive_leads", key: str | None = None, **more: Any
    ) -> httpx.Response:
        body = {"emails": emails, "reason": reason, **more}
        return await self.do("POST", INVITATIONS, body, key)

    async def invited(self, email: str, reason: str = "receive_leads", **more: Any) -> str:
        """Send an invitation, and return its path."""
        response = await self.invite(email, reason=reason, **more)
        assert response.status_code == 201, response.text
        return f"{INVITATIONS}/{response.json()['items'][0]['id']}"

    async def connection(self) -> Any:
        """The company's only connection."""
        (only,) = (await self.see(CONNECTIONS))["items"]
        return only

    async def user_id(self) -> str:
        return str((await self.see(MEMBERS))["items"][0]["user_id"])

    async def certificate(self) -> str:
        """A certificate of a lead from the company's own domain."""
        domain = f"d{uuid4().hex}.example"
        await self.world.own(self, domain)
        return await self.world.certificate(domain=domain)

    async def member(self, email: str, role: str = "member") -> str:
        """Add a user to the account, and return the member's path."""
        (user,) = await self.world.fetch(
            "INSERT INTO app_user (id, email) VALUES (gen_random_uuid(), $1) RETURNING id", email
        )
        statement = "INSERT INTO membership (account_id, user_id, role) VALUES ($1, $2, $3)"
        await self.world.fetch(statement, self.id, user["id"], role)
        return f"{MEMBERS}/{user['id']}"


async def party(world: World, name: str | None = None) -> Party:
    return Party(**vars(await world.company(name)), world=world)


async def two(world: World) -> tuple[Party, Party]:
    return await party(world), await party(world)


async def partners(world: World) -> tuple[Party, Party, str]:
    """A connected buyer and seller, and the path of their connection."""
    buyer, seller = await two(world)
    await world.connect(buyer, seller)
    return buyer, seller, f"{CONNECTIONS}/{(await buyer.connection())['id']}"


def problem(response: httpx.Response, status: int, field: str | None = None) -> Any:
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    body = response.json()
    assert body["status"] == status
    assert field is None or body["field"] == field, body
    return body
