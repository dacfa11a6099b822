"""A TCP relay to the database that can fall silent, as a network does that loses packets."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit, urlunsplit

_MOST = 65536


@dataclass(eq=False)
class Relay:
    """Forwards each connection to the database in both directions."""

    database_url: str
    url: str = ""
    """Of the database, by way of the relay."""
    _ends: set[asyncio.StreamWriter] = field(default_factory=set)
    _silent: set[asyncio.StreamWriter] = field(default_factory=set)

    @property
    def connections(self) -> int:
        """How many connections are open, without those that fell silent."""
        return len(self._ends - self._silent) // 2

    def fall_silent(self) -> None:
        """Drop what both ends of the connections open now send, and close none of them."""
        self._silent |= self._ends

    async def forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Forward a connection until both ends have closed it."""
        far_reader, far_writer = await self._connect()
        self._ends |= {writer, far_writer}
        await asyncio.gather(self._pump(reader, far_writer), self._pump(far_reader, writer))

    def close(self) -> None:
        """Close all connections."""
        for end in self._ends:
            end.close()

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        parts = urlsplit(self.database_url)
        if directory := parse_qs(parts.query).get("host"):
            return await asyncio.open_unix_connection(f"{directory[0]}/.s.PGSQL.5432")
        return await asyncio.open_connection(parts.hostname, parts.port or 5432)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError):
            while data := await reader.read(_MOST):
                if writer not in self._silent:
                    writer.write(data)
                    await writer.drain()
        if writer not in self._silent:
            writer.close()
            self._ends.discard(writer)


@asynccontextmanager
async def relay(database_url: str) -> AsyncIterator[Relay]:
    """Run a relay to the database."""
    relay = Relay(database_url)
    async with await asyncio.start_server(relay.forward, "127.0.0.1") as server:
        port = server.sockets[0].getsockname()[1]
        parts = urlsplit(database_url)
        user, at, _ = parts.netloc.rpartition("@")
        relay.url = urlunsplit(
            parts._replace(netloc=f"{user}{at}127.0.0.1:{port}", query="sslmode=disable")
        )
        try:
            yield relay
        finally:
            relay.close()
