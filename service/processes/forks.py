"""Forks of this process that live and die with it."""

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache

# How many seconds a process has to finish what it is doing. Whoever stops the service may kill all of
# it after 10, and what is left to do then takes its time, too.
PATIENCE = 8


@contextmanager
def kept_running(work: Callable[[], None]) -> Iterator[Callable[[], None]]:
    """Run `work` in a fork of this process during the block, again whenever it ends.

    Yield what ends it before the block does, without waiting for that.
    """
    fork = multiprocessing.get_context("fork")
    lifeline()
    leaving = threading.Event()
    begun = threading.Event()

    def child() -> None:
        # An interrupt is meant for the parent, which ends this process when it is ready.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        end_with_parent()
        work()

    def keep() -> None:
        while not leaving.is_set():
            process = fork.Process(target=child)
            try:
                process.start()
            finally:
                begun.set()
            while process.is_alive() and not leaving.is_set():
                process.join(0.2)
            deadline = time.monotonic() + PATIENCE
            while process.is_alive() and time.monotonic() < deadline:
                # More than once, because a new fork may still handle the signal as its parent does.
                process.terminate()
                process.join(0.2)
            process.kill()
            process.join()
            leaving.wait(1.0)

    keeper = threading.Thread(target=keep)
    keeper.start()
    # A process forked meanwhile would hold open what tells this one that another has ended.
    begun.wait()
    try:
        yield leaving.set
    finally:
        leaving.set()
        keeper.join()


@cache
def lifeline() -> tuple[int, int]:
    """Return a pipe's read and write ends; only this process keeps the write end open."""
    return os.pipe()


def end_with_parent() -> None:
    """In a fork: exit at once when the parent has ended, for whatever reason."""
    parent_is_gone, parent_lives = lifeline()
    os.close(parent_lives)

    def watch() -> None:
        # Nothing is ever written, so the read returns only when no writer is left.
        os.read(parent_is_gone, 1)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
