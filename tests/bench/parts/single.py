"""The endpoint, against a bare Litestar handler that returns the same bytes, and against two floors.

All run on the same server and read the request's body. Every call asks about another certificate, and
its answer is on record before it is sent. One floor does no more than read and respond. The other also
asks the database what the endpoint does, so it tells how far from the handler any endpoint must be.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from functools import partial

import httpx

from tests.bench.cluster import Bench, Filled, cert_id
from tests.bench.load import ALL, OWNER, Load, asking
from tests.bench.measuring import Figure, Rounds, cpu_figures, in_turns
from tests.bench.processes import Target, serving, target_of
from tests.builders import basic

# Connections, and the seconds of a turn.
_LOADS = {64: 2, 1: 1}
_KINDS = {
    "": ("all published properties", ALL),
    "owner.": ("confirmed_owner alone", OWNER),
}


def measure(bench: Bench) -> Iterator[Figure]:
    filled = bench.database()
    load = Load(filled)
    with ExitStack() as stack:
        ours = target_of(stack.enter_context(bench.service(filled)))

        def bare(name: str, properties: Sequence[str], *where: str) -> Target:
            body = sample(ours.url, filled, properties)
            log = bench.directory / "bare.log"
            return stack.enter_context(serving("tests.bench.bare", log, name, body, *where))

        targets = {
            "floor": (bare("callable", ALL), ALL),
            "asking": (bare("callable", ALL, filled.url, filled.key), ALL),
        }
        for kind, (_, properties) in _KINDS.items():
            targets[f"{kind}ours"] = ours, properties
            targets[f"{kind}bare"] = bare("handler", properties), properties
        for connections, seconds in _LOADS.items():
            rounds = in_turns(
                {
                    name: partial(load.turn, target, connections, seconds, properties)
                    for name, (target, properties) in targets.items()
                }
            )
            for kind, (says, _) in _KINDS.items():
                case = f"{connections} connection{'s' if connections > 1 else ''}, {says}"
                yield from _figures(rounds, kind, case, connections)


def sample(url: str, filled: Filled, properties: Sequence[str]) -> str:
    """The body of an answer."""
    body = asking(properties)
    response = httpx.post(f"{url}/{cert_id(1)}", headers=basic(filled.key), json=body)
    assert response.status_code == 200, response.text
    return response.text


def _figures(rounds: Rounds, kind: str, case: str, connections: int) -> Iterator[Figure]:
    ours, bare = f"{kind}ours", f"{kind}bare"
    key = f"single.{kind}c{connections}"
    is_busy = connections > 1
    yield Figure(f"{key}.rps", case, "calls", rounds.values("rate", ours), "/s")
    yield Figure(
        f"{key}.ratio_to_bare",
        case,
        "calls, as a share of a bare Litestar handler's",
        rounds.ratios("rate", ours, bare),
        at_least=0.9 if is_busy else 0.6,
    )
    if not kind:
        yield Figure(
            f"{key}.ratio_to_floor",
            case,
            "calls, as a share of a bare ASGI callable's",
            rounds.ratios("rate", ours, "floor"),
        )
        yield from _figures_of_asking(rounds, key, case)
    yield Figure(
        f"{key}.p99_ms", case, "99 % of calls take at most", rounds.values("p99_ms", ours), "ms"
    )
    yield Figure(
        f"{key}.p99_to_bare",
        case,
        "the same, as a multiple of the bare handler's",
        rounds.ratios("p99_ms", ours, bare),
        at_most=2 if is_busy else None,
    )
    server, postgres = cpu_figures(key, case, rounds, ours)
    yield server
    yield Figure(
        f"{key}.cpu_ratio_to_bare",
        case,
        "the same, as a multiple of the bare handler's",
        rounds.ratios("server_us", ours, bare),
        at_most=0.8 if is_busy else None,
    )
    yield postgres


def _figures_of_asking(rounds: Rounds, key: str, case: str) -> Iterator[Figure]:
    floor = "a callable that asks the database the same"
    yield Figure(
        f"{key}.ratio_to_asking",
        case,
        f"calls, as a share of those of {floor}",
        rounds.ratios("rate", "ours", "asking"),
    )
    yield Figure(
        f"{key}.asking.ratio_to_bare",
        case,
        f"{floor}: calls, as a share of the bare handler's",
        rounds.ratios("rate", "asking", "bare"),
    )
    yield Figure(
        f"{key}.asking.cpu_ratio_to_bare",
        case,
        f"{floor}: CPU, as a multiple of the bare handler's",
        rounds.ratios("server_us", "asking", "bare"),
    )
