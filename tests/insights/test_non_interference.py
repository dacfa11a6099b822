"""A viewer can't tell one hidden owner from another by anything in the response."""

import re
from datetime import timedelta

import msgspec
import pytest

from service.insights.asked import asked_of
from service.insights.confirmed_owner import confirmed_owner
from service.insights.operations import question_of
from service.tokens import digest_of
from tests.builders import Company, World, meta_id

ASKED = ("confirmed_owner", "confirmed_owner_detail", "domain", "age_seconds")
IDS_AND_TIMES = re.compile(rb"[0-9a-f]{8}-[0-9a-f-]{27}|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|(?<=:)\d+")


async def everything_told(world: World, viewer: Company, cert_id: str) -> tuple[object, ...]:
    """Status, headers, and body. Ids and times are masked, but their lengths still count."""
    response = await world.ask(viewer, cert_id, *ASKED)
    headers = {name: value for name, value in response.headers.items() if name != "date"}
    body = IDS_AND_TIMES.sub(lambda match: b"#" * len(match[0]), response.content)
    return response.status_code, headers, body


@pytest.mark.parametrize("connected", [False, True])
@pytest.mark.parametrize("has_domain", [False, True])
async def test_swapping_the_hidden_owner_changes_nothing(
    world: World, connected: bool, has_domain: bool
) -> None:
    viewer = await world.company()
    owners = (
        await world.company("Al"),
        await world.company("A company with a rather longer name, Incorporated"),
    )
    if connected:
        for owner in owners:
            await world.connect(viewer, owner)
    await world.own(owners[1], "example.com", covers_subdomains=True)
    told = []
    for owner in owners:
        if has_domain:
            await world.own(owner, "shop.example.com")
            cert_id = await world.certificate(domain="shop.example.com")
        else:
            cert_id = await world.certificate(meta_id(), account=owner)
        told.append(await everything_told(world, viewer, cert_id))
    assert told[0] == told[1]


async def test_which_ancestor_is_owned_stays_hidden(world: World) -> None:
    viewer, owner = await world.company(), await world.company()
    cert_id = await world.certificate(domain="a.shop.example.com")
    told = []
    for domain in ("example.com", "shop.example.com", "a.shop.example.com"):
        await world.own(owner, domain, covers_subdomains=True)
        told.append(await everything_told(world, viewer, cert_id))
        await world.disown(domain)
    assert told[0] == told[1] == told[2]


async def test_refused_call_is_told_nothing_even_by_the_database(world: World) -> None:
    owner, viewer = await world.company("Owner Leads"), await world.company()
    await world.own(owner, "example.com")
    cert_id = await world.certificate(domain="example.com", ip="192.0.2.1")
    expired = await world.certificate(domain="example.com", created=timedelta(days=-100))
    await world.suspend(owner)
    for key, asked, verdict in (
        (owner.key, cert_id, "inactive"),
        ("cok_unknown", cert_id, "unauthorized"),
        (viewer.key, expired, "expired"),
    ):
        body = b'{"insights": {"properties": ["confirmed_owner", "ip"]}}'
        question = question_of(digest_of(key), asked, asked_of(asked, body, has_vendor=False))
        (answer,) = await confirmed_owner(world.database.answering, [question])
        told = msgspec.structs.asdict(answer)
        assert told.pop("verdict") == verdict
        del told["answer_id"], told["answered_at"]
        assert set(told.values()) == {None}


async def test_metrics_name_nobody(world: World) -> None:
    viewer, owner = await world.company("Viewer Leads"), await world.company("Owner Leads")
    await world.own(owner, "example.com")
    cert_id = await world.certificate(domain="example.com")
    await world.ask(viewer, cert_id)
    metrics = (await world.client.get("/metrics")).text
    assert 'confirmed_owner_answers_total{status="verified"}' in metrics
    for secret in (cert_id, "example.com", viewer.name, owner.name, viewer.key, str(owner.id)):
        assert secret not in metrics
