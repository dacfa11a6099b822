"""A client that speaks just enough HTTP/1.1, so that a call costs the machine little."""

import asyncio
import re

_LENGTH = re.compile(rb"(?im)^content-length: (\d+)")

# What goes wrong with a connection that the server closes or doesn't take.
FAILURES = (OSError, asyncio.IncompleteReadError)


def request(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """A request as it is sent. An underscore in a header's name stands for a hyphen."""
    lines = [f"{method} {path} HTTP/1.1", "Host: 127.0.0.1"]
    if body:
        headers = {"Content_Type": "application/json", "Content_Length": str(len(body)), **headers}
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + body


class Connection:
    """A connection that opens with its first request, and again after the server closed it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def ask(self, sent: bytes) -> tuple[int, bytes, bytes]:
        """Send a request, and return its response's status, head and body. Raises `FAILURES`."""
        if self._streams is None:
            self._streams = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._streams
        try:
            writer.write(sent)
            head = await reader.readuntil(b"\r\n\r\n")
            length = _LENGTH.search(head)
            body = await reader.readexactly(int(length[1])) if length else b""
        except FAILURES:
            self.close()
            raise
        if b"\r\nconnection: close" in head.lower():
            self.close()
        return int(head.split(b" ", 2)[1]), head, body

    async def send(self, more: bytes) -> None:
        """Send more of a request, as fast as the server takes it. Raises `FAILURES`."""
        if self._streams is not None:
            self._streams[1].write(more)
            await self._streams[1].drain()

    def close(self) -> None:
        """Close the connection, if it is open."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None
