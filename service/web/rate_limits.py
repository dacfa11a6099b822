"""Limits that a request counted against, for its `RateLimit` headers.

The fields are those of the IETF draft “RateLimit header fields for HTTP”.
"""

from contextvars import ContextVar

import msgspec


class Used(msgspec.Struct, frozen=True):
    """A limit of `limit` uses per `seconds`, of which `remaining` are left for `reset` seconds.

    Without `seconds`, it limits how many requests are in progress at the same time.
    """

    name: str
    limit: int
    seconds: int | None
    remaining: int
    reset: int


_used: ContextVar[list[Used] | None] = ContextVar("used limits", default=None)


def start() -> list[Used]:
    """Begin to note the limits of a request. Returns the list they will be in."""
    used: list[Used] = []
    _used.set(used)
    return used


def note(used: Used) -> None:
    """Note a use of a limit, if a request is being answered."""
    noted = _used.get()
    if noted is not None:
        noted.append(used)


def headers(used: list[Used]) -> list[tuple[bytes, bytes]]:
    """Return the headers about the limit that has the fewest uses left."""
    if not used:
        return []
    least = min(used, key=lambda each: each.remaining)
    name = least.name.replace('"', "'")
    of = 'qu="concurrent-requests"' if least.seconds is None else f"w={least.seconds}"
    return [
        (b"ratelimit-policy", f'"{name}";q={least.limit};{of}'.encode()),
        (b"ratelimit", f'"{name}";r={least.remaining};t={least.reset}'.encode()),
    ]
