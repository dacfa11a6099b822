"""Close connections that stay silent.

The HTTP server has a deadline for a request's head once it has begun, and after each response. But it
waits for the first byte forever, and clients that never send one could take all its connections.
"""

import contextlib
import os
import socket
import struct
import threading
import time
from pathlib import Path

# How long a new connection may send nothing, in seconds, and how often we look.
SILENT_FOR = 10.0
_LOOKS_EVERY = 2.5

_OWN_FILES = Path("/proc/self/fd")

# In Linux's `struct tcp_info`: the state, milliseconds since the last data came, bytes received.
_TCP_INFO = struct.Struct("=B51xI72xQ")
_ESTABLISHED = 1


def close_silent_connections(port: int) -> None:
    """From now on, close connections to this process's port that have sent nothing for too long."""

    def watch() -> None:
        while True:
            time.sleep(_LOOKS_EVERY)
            # There may be no file descriptor left to look with.
            with contextlib.suppress(OSError):
                _close_silent(port)

    if _OWN_FILES.is_dir():
        threading.Thread(target=watch, daemon=True).start()


def _close_silent(port: int) -> None:
    for file in _OWN_FILES.iterdir():
        # It may be gone in the meantime, or no connection.
        with contextlib.suppress(OSError):
            _close_if_silent(int(file.name), port)


def _close_if_silent(descriptor: int, port: int) -> None:
    # A copy, so that what we look at is what we close, even if the server reuses the number.
    copy = os.dup(descriptor)
    try:
        connection = socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        raise
    with connection:
        if connection.family not in (socket.AF_INET, socket.AF_INET6):
            return
        if connection.getsockname()[1] != port:
            return
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size)
        state, silent_for, received = _TCP_INFO.unpack(info)
        if state == _ESTABLISHED and not received and silent_for > SILENT_FOR * 1000:
            connection.shutdown(socket.SHUT_RDWR)
