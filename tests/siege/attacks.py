"""The attacks, in a process of their own: `python -m tests.siege.attacks`, told by its input which.

It has the lowest priority, and attacks have a pace, so that what others feel is what the server does
and not that two cores are shared. It prepares, says that it is ready, and begins when told to.
"""

import base64
import itertools
import json
import os
import re
import secrets
import sys
from collections.abc import Iterator
from html import unescape

import msgspec
import uvloop

from tests.siege.attacker import Attacker, Orders
from tests.siege.connection import Connection, request

_HIDDEN_TOKEN = re.compile(r'name="form_token" value="([^"]*)"')
_COOKIE = re.compile(r"(?im)^set-cookie: ([^;]*)")


def confirmed_owner(cert_id: str, authorization: str) -> bytes:
    """An ordinary call."""
    body = {"insights": {"properties": ["confirmed_owner"]}}
    return request("POST", f"/{cert_id}", json.dumps(body).encode(), Authorization=authorization)


async def nothing(attacker: Attacker) -> None:
    """What others do to the machine."""
    await attacker.hold(0, 1, b"")


async def silent_connections(attacker: Attacker) -> None:
    await attacker.hold(2000, 2000, b"")


async def half_heads(attacker: Attacker) -> None:
    await attacker.hold(2000, 2000, b"POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nX-Half: ")


async def unfinished_bodies_with_a_wrong_key(attacker: Attacker) -> None:
    head = request("POST", f"/{0:040x}", Authorization=_unknown_key(), Content_Length="100")
    await attacker.hold(1000, 300, head + b"{")


async def idle_connections_after_one_request(attacker: Attacker) -> None:
    await attacker.hold(1000, 300, request("GET", "/health"))


async def heavy_certificate(attacker: Attacker) -> None:
    """As heavy as an import allows."""
    call = _matching(attacker, "heavy")
    await attacker.repeat(128, 200, lambda _: call)


async def overweight_certificate(attacker: Attacker) -> None:
    """As heavy as one on record may be from before there were bounds."""
    call = _matching(attacker, "overweight")
    await attacker.repeat(128, 200, lambda _: call)


async def invitations_again(attacker: Attacker) -> None:
    """To addresses that are invited already."""
    call = _inviting(attacker, "invited")
    status, _, _ = await Connection(attacker.port).ask(call)
    assert status == 201
    await attacker.repeat(64, 100, lambda _: call)


async def invitations_of_more_and_more(attacker: Attacker) -> None:
    numbers = itertools.count()
    await attacker.repeat(
        64,
        100,
        lambda _: _inviting(attacker, f"n{next(numbers)}x", Idempotency_Key=secrets.token_hex(8)),
    )


async def large_imports(attacker: Attacker) -> None:
    lines = (
        json.dumps(
            {
                "cert_id": f"{number + 2**32:040x}",
                "insights": {"properties": {"page_url": f"https://shop.example/{number:0700}"}},
            }
        )
        for number in range(19_000)
    )
    await attacker.hold(12, 100, _importing(attacker, "\n".join(lines).encode()))


async def imports_that_never_end(attacker: Attacker) -> None:
    head = _importing(attacker, b"", Content_Length=str(16 * 1024 * 1024))
    # Half a megabyte a second of each.
    await attacker.hold(60, 100, head, more=b" " * 32_768)


async def hostile_scans_of_a_long_page(attacker: Attacker) -> None:
    calls = _scanning(attacker, "long", terms=200)
    await attacker.repeat(16, 50, lambda _: next(calls))


async def hostile_scans_of_the_longest_page(attacker: Attacker) -> None:
    calls = _scanning(attacker, "longest", terms=50)
    await attacker.repeat(16, 50, lambda _: next(calls))


async def scans_of_a_short_page(attacker: Attacker) -> None:
    calls = _scanning(attacker, "short", terms=200)
    await attacker.repeat(16, 50, lambda _: next(calls))


async def unknown_keys(attacker: Attacker) -> None:
    def call(number: int) -> bytes:
        if number % 2:
            return request("GET", "/v1/account", Authorization=_unknown_key())
        return confirmed_owner(attacker.certificates["ordinary"], _unknown_key())

    await attacker.repeat(64, 200, call)


async def forms_to_sign_in(attacker: Attacker) -> None:
    _, head, page = await Connection(attacker.port).ask(request("GET", "/sign-in"))
    cookie, token = _COOKIE.search(head.decode()), _HIDDEN_TOKEN.search(page.decode())
    assert cookie is not None
    assert token is not None
    numbers = itertools.count()

    def form(_: int) -> bytes:
        return request(
            "POST",
            "/sign-in",
            f"form_token={unescape(token[1])}&email=jo{next(numbers)}%40nobody.example".encode(),
            Content_Type="application/x-www-form-urlencoded",
            Cookie=cookie[1],
            Origin=f"http://127.0.0.1:{attacker.port}",
        )

    await attacker.repeat(64, 100, form)


async def readiness_probes(attacker: Attacker) -> None:
    call = request("GET", "/ready")
    await attacker.repeat(64, 200, lambda _: call)


async def ordinary_calls(attacker: Attacker) -> None:
    """The control: an account that calls a lot."""
    call = confirmed_owner(attacker.certificates["ordinary"], attacker.authorization)
    await attacker.repeat(128, 200, lambda _: call)


ATTACKS = (
    nothing,
    silent_connections,
    half_heads,
    unfinished_bodies_with_a_wrong_key,
    idle_connections_after_one_request,
    heavy_certificate,
    overweight_certificate,
    invitations_again,
    invitations_of_more_and_more,
    large_imports,
    imports_that_never_end,
    hostile_scans_of_a_long_page,
    hostile_scans_of_the_longest_page,
    scans_of_a_short_page,
    unknown_keys,
    forms_to_sign_in,
    readiness_probes,
    ordinary_calls,
)


def _unknown_key() -> str:
    return "Basic " + base64.b64encode(f"X:{secrets.token_hex(24)}".encode()).decode()


def _matching(attacker: Attacker, certificate: str) -> bytes:
    body = {
        "match_lead": {"email": ["jo@example.com"], "phone": ["+1 512 555 0100"]},
        "insights": {"properties": ["domain"]},
    }
    path = f"/{attacker.certificates[certificate]}"
    return request("POST", path, json.dumps(body).encode(), Authorization=attacker.authorization)


def _inviting(attacker: Attacker, name: str, **headers: str) -> bytes:
    """Invite 50 addresses that have the name in them."""
    body = {
        "emails": [f"{name}{number}@example.com" for number in range(50)],
        "reason": "domain_ownership_visibility",
    }
    return request(
        "POST",
        "/v1/invitations",
        json.dumps(body).encode(),
        Authorization=attacker.authorization,
        **headers,
    )


def _importing(attacker: Attacker, lines: bytes, **headers: str) -> bytes:
    return request(
        "POST",
        "/v1/certificates",
        lines,
        Authorization=attacker.authorization,
        **{"Content_Type": "application/x-ndjson", **headers},
    )


def _scanning(attacker: Attacker, certificate: str, terms: int) -> Iterator[bytes]:
    """Scan a page of which each term is nearly a part, half of them required, half forbidden."""
    calls = []
    for turn in range(8):
        hostile = [f"b{turn}{number:03}" + "a" * 290 for number in range(terms)]
        body = {
            "insights": {
                "properties": ["domain"],
                "scans": {"required": hostile[::2], "forbidden": hostile[1::2]},
            }
        }
        calls.append(
            request(
                "POST",
                f"/{attacker.certificates[certificate]}",
                json.dumps(body).encode(),
                Authorization=attacker.authorization,
            )
        )
    return itertools.cycle(calls)


def main() -> None:
    os.nice(19)
    orders = msgspec.json.decode(sys.stdin.readline(), type=Orders)
    attacker = Attacker(orders)
    (attack,) = (each for each in ATTACKS if each.__name__ == orders.attack)
    uvloop.run(attack(attacker))
    sys.stdout.write(msgspec.json.encode(attacker.report()).decode() + "\n")


if __name__ == "__main__":
    main()
