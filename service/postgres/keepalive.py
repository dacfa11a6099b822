"""Find out within seconds that the other end of a TCP connection is gone without saying so.

A firewall or an address translation that forgets a connection drops its packets, and neither side is
told. Left to themselves, Linux asks after an idle connection in two hours, and sends what isn't
acknowledged again for a quarter of an hour.
"""

import socket
from typing import Any

import asyncpg

# After 5 idle seconds, ask every 3; give up after 3 questions, or 12 s of unacknowledged data.
_IDLE = 5
_INTERVAL = 3
_COUNT = 3
_MILLISECONDS = 12_000

# What the server does on its side, so that lost sessions don't use up its connections.
SERVER_SIDE = {
    "tcp_keepalives_idle": f"{_IDLE}",
    "tcp_keepalives_interval": f"{_INTERVAL}",
    "tcp_keepalives_count": f"{_COUNT}",
    "tcp_user_timeout": f"{_MILLISECONDS}",
}

_CLIENT_SIDE = {
    "TCP_KEEPIDLE": _IDLE,
    "TCP_KEEPINTVL": _INTERVAL,
    "TCP_KEEPCNT": _COUNT,
    "TCP_USER_TIMEOUT": _MILLISECONDS,
}


class KeptAlive(asyncpg.Connection):  # type: ignore[misc] # asyncpg ships no types
    """A connection whose socket is kept alive, for the `connection_class` of asyncpg."""

    # asyncpg has no option for it, and hands out the transport nowhere else.
    def __init__(self, protocol: Any, transport: Any, *rest: Any) -> None:
        super().__init__(protocol, transport, *rest)
        keep_alive(transport.get_extra_info("socket"))


def keep_alive(connected: socket.socket) -> None:
    """Let the kernel give up a TCP connection whose other end is silent for about 15 seconds."""
    if connected.family == socket.AF_UNIX:
        return
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _CLIENT_SIDE.items():
        # Not every system has all of them.
        if hasattr(socket, name):
            connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
