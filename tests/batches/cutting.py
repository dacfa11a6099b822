"""A TCP proxy that cuts connections off in the middle, as networks do."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

_BLOCK = 16 * 1024


class Cutting:
    """Forwards connections to a port. Cuts the next ones off after so many bytes either way."""

    def __init__(self, target: int, cuts: list[int]) -> None:
        self.target = target
        self.cuts = cuts
        self.listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.listener.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                far = socket.create_connection(("127.0.0.1", self.target))
                limit = self.cuts[0] if self.cuts else None
                self._sockets += [near, far]
                for source, target in ((near, far), (far, near)):
                    thread = threading.Thread(target=self._forward, args=(source, target, limit))
                    self._threads.append(thread)
                    thread.start()

    def _forward(self, source: socket.socket, target: socket.socket, limit: int | None) -> None:
        sent = 0
        with suppress(OSError):
            while data := source.recv(_BLOCK):
                sent += len(data)
                if limit is not None and sent > limit:
                    self.cuts.pop(0)
                    break
                target.sendall(data)
        for each in (source, target):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close all connections."""
        for each in (self.listener, *self._sockets):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        for each in (self.listener, *self._sockets):
            each.close()


@contextmanager
def cutting(target: int, *cuts: int) -> Iterator[Cutting]:
    proxy = Cutting(target, list(cuts))
    threading.Thread(target=proxy.serve, daemon=True).start()
    try:
        yield proxy
    finally:
        proxy.close()
