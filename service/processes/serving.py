"""Serving an application over HTTP, in worker processes that live and die with this one."""

import gc
import multiprocessing
import signal
import socket
from collections.abc import Awaitable, Callable
from typing import TypeAlias

from granian.constants import Interfaces, Loops
from granian.server import Server

from service.errors import ServiceError
from service.processes.forks import PATIENCE, end_with_parent, lifeline
from service.processes.logs import GRANIAN_LOGGING

# By the ASGI specification.
Application: TypeAlias = Callable[..., Awaitable[None]]


class CannotServe(ServiceError):
    """The address is not this machine's, or its port is taken."""


def free_address(host: str, port: int) -> str:
    """The IP address to serve on, where nobody serves yet.

    Granian would share a port with another process that lets it, such as a forgotten service of ours,
    and the two would answer in turn.

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


def serve(make_app: Callable[[], Application], address: str, port: int, workers: int) -> None:
    """Serve the application that each worker, a fork of this process, makes, until interrupted."""
    multiprocessing.set_start_method("fork", force=True)
    lifeline()

    def load() -> Application:
        # What was set up to stop the parent; here a signal that comes early is the worker's end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        # Orphaned by a killed parent, a worker would go on holding the port.
        end_with_parent()
        app = make_app()
        # Collections cost the slowest calls most of their time: what lives as long as the process is
        # not gone through again, and young garbage, nearly all freed without them, less often.
        gc.collect()
        gc.freeze()
        gc.set_threshold(20_000, 20, 20)
        return app

    Server(
        "service.app:create_app",
        address=address,
        port=port,
        interface=Interfaces.ASGI,
        workers=workers,
        loop=Loops.uvloop,
        websockets=False,
        log_dictconfig=GRANIAN_LOGGING,
        respawn_failed_workers=True,
        workers_kill_timeout=PATIENCE,
    ).serve(target_loader=load, wrap_loader=False)
