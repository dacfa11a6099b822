"""A headless browser: it keeps cookies, follows links, and submits forms."""

import re
from html import unescape
from typing import Any

import httpx
import msgspec

from service.accounts import queries, sign_in
from service.accounts.records import Session
from service.postgres.pools import Connection
from service.tokens import digest_of, link_token
from tests.builders import SECRET, World

ORIGIN = "http://service"

_HIDDEN = re.compile(r'<input type="hidden" name="(\w+)" value="([^"]*)">')


class Surfer:
    """A person using a browser."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        # The same application, with separate cookies.
        self._client = httpx.AsyncClient(
            transport=client._transport, base_url=ORIGIN, headers={"X-Request-Id": "test"}
        )
        self.page: httpx.Response | None = None

    @property
    def text(self) -> str:
        assert self.page is not None
        return unescape(self.page.text)

    @property
    def cookie(self) -> str | None:
        return self._client.cookies.get("session")

    @cookie.setter
    def cookie(self, value: str) -> None:
        self._client.cookies.set("session", value, domain="service.local", path="/")

    async def go(self, path: str) -> httpx.Response:
        """Open a page, following redirects."""
        self.page = await self._client.get(path, follow_redirects=True)
        return self.page

    async def send(
        self, path: str, *, headers: Any = None, files: Any = None, **fields: Any
    ) -> httpx.Response:
        """Submit a form, with the page's hidden fields unless overridden."""
        hidden = dict(_HIDDEN.findall(self.text)) if self.page is not None else {}
        data = {name: value for name, value in {**hidden, **fields}.items() if value is not None}
        headers = headers or {"Origin": ORIGIN}
        sent = await self._client.post(path, data=data, files=files, headers=headers)
        self.page = sent
        if sent.has_redirect_location:
            return await self.go(sent.headers["location"])
        return sent


async def signed_in(world: World, email: str) -> Surfer:
    """A surfer who signed in with the link mailed to an address."""
    surfer = Surfer(world.client)
    await surfer.go("/sign-in")
    await surfer.send("/sign-in", email=email)
    path = await sign_in_link(world, email)
    await surfer.go(path)
    await surfer.send(path)
    return surfer


async def sign_in_link(world: World, email: str) -> str:
    """The path of the latest sign-in link mailed to an address."""
    await send_links(world)
    (row,) = await world.fetch(
        "SELECT mail_id FROM sign_in_link WHERE email = $1 ORDER BY created_at DESC LIMIT 1", email
    )
    return f"/sign-in/{link_token(SECRET.encode(), row['mail_id'])}"


async def send_links(world: World) -> None:
    """Do the waiting jobs that send sign-in links."""
    async with world.database.general.transaction() as connection:
        jobs = await connection.fetch(
            "DELETE FROM pgqueuer WHERE entrypoint = $1 RETURNING id, payload", sign_in.JOB
        )
        for job in sorted(jobs, key=lambda job: job["id"]):
            request = msgspec.json.decode(job["payload"], type=sign_in.LinkRequest)
            await sign_in.send_link(connection, SECRET.encode(), request)


async def session_with(connection: Connection, token: str) -> Session | None:
    """Return the session that a browser with that token is in."""
    digest = digest_of(token)
    return (await queries.select_sessions(connection, [digest])).get(digest)
