"""Serve an application over HTTP, in worker processes that live and die with this one."""

import gc
import multiprocessing
import resource
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from granian.constants import HTTPModes, Interfaces, Loops
from granian.http import HTTP1Settings
from granian.server import MPServer

from service.errors import ServiceError
from service.processes.forks import PATIENCE, end_with_parent, lifeline
from service.processes.logs import GRANIAN_LOGGING
from service.processes.silence import close_silent_connections

# Bytes of a request's head, beyond which it is refused with 431 (RFC 6585, section 5).
LARGEST_HEAD = 64 * 1024

# How many connections a process holds. Requests in progress are far fewer; see `web/front.py`.
MOST_CONNECTIONS = 8192

# How many file descriptors are left for all else, such as the database, the vendor, and uploads.
_OTHER_FILES = 256

# As in the ASGI specification.
Application: TypeAlias = Callable[..., Awaitable[None]]


class CannotServe(ServiceError):
    """The address is not this machine's, or its port is taken."""


def free_address(host: str, port: int) -> str:
    """Return the IP address to serve on, after checking that the port is free.

    Granian would share a port with another process that allows it, such as a forgotten service of
    ours, and the two would take turns answering.

    Raises `CannotServe`.
    """
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
    except OSError as error:
        raise CannotServe(
            f"can't serve on {host} port {port} (HOST, PORT): {error.strerror}"
        ) from error
    return str(address[0])


class _Server(MPServer):
    """Calls `on_stopping` when it is told to stop, and not only once its workers have ended."""

    on_stopping: Callable[[], None]

    def shutdown(self, exit_code: int = 0) -> None:
        self.on_stopping()
        super().shutdown(exit_code)  # type: ignore[no-untyped-call] # Granian's


def serve(
    make_app: Callable[[], Application],
    address: str,
    port: int,
    workers: int,
    on_stopping: Callable[[], None] = lambda: None,
) -> None:
    """Serve the application until interrupted. Each worker is a fork that makes its own.

    `on_stopping` is called when it begins to stop.
    """
    multiprocessing.set_start_method("fork", force=True)
    lifeline()
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    # Without a descriptor, nothing gets on: neither an answer without a connection to the database,
    # nor what closes silent connections. So no more are accepted than leave some.
    connections = min(MOST_CONNECTIONS, max(most_files - _OTHER_FILES, most_files // 2))

    def load() -> Application:
        # Drop the parent's signal handlers, so that an early signal ends the worker.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        # A worker orphaned by a killed parent would keep holding the port.
        end_with_parent()
        close_silent_connections(port)
        app = make_app()
        # Garbage collection takes most of the time of the slowest calls. Don't go through what
        # lives as long as the process again, and collect young objects less often: nearly all are
        # freed without it.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        return app

    server = _Server(
        "service.app:create_app",
        address=address,
        port=port,
        interface=Interfaces.ASGI,
        workers=workers,
        loop=Loops.uvloop,
        # HTTP/2 is the proxy's job. Its header compression would let half a megabyte fill the memory.
        http=HTTPModes.http1,
        http1_settings=HTTP1Settings(max_buffer_size=LARGEST_HEAD),
        websockets=False,
        backlog=1024,
        backpressure=connections,
        log_dictconfig=GRANIAN_LOGGING,
        respawn_failed_workers=True,
        workers_kill_timeout=PATIENCE,
    )
    server.on_stopping = on_stopping
    server.serve(target_loader=load, wrap_loader=False)
