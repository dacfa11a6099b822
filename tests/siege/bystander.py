"""Somebody else's ordinary calls, and the operator's probes."""

import asyncio
import itertools
import time
from collections import Counter
from dataclasses import dataclass, field

from tests.siege.connection import FAILURES, Connection, request

_CONNECTIONS = 3
_CALLS_A_SECOND = 90
_ACCOUNT_CALLS_A_SECOND = 10
_PROBES_A_SECOND = 10
_PATIENCE = 5.0


@dataclass
class Seen:
    """What calls and probes got, and how many milliseconds each took since it was due."""

    got: Counter[str] = field(default_factory=Counter)
    calls: list[float] = field(default_factory=list)
    probes_got: Counter[str] = field(default_factory=Counter)
    probes: list[float] = field(default_factory=list)

    def percentile(self, share: float) -> float:
        """The milliseconds that all calls but this share's rest took at most."""
        return sorted(self.calls)[min(len(self.calls) - 1, int(len(self.calls) * share))]


async def watch(port: int, call: bytes, authorization: str, seconds: float) -> Seen:
    """Call and probe at a steady pace for so many seconds, and return what that was like.

    Probes, and the calls about the account, have a new connection each.
    """
    seen = Seen()
    account = request("GET", "/v1/account", Authorization=authorization, Connection="close")
    probes = [request("GET", path, Connection="close") for path in ("/health", "/ready")]
    started = time.monotonic()

    async def steadily(
        requests: list[bytes], first: float, every: float, got: Counter[str], took: list[float]
    ) -> None:
        connection = Connection(port)
        due = started + first
        for sent in itertools.cycle(requests):
            if max(due, time.monotonic()) >= started + seconds:
                break
            await asyncio.sleep(due - time.monotonic())
            try:
                async with asyncio.timeout(_PATIENCE):
                    status, _, _ = await connection.ask(sent)
            except (TimeoutError, *FAILURES) as error:
                connection.close()
                got[type(error).__name__] += 1
            else:
                got[str(status)] += 1
            took.append((time.monotonic() - due) * 1000)
            due += every
        connection.close()
        # What was due while another call took its time would have waited as well.
        while due < started + seconds:
            took.append((time.monotonic() - due) * 1000)
            due += every

    every = _CONNECTIONS / _CALLS_A_SECOND
    await asyncio.gather(
        *(
            steadily([call], number / _CALLS_A_SECOND, every, seen.got, seen.calls)
            for number in range(_CONNECTIONS)
        ),
        steadily([account], 0, 1 / _ACCOUNT_CALLS_A_SECOND, seen.got, seen.calls),
        steadily(probes, 0, 1 / _PROBES_A_SECOND, seen.probes_got, seen.probes),
    )
    return seen
