"""Forks of this process, which live and die with it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

# How many seconds a process has to end what it has begun.
PATIENCE = 10


@contextmanager
def kept_running(work: Callable[[], None]) -> Iterator[None]:
    """Run `work` in a fork of this process while the block goes on, and again whenever it ends."""
    fork = multiprocessing.get_context("fork")
    lifeline()
    leaving = threading.Event()

    def child() -> None:
        # An interrupt is meant for the parent, which ends this one in its own time.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_parent()
        work()

    def keep() -> None:
        while not leaving.is_set():
            process = fork.Process(target=child)
            process.start()
            while process.is_alive() and not leaving.is_set():
                process.join(0.2)
            deadline = time.monotonic() + PATIENCE
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
def lifeline() -> tuple[int, int]:
    """The two ends of a pipe that is held open by this process, and by none of its forks."""
    return os.pipe()


def end_with_parent() -> None:
    """In a fork: end at once when the parent has ended, however that came to be."""
    parent_is_gone, parent_lives = lifeline()
    os.close(parent_lives)

    def watch() -> None:
        # Nothing is ever written: reading returns when nobody is left who could write.
        os.read(parent_is_gone, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
