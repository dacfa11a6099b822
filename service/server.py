"""Serving an application over HTTP, in worker processes that live and die with this one."""

import gc
import multiprocessing
import os
import signal
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TypeAlias

from granian.constants import Interfaces, Loops
from granian.server import Server

from service.errors import ServiceError
from service.logs import GRANIAN_LOGGING

# By the ASGI specification.
Application: TypeAlias = Callable[..., Awaitable[None]]


# How many seconds a process has to end what it has begun.
_PATIENCE = 10


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


@contextmanager
def kept_running(work: Callable[[], None]) -> Iterator[None]:
    """Run `work` in a fork of this process while the block goes on, and again whenever it ends."""
    fork = multiprocessing.get_context("fork")
    _lifeline()
    leaving = threading.Event()

    def child() -> None:
        # An interrupt is meant for the parent, which ends this one in its own time.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _end_with_parent()
        work()

    def keep() -> None:
        while not leaving.is_set():
            process = fork.Process(target=child)
            process.start()
            while process.is_alive() and not leaving.is_set():
                process.join(0.2)
            deadline = time.monotonic() + _PATIENCE
            while process.is_alive() and time.monotonic() < deadline:
                # More than once: a child just forked may still do with the signal as this one does.
                process.terminate()
                process.join(0.2)
            process.kill()
            process.join()
            leaving.wait(1.0)

    keeper = threading.Thread(target=keep)
    keeper.start()
    try:
        yield
    finally:
        leaving.set()
        keeper.join()


@cache
def _lifeline() -> tuple[int, int]:
    """The two ends of a pipe that is held open by this process, and by none of its forks."""
    return os.pipe()


def _end_with_parent() -> None:
    """In a fork: end at once when the parent has ended, however that came to be."""
    parent_is_gone, parent_lives = _lifeline()
    os.close(parent_lives)

    def watch() -> None:
        # Nothing is ever written: reading returns when nobody is left who could write.
        os.read(parent_is_gone, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def serve(make_app: Callable[[], Application], address: str, port: int, workers: int) -> None:
    """Serve the application that each worker, a fork of this process, makes, until interrupted."""
    multiprocessing.set_start_method("fork", force=True)
    _lifeline()

    def load() -> Application:
        # What was set up to stop the parent; here a signal that comes early is the worker's end.
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.SIG_DFL)
        # Orphaned by a killed parent, a worker would go on holding the port.
        _end_with_parent()
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
        workers_kill_timeout=_PATIENCE,
    ).serve(target_loader=load, wrap_loader=False)
