"""Looking up codes in a real DNS: what can be there, go wrong, or be misread."""

import itertools
import time
from collections.abc import Iterator

import msgspec
import pytest
from dnslib import CNAME, QTYPE, RCODE, RR, TXT, DNSRecord

from service.ownership import dns_txt
from service.ownership.dns_txt import (
    PREFIX,
    Fallbacks,
    Finding,
    kept_evidence,
    look_up,
    new_code,
    places_of,
    resolvers_of,
)
from service.ownership.hints import hint_of
from service.ownership.verification import CODE_NOT_FOUND, DOMAIN_NOT_FOUND
from service.settings import DnsServer
from tests.ownership.authority import (
    Answer,
    Authority,
    authority,
    lame,
    not_implemented,
    refused,
    servfail,
    silent,
    slow,
    truncating,
)
from tests.running import free_port

CODE = f"{PREFIX}kU3dPq0ZrT8wYx2mNvB5hLsJ7gFcA-e_"
TOKEN = CODE.removeprefix(PREFIX)
NAME = "shop.seller.example"
ZONE = "seller.example"
LABEL = f"_domain-verification.{NAME}"


@pytest.fixture
def zone() -> Iterator[Authority]:
    with authority() as zone:
        zone.ns[ZONE] = ["ns1.host.example", "ns2.host.example"]
        zone.addresses.add(NAME)
        yield zone


async def found(zone: Authority, *more: DnsServer, name: str = NAME) -> Finding:
    return await look_up([zone.server, *more], name, CODE)


def hint(finding: Finding, *own_codes: str) -> str:
    return hint_of(finding, NAME, CODE, own_codes) or ""


async def test_code_at_the_registrable_domain_proves_it_and_all_below(zone: Authority) -> None:
    zone.txt[ZONE] = ["v=spf1 -all", CODE]
    finding = await found(zone)
    assert (finding.outcome, finding.proves_subdomains) == ("found", True)
    assert finding.nameservers == ["ns1.host.example", "ns2.host.example"]
    assert (finding.agreeing, finding.asked) == (1, 1)


async def test_code_at_the_label_proves_that_name_alone(zone: Authority) -> None:
    zone.txt[LABEL] = [CODE]
    finding = await found(zone)
    assert (finding.outcome, finding.proves_subdomains) == ("found", False)
    zone.behaves[ZONE] = lambda request, by_udp: (
        servfail(request, by_udp)
        if str(request.q.qname).rstrip(".") == ZONE
        else zone.answer(request)
    )
    finding = await found(zone)
    assert (finding.outcome, finding.proves_subdomains) == ("found", None)


async def test_code_at_the_label_of_another_name_proves_nothing(zone: Authority) -> None:
    zone.txt[f"_domain-verification.other.{ZONE}"] = [CODE]
    assert (await found(zone)).outcome == "absent"


@pytest.mark.parametrize("place", [ZONE, LABEL])
async def test_code_of_another_claim_proves_nothing(zone: Authority, place: str) -> None:
    zone.txt[place] = [new_code()]
    finding = await found(zone)
    assert finding.outcome == "absent"
    assert "different code" in hint(finding)


async def test_code_in_several_strings_is_one_text(zone: Authority) -> None:
    zone.txt[ZONE] = [[CODE[:10].encode(), CODE[10:40].encode(), CODE[40:].encode()]]
    assert (await found(zone)).outcome == "found"


async def test_code_among_forty_records_is_found_by_tcp(zone: Authority) -> None:
    zone.txt[ZONE] = [f"some-other-verification={number:060}" for number in range(40)] + [CODE]
    zone.behaves[ZONE] = truncating(zone)
    assert (await found(zone)).outcome == "found"
    assert (ZONE, "TXT", "tcp") in zone.asked


async def test_many_records_that_fit_no_packet_come_by_tcp(zone: Authority) -> None:
    zone.txt[ZONE] = [f"some-other-verification={number:060}" for number in range(40)] + [CODE]
    assert (await found(zone)).outcome == "found"


async def test_cnames_are_followed(zone: Authority) -> None:
    zone.cname[LABEL] = "a.host.example"
    zone.cname["a.host.example"] = "b.host.example"
    zone.txt["b.host.example"] = [CODE]
    finding = await found(zone)
    assert finding.outcome == "found"
    (reply,) = [each for each in finding.replies if each.name == LABEL]
    assert reply.cname == "a.host.example"


@pytest.mark.parametrize(("links", "outcome"), [(8, "found"), (9, "failed")])
async def test_chain_of_cnames_has_an_end(zone: Authority, links: int, outcome: str) -> None:
    zone.cname[LABEL] = "c1.host.example"
    for number in range(1, links):
        zone.cname[f"c{number}.host.example"] = f"c{number + 1}.host.example"
    zone.txt[f"c{links}.host.example"] = [CODE]
    assert (await found(zone)).outcome == outcome


async def test_cnames_that_go_round_in_a_circle_are_a_failure(zone: Authority) -> None:
    zone.cname[LABEL] = "a.host.example"
    zone.cname["a.host.example"] = LABEL
    finding = await found(zone)
    assert finding.outcome == "failed"
    assert "loops" in hint(finding)


async def test_domain_that_is_not_there_is_told_from_a_code_that_is_not(zone: Authority) -> None:
    assert (await found(zone)).reason == CODE_NOT_FOUND
    finding = await found(zone, name="nowhere.example")
    assert (finding.outcome, finding.reason) == ("absent", DOMAIN_NOT_FOUND)


@pytest.mark.parametrize(
    ("behaves", "detail"),
    [
        (servfail, "SERVFAIL"),
        (refused, "REFUSED"),
        (not_implemented, "NOTIMP"),
        (silent, "no answer within 5 seconds"),
        (lame, "lame"),
    ],
)
async def test_server_that_does_not_tell_is_a_failure_and_not_an_absence(
    zone: Authority, behaves: Answer, detail: str
) -> None:
    zone.behaves[ZONE] = behaves
    finding = await found(zone)
    assert finding.outcome == "failed"
    assert detail in hint(finding)


async def test_server_that_is_not_there_is_a_failure() -> None:
    with authority() as gone:
        pass
    finding = await found(gone)
    assert finding.outcome == "failed"


async def test_no_resolver_at_all_is_a_failure() -> None:
    finding = await look_up([], NAME, CODE)
    assert (finding.outcome, hint(finding)) == ("failed", "no DNS resolver is configured")


async def test_slow_server_is_waited_for_within_the_deadline(zone: Authority) -> None:
    zone.txt[ZONE] = [CODE]
    zone.behaves[ZONE] = slow(zone, 0.2)
    assert (await found(zone)).outcome == "found"


async def test_truncated_answer_without_tcp_is_a_failure(zone: Authority) -> None:
    zone.txt[ZONE] = [CODE]
    zone.behaves[ZONE] = truncating(zone, tcp=False)
    assert (await found(zone)).outcome == "failed"


async def test_check_of_a_dead_dns_takes_seconds_not_minutes(zone: Authority) -> None:
    zone.behaves["example"] = silent
    began = time.monotonic()
    await found(zone)
    assert time.monotonic() - began < 8


async def test_wildcard_proves_nothing_at_the_label_and_is_told_of(zone: Authority) -> None:
    zone.txt[f"*.{NAME}"] = [CODE]
    finding = await found(zone)
    assert finding.outcome == "absent"
    assert "wildcard" in hint(finding)


async def test_wildcard_cname_into_a_zone_that_answers_otherwise_each_time_proves_nothing(
    zone: Authority,
) -> None:
    zone.cname[f"*.{NAME}"] = "t.attacker.example"
    times = itertools.count()

    def turning(request: DNSRecord, by_udp: bool) -> DNSRecord:
        name = str(request.q.qname).rstrip(".")
        zone.txt["t.attacker.example"] = [CODE] if next(times) % 2 == 0 else ["nothing"]
        if name.endswith(f".{NAME}") and QTYPE[request.q.qtype] == "TXT":
            reply = request.reply(ra=1)
            target = CNAME("t.attacker.example")
            reply.add_answer(RR(request.q.qname, QTYPE.CNAME, ttl=0, rdata=target))
            text = zone.txt["t.attacker.example"][0]
            assert isinstance(text, str)
            reply.add_answer(RR("t.attacker.example", QTYPE.TXT, ttl=0, rdata=TXT(text.encode())))
            return reply
        return zone.answer(request)

    zone.behaves["example"] = turning
    for _ in range(6):
        assert (await found(zone)).outcome == "absent"


async def test_wildcard_is_no_absence_where_the_domain_can_not_be_asked(zone: Authority) -> None:
    zone.txt[f"*.{NAME}"] = [CODE]
    zone.behaves[ZONE] = lambda request, by_udp: (
        servfail(request, by_udp)
        if str(request.q.qname).rstrip(".") == ZONE
        else zone.answer(request)
    )
    assert (await found(zone)).outcome == "failed"


async def test_label_at_a_private_suffix_is_anothers_name_and_proves_nothing(
    zone: Authority,
) -> None:
    zone.txt["_domain-verification.github.io"] = [CODE]
    zone.addresses.add("github.io")
    assert (await found(zone, name="github.io")).outcome == "absent"
    zone.txt["github.io"] = [CODE]
    assert (await found(zone, name="github.io")).outcome == "found"


async def test_nul_in_a_record_is_text_that_can_be_kept(zone: Authority) -> None:
    zone.txt[ZONE] = [[b"a\0b"], CODE]
    finding = await found(zone)
    assert finding.outcome == "found"
    assert "\0" not in str(msgspec.to_builtins(finding))


async def test_of_very_much_text_some_is_kept(zone: Authority) -> None:
    zone.txt[ZONE] = [[f"{number}".encode(), b"x" * 250, b"y" * 250] for number in range(60)]
    kept = kept_evidence(await found(zone))
    assert len(msgspec.json.encode(kept)) < 40_000
    assert max(len(reply.values) for reply in kept.replies) == 50
    assert {len(value) for reply in kept.replies for value in reply.values} >= {300}


async def test_code_at_the_label_beside_a_wildcard_of_other_text_is_found(zone: Authority) -> None:
    zone.txt[f"*.{NAME}"] = ["v=spf1 -all"]
    zone.txt[LABEL] = [CODE]
    assert (await found(zone)).outcome == "found"


async def test_label_proves_nothing_while_it_can_not_be_told_from_a_wildcard(
    zone: Authority,
) -> None:
    zone.txt[LABEL] = [CODE]

    def only_the_label(request: object, by_udp: bool) -> object:
        name = str(request.q.qname).rstrip(".").lower()  # type: ignore[attr-defined] # of dnslib
        return zone.answer(request) if name in (LABEL, ZONE) else servfail(request, by_udp)

    zone.behaves[ZONE] = only_the_label
    assert (await found(zone)).outcome == "failed"


async def test_internationalised_name_is_asked_for_in_ascii(zone: Authority) -> None:
    zone.txt["xn--mnchen-3ya.example"] = [CODE]
    finding = await found(zone, name="xn--mnchen-3ya.example")
    assert finding.outcome == "found"


async def test_names_in_answers_are_compared_without_case(zone: Authority) -> None:
    zone.cname[LABEL] = "A.Host.EXAMPLE"
    zone.txt["a.host.example"] = [CODE]
    assert (await found(zone)).outcome == "found"


async def test_of_two_resolvers_both_have_to_find_it(zone: Authority) -> None:
    zone.txt[ZONE] = [CODE]
    with authority() as other:
        other.addresses.add(NAME)
        finding = await found(zone, other.server)
        assert finding.outcome == "failed"
        assert hint(finding) == "the DNS resolvers disagree"
        other.txt[ZONE] = [CODE]
        finding = await found(zone, other.server)
        assert (finding.outcome, finding.agreeing, finding.asked) == ("found", 2, 2)


@pytest.mark.parametrize(("present", "outcome"), [(0, "absent"), (1, "absent"), (2, "found")])
async def test_of_three_resolvers_most_decide(zone: Authority, present: int, outcome: str) -> None:
    with authority() as second, authority() as third:
        for number, each in enumerate((zone, second, third)):
            each.addresses.add(NAME)
            if number < present:
                each.txt[ZONE] = [CODE]
        finding = await found(zone, second.server, third.server)
    assert (finding.outcome, finding.asked) == (outcome, 3)


async def test_most_resolvers_that_fail_leave_it_untold(zone: Authority) -> None:
    zone.txt[ZONE] = [CODE]
    with authority() as second, authority() as third:
        for each in (second, third):
            each.behaves[ZONE] = servfail
        finding = await found(zone, second.server, third.server)
    assert finding.outcome == "failed"


async def test_domain_that_recovers_is_found_again(zone: Authority) -> None:
    zone.txt[ZONE] = [CODE]
    zone.behaves[ZONE] = servfail
    assert (await found(zone)).outcome == "failed"
    del zone.behaves[ZONE]
    assert (await found(zone)).outcome == "found"


async def test_every_reply_is_evidence(zone: Authority) -> None:
    zone.txt[ZONE] = ["something else"]
    finding = await found(zone)
    (reply,) = [each for each in finding.replies if (each.name, each.kind) == (ZONE, "TXT")]
    assert (reply.verdict, reply.values) == ("answer", ["something else"])
    assert reply.resolver == f"127.0.0.1:{zone.port}"
    assert {each.name for each in finding.replies} > {ZONE, LABEL}


@pytest.mark.parametrize(
    ("mistake", "place", "value", "says"),
    [
        ("zone doubled", f"{ZONE}.{ZONE}", CODE, f"your DNS panel appends {ZONE} itself"),
        ("label doubled", f"{LABEL}.{ZONE}", CODE, f"your DNS panel appends {ZONE} itself"),
        ("quotes kept", ZONE, f'"{CODE}"', "remove the quotation marks"),
        ("trailing space", ZONE, f"{CODE} ", "remove the spaces around it"),
        ("line break within", ZONE, f"{CODE[:50]}\n{CODE[50:]}", "remove the spaces inside"),
        ("at the host itself", NAME, CODE, f"move it to {ZONE}"),
        ("at www", f"www.{ZONE}", CODE, f"move it to {ZONE}"),
        ("label of the zone", f"_domain-verification.{ZONE}", CODE, f"or to {LABEL}"),
        ("prefix as the host", f"activeprospect-domain-verification.{ZONE}", TOKEN, "move it to"),
        ("prefix left out", ZONE, TOKEN, f"add “{PREFIX}” at the beginning"),
        ("lower case", ZONE, CODE.lower(), "upper and lower case"),
        ("cut off", ZONE, CODE[:-6], "the end is missing"),
        ("with a remark", ZONE, f"{CODE} for the shop", "add a TXT record of its own"),
        ("other claim's code", ZONE, "OWN", "the code of another of your domains"),
        ("other records alone", ZONE, "v=spf1 -all", "there are other TXT records"),
    ],
)
async def test_mistake_is_answered_with_how_to_mend_it(
    zone: Authority, mistake: str, place: str, value: str, says: str
) -> None:
    own = new_code()
    zone.txt[place] = [own if value == "OWN" else value]
    finding = await found(zone)
    assert finding.outcome == "absent", mistake
    assert says in hint(finding, own)


async def test_code_in_a_cname_is_told_of(zone: Authority) -> None:
    zone.cname[LABEL] = f"{TOKEN}.host.example"
    finding = await found(zone)
    assert hint(finding) == f"the code is in a CNAME record at {LABEL}: use a TXT record"


async def test_label_that_is_a_cname_to_nothing_is_told_of(zone: Authority) -> None:
    zone.cname[LABEL] = "parked.host.example"
    zone.addresses.add("parked.host.example")
    finding = await found(zone)
    assert "is a CNAME to “parked.host.example”" in hint(finding)


def test_resolvers_of_the_system_are_fallbacks_and_those_the_operator_names_a_quorum() -> None:
    assert all(isinstance(each, DnsServer) for each in resolvers_of(()))
    named = (DnsServer("192.0.2.1", 53),)
    assert resolvers_of(named) == named
    assert not isinstance(resolvers_of(named), Fallbacks)


async def test_one_answer_of_the_systems_resolvers_suffices(
    zone: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dns_txt, "QUERY_DEADLINE", 0.6)
    zone.txt[ZONE] = [CODE]
    nobody = DnsServer("127.0.0.1", free_port())
    with authority() as broken:
        broken.behaves["example"] = servfail
        for others in ([nobody], [broken.server], [nobody, broken.server]):
            for resolvers in ([zone.server, *others], [*others, zone.server]):
                finding = await look_up(Fallbacks(resolvers), NAME, CODE)
                assert (finding.outcome, finding.asked) == ("found", 1)
                assert (await look_up(resolvers, NAME, CODE)).outcome == "failed"
        finding = await look_up(Fallbacks([nobody, broken.server]), NAME, CODE)
        assert finding.outcome == "failed"


async def test_lost_packet_is_sent_again(zone: Authority) -> None:
    zone.txt[ZONE] = [CODE]
    lost: set[str] = set()

    def loses_the_first(request: DNSRecord, by_udp: bool) -> DNSRecord:
        name = str(request.q.qname)
        if name not in lost:
            lost.add(name)
            return silent(request, by_udp)
        return zone.answer(request)

    zone.behaves["example"] = loses_the_first
    assert (await found(zone)).outcome == "found"


async def test_server_that_does_not_know_edns_is_asked_without_it(zone: Authority) -> None:
    zone.txt[ZONE] = [CODE]

    def formerr(request: DNSRecord, by_udp: bool) -> DNSRecord:
        if request.ar:
            reply = request.reply()
            reply.header.rcode = RCODE.FORMERR
            return reply
        return zone.answer(request)

    zone.behaves["example"] = formerr
    assert (await found(zone)).outcome == "found"


async def test_code_elsewhere_is_told_of_before_another_code_at_the_root(zone: Authority) -> None:
    """Several codes at one root are normal: the other one must stay."""
    other = new_code()
    zone.txt[ZONE] = [other]
    zone.txt[f"www.{ZONE}"] = [CODE]
    told = hint(await found(zone), other)
    assert f"www.{ZONE}" in told
    assert other not in told


@pytest.mark.parametrize(
    "other", [f"{PREFIX}SUlOxFzhYi1FwaV0nHDVkw==", f"{PREFIX}{'x' * 32}", "v=spf1"]
)
@pytest.mark.parametrize("is_own", [False, True])
async def test_hint_asks_to_leave_a_record_that_is_good_for_something_else(
    zone: Authority, other: str, is_own: bool
) -> None:
    zone.txt[ZONE] = [other]
    told = hint(await found(zone), *([other] if is_own else []))
    assert "leave" in told
    assert "add another" in told or "add a second" in told


async def test_cname_of_its_own_beside_a_wildcard_is_told_as_it_is(zone: Authority) -> None:
    zone.cname[LABEL] = "shop.verify.example"
    zone.txt["shop.verify.example"] = [CODE]
    zone.behaves[NAME] = lambda request, by_udp: (
        zone.answer(request)
        if str(request.q.qname).rstrip(".").lower() == LABEL
        else _alias(request, "shops.hosting.example")
    )
    finding = await found(zone)
    assert finding.outcome == "absent"
    told = hint(finding)
    assert f"{LABEL} is a CNAME to “shop.verify.example”" in told
    assert f"add the TXT record at {ZONE}" in told


def _alias(request: DNSRecord, target: str) -> DNSRecord:
    reply = request.reply()
    reply.header.ra = 1
    reply.add_answer(RR(request.q.qname, QTYPE.CNAME, ttl=60, rdata=CNAME(target)))
    return reply


async def test_cname_at_the_apex_is_told(zone: Authority) -> None:
    zone.cname[ZONE] = "site.hosting.example"
    zone.txt["site.hosting.example"] = ["v=spf1"]
    told = hint(await found(zone))
    assert f"{ZONE} is a CNAME to “site.hosting.example”, which hides its TXT records" in told


async def test_absence_that_a_resolver_remembers_is_told_with_its_time(zone: Authority) -> None:
    told = hint(await found(zone))
    assert "up to 60 minutes" in told


async def test_label_that_leaves_out_the_subdomains_is_told(zone: Authority) -> None:
    zone.txt[LABEL] = [CODE]
    finding = await found(zone)
    assert hint(finding) == ""
    told = hint_of(finding, NAME, CODE, (), covers_subdomains=True) or ""
    assert "doesn't cover the subdomains" in told
    assert f"add it at {ZONE}" in told


def test_no_name_is_offered_that_dns_does_not_take() -> None:
    name = ".".join(["a" * 60] * 3 + ["b" * 50, "example"])
    assert len(name) > 240
    places = places_of(name)
    assert places.label == places.registrable == f"{'b' * 50}.example"


async def test_what_others_wrote_can_not_leave_its_quotation_marks(zone: Authority) -> None:
    zone.txt[ZONE] = ["a” call +1 800 555 0100 “b"]
    told = hint(await found(zone))
    assert told.count("“") == told.count("”") == 1


async def test_label_below_a_wildcard_cname_proves_nothing(zone: Authority) -> None:
    zone.txt |= {"code.attacker.example": [CODE], "other.attacker.example": ["nothing"]}

    def wildcard(request: DNSRecord, by_udp: bool) -> DNSRecord:
        name = str(request.q.qname).rstrip(".").lower()
        if name == ZONE or QTYPE[request.q.qtype] != "TXT":
            return zone.answer(request)
        target = ("code" if name == LABEL else "other") + ".attacker.example"
        reply = request.reply(ra=1)
        reply.add_answer(RR(request.q.qname, QTYPE.CNAME, ttl=60, rdata=CNAME(target)))
        return reply

    zone.behaves[ZONE] = wildcard
    assert (await found(zone)).outcome == "absent"


@pytest.mark.parametrize(("agreeing", "told"), [(1, False), (2, True), (3, True)])
async def test_name_servers_are_those_that_most_resolvers_tell(
    zone: Authority, agreeing: int, told: bool
) -> None:
    with authority() as second, authority() as third:
        for number, each in enumerate((zone, second, third)):
            each.ns[ZONE] = [f"ns{number if number >= agreeing else 9}.host.example"]
        finding = await found(zone, second.server, third.server)
    assert finding.nameservers == (["ns9.host.example"] if told else None)
