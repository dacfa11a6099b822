"""The lifecycle between two buyers and two sellers, in any order, against a small oracle.

The oracle is a handful of sets. It knows nothing about periods, transactions, or SQL. After every
step, its state is compared with what the service's API and answers say.
"""

import asyncio
import itertools
from collections.abc import Coroutine, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from service.invitations.records import Reason
from tests.builders import VERIFIED, Company, World

_Result = TypeVar("_Result")

# With limits high enough to list everything.
CONNECTIONS, INVITATIONS = "/v1/connections?limit=100", "/v1/invitations?limit=100"

BUYERS, SELLERS = (0, 1), (2, 3)
COMPANIES = (*BUYERS, *SELLERS)
PAIRS = list(itertools.permutations(COMPANIES, 2))
NAMING: set[Reason] = {"domain_ownership_visibility", "confirm_domain_ownership"}
REASONS: tuple[Reason, ...] = (
    "receive_leads",
    "send_leads",
    "domain_ownership_visibility",
    "confirm_domain_ownership",
    "share_lead_quality_reports",
)

pairs = st.sampled_from(PAIRS)


@dataclass
class Asked:
    """An invitation, as the oracle sees it."""

    id: str
    inviter: int
    invited: int
    reason: Reason
    state: str = "pending"

    @property
    def direction(self) -> tuple[int, int]:
        """The buyer and the seller that become partners on acceptance."""
        if self.reason == "send_leads":
            return self.invited, self.inviter
        return self.inviter, self.invited


class Lifecycle(RuleBasedStateMachine):
    """Call the API, and track the expected state."""

    world: World
    loop: asyncio.AbstractEventLoop
    companies: list[Company]
    certificates: list[str]

    def run(self, steps: Coroutine[Any, Any, _Result]) -> _Result:
        return asyncio.run_coroutine_threadsafe(steps, self.loop).result(60)

    def call(self, who: int, method: str, path: str, json: Any = None) -> Any:
        return self.run(self.called(who, method, path, json))

    async def called(self, who: int, method: str, path: str, json: Any = None) -> Any:
        if method == "POST":
            # Daily limits don't matter here, nor how long a declined request must wait.
            await self.world.fetch("DELETE FROM allowance")
            await self.world.fetch("DELETE FROM grant_request WHERE outcome = 'declined'")
        response = await self.world.client.request(
            method, path, headers=self.companies[who].headers, json=json
        )
        return response.status_code, response.json() if response.content else None

    def gathered(self, steps: Iterable[Coroutine[Any, Any, _Result]]) -> list[_Result]:
        async def all_at_once() -> list[_Result]:
            return await asyncio.gather(*steps)

        return self.run(all_at_once())

    @initialize()
    def begin(self) -> None:
        self.run(self.world.reset())
        self.companies = [self.run(self.world.company()) for _ in COMPANIES]
        self.certificates = []
        for number, company in enumerate(self.companies):
            self.run(self.world.own(company, f"site{number}.example"))
            self.certificates.append(
                self.run(self.world.certificate(domain=f"site{number}.example"))
            )
        self.invitations: list[Asked] = []
        self.connections: set[tuple[int, int]] = set()
        self.grants: set[tuple[int, int]] = set()
        self.requests: set[tuple[int, int]] = set()
        # Start busy: two partners, each asking for the other's name.
        self.invite((0, 2), "receive_leads")
        self.accept_one(self.invitations[0], unticks=False)
        for pair in ((0, 2), (2, 0)):
            self.invite(pair, "domain_ownership_visibility")

    def connected(self, one: int, other: int) -> bool:
        return (one, other) in self.connections or (other, one) in self.connections

    @rule(pair=pairs, reason=st.sampled_from(REASONS))
    def invite(self, pair: tuple[int, int], reason: Reason) -> None:
        inviter, invited = pair
        status, body = self.call(
            inviter,
            "POST",
            "/v1/invitations",
            {"emails": [self.companies[invited].email], "reason": reason},
        )
        item = body["items"][0]
        asked = Asked(item.get("id", ""), inviter, invited, reason)
        pending = [
            each
            for each in self.invitations
            if (each.inviter, each.invited, each.reason, each.state)
            == (inviter, invited, reason, "pending")
        ]
        if pending:
            assert (status, item["id"]) == (200, pending[0].id)
        elif reason in NAMING and self.connected(*pair):
            if (invited, inviter) in self.grants:
                assert status == 409
            else:
                assert status == (200 if (invited, inviter) in self.requests else 201)
                assert item["grant_requested"]["partner"]["id"] == str(self.companies[invited].id)
                self.requests.add((invited, inviter))
        elif reason not in NAMING and asked.direction in self.connections:
            assert status == 409
        else:
            assert status == 201, body
            self.invitations.append(asked)

    @rule(pair=pairs)
    def cross(self, pair: tuple[int, int]) -> None:
        self.invite(pair, "receive_leads")
        self.invite(pair[::-1], "send_leads")

    @precondition(lambda self: self.invitations)
    @rule(data=st.data(), unticks=st.booleans())
    def accept(self, data: st.DataObject, unticks: bool) -> None:
        self.accept_one(data.draw(st.sampled_from(self.open_or_all())), unticks=unticks)

    def open_or_all(self) -> list[Asked]:
        """The open invitations, or all if none is open: closed ones soon outnumber them."""
        return [each for each in self.invitations if each.state == "pending"] or self.invitations

    def accept_one(self, asked: Asked, *, unticks: bool) -> None:
        unticks = unticks and asked.reason == "confirm_domain_ownership"
        status, _ = self.call(
            asked.invited,
            "POST",
            f"/v1/invitations/{asked.id}/accept",
            {"shows_name": False} if unticks else {},
        )
        if asked.state == "accepted":
            assert status == 200
        elif asked.state != "pending":
            assert status == 409
        else:
            assert status == 200
            asked.state = "accepted"
            self.connections.add(asked.direction)
            if asked.reason in NAMING and not unticks:
                self.grants.add((asked.invited, asked.inviter))
                self.requests.discard((asked.invited, asked.inviter))
            for other in self.invitations:
                if (
                    other.state == "pending"
                    and (other.inviter, other.invited) == (asked.invited, asked.inviter)
                    and other.direction == asked.direction
                    and other.reason not in NAMING
                ):
                    other.state = "accepted"

    @precondition(lambda self: self.invitations)
    @rule(data=st.data())
    def decline(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.invitations))
        status, _ = self.call(asked.invited, "POST", f"/v1/invitations/{asked.id}/decline")
        assert status == (200 if asked.state in ("pending", "declined") else 409)
        if asked.state == "pending":
            asked.state = "declined"

    @precondition(lambda self: self.invitations)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.invitations))
        status, _ = self.call(asked.inviter, "POST", f"/v1/invitations/{asked.id}/cancel")
        assert status == (200 if asked.state in ("pending", "cancelled") else 409)
        if asked.state == "pending":
            asked.state = "cancelled"

    @precondition(lambda self: self.invitations)
    @rule(data=st.data())
    def let_expire(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.invitations))
        self.run(
            self.world.fetch(
                "UPDATE invitation SET expires_at = now() WHERE id::text = $1 AND state = 'pending'",
                asked.id,
            )
        )
        if asked.state == "pending":
            asked.state = "expired"

    @precondition(lambda self: self.invitations)
    @rule(data=st.data())
    def resend(self, data: st.DataObject) -> None:
        asked = data.draw(st.sampled_from(self.invitations))
        status, _ = self.call(asked.inviter, "POST", f"/v1/invitations/{asked.id}/resend")
        again = any(
            each is not asked
            and each.state == "pending"
            and (each.inviter, each.invited, each.reason)
            == (asked.inviter, asked.invited, asked.reason)
            for each in self.invitations
        )
        is_open = asked.state == "pending" or (asked.state == "expired" and not again)
        assert status == (200 if is_open else 409)
        if status == 200:
            asked.state = "pending"

    @rule(pair=pairs)
    def disconnect(self, pair: tuple[int, int]) -> None:
        status, direction = self.on_connection(pair, "DELETE", "")
        if direction is not None:
            assert status == 204
            self.connections.remove(direction)
            self.grants -= {pair, pair[::-1]}
            self.requests -= {pair, pair[::-1]}

    @rule(pair=pairs)
    def show_name(self, pair: tuple[int, int]) -> None:
        status, direction = self.on_connection(pair, "PUT", "/grant")
        if direction is not None:
            assert status == 200
            self.grants.add(pair)
            self.requests.discard(pair)

    @rule(pair=pairs)
    def hide_name(self, pair: tuple[int, int]) -> None:
        status, direction = self.on_connection(pair, "DELETE", "/grant")
        if direction is not None:
            assert status == 204
            self.grants.discard(pair)

    @rule(pair=pairs)
    def end_requests(self, pair: tuple[int, int]) -> None:
        status, direction = self.on_connection(pair, "DELETE", "/grant-request")
        if direction is not None:
            assert status == 204
            self.requests -= {pair, pair[::-1]}

    def listed(self, who: int) -> list[Any]:
        status, body = self.call(who, "GET", CONNECTIONS)
        assert status == 200
        items: list[Any] = body["items"]
        return items

    def on_connection(
        self, pair: tuple[int, int], method: str, path: str
    ) -> tuple[int, tuple[int, int] | None]:
        """Call the API about the pair's connection. Return the status, and the buyer and seller."""
        one, other = pair
        partner = str(self.companies[other].id)
        found = [each for each in self.listed(one) if each["partner"]["id"] == partner]
        assert bool(found) == self.connected(one, other)
        if not found:
            return 404, None
        status, _ = self.call(one, method, f"/v1/connections/{found[0]['id']}{path}")
        return status, (one, other) if found[0]["role"] == "buyer" else (other, one)

    @invariant()
    def everyone_is_told_what_is_so(self) -> None:
        ids = {str(company.id): number for number, company in enumerate(self.companies)}
        told = self.gathered(
            self.world.confirmed_owner(company, cert_id)
            for company in self.companies
            for cert_id in self.certificates
        )
        assert told == [
            self.companies[owner].name
            if owner == viewer or (owner, viewer) in self.grants
            else VERIFIED
            for viewer in COMPANIES
            for owner in COMPANIES
        ]
        lists = self.gathered(self.called(who, "GET", CONNECTIONS) for who in COMPANIES)
        for viewer, (status, body) in enumerate(lists):
            assert status == 200
            listed = body["items"]
            assert {
                (viewer, ids[each["partner"]["id"]])
                if each["role"] == "buyer"
                else (ids[each["partner"]["id"]], viewer)
                for each in listed
            } == {pair for pair in self.connections if viewer in pair}
            assert len(listed) == len([pair for pair in self.connections if viewer in pair])
            for each in listed:
                partner = ids[each["partner"]["id"]]
                for field, pair, held in (
                    ("name_shown_since", (viewer, partner), self.grants),
                    ("partner_name_shown_since", (partner, viewer), self.grants),
                    ("asked_by_partner_at", (viewer, partner), self.requests),
                    ("asked_at", (partner, viewer), self.requests),
                ):
                    assert (each[field] is not None) == (pair in held), field

    @invariant()
    def invitations_are_in_the_state_they_should_be(self) -> None:
        lists = self.gathered(self.called(who, "GET", INVITATIONS) for who in COMPANIES)
        for who, (_, body) in enumerate(lists):
            assert {each["id"]: each["state"] for each in body["items"]} == {
                asked.id: asked.state for asked in self.invitations if asked.inviter == who
            }

    @invariant()
    def every_start_and_end_is_on_record_once(self) -> None:
        for started, table in (("connection", "connection"), ("grant", "visibility_grant")):
            rows = self.run(
                self.world.fetch(
                    f"""
                    SELECT (SELECT count(*) FROM event WHERE action = '{started}.started') / 2,
                        (SELECT count(*) FROM event WHERE action = '{started}.ended') / 2,
                        count(*), count(ended_at)
                    FROM {table}
                    """
                )
            )
            begun, over, rows_begun, rows_over = rows[0]
            assert (begun, over) == (rows_begun, rows_over)


@pytest.mark.parametrize("examples", [6])
async def test_lifecycle_is_what_the_oracle_says(world: World, examples: int) -> None:
    """Hypothesis runs in its own thread, because it blocks until this loop has done each step."""
    Lifecycle.world, Lifecycle.loop = world, asyncio.get_running_loop()
    await asyncio.to_thread(
        run_state_machine_as_test,
        Lifecycle,
        settings=settings(
            max_examples=examples,
            stateful_step_count=20,
            deadline=None,
            # A failure is clear as it is; shrinking it takes minutes.
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        ),
    )
