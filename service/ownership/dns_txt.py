"""Look for a claim's code in DNS: found, absent, or failed.

We ask every resolver. The code is found or absent if most of them say so. If they don't agree or
don't answer, the lookup failed. Of the system's resolvers, which are there in case the others are
down, the first that tells suffices. Only an answer can say that the code is absent: a timeout,
SERVFAIL (which a validating resolver returns for bogus DNSSEC), REFUSED, or an answer from a server
that is neither authoritative nor recursive is a failure.

The code may be in two places:

- as a TXT record of the registrable domain, which proves that domain and all names below it;
- at `_domain-verification.` before the claimed name, which proves only that name. There, a wildcard
  TXT record, which any other name beside it has as well, proves nothing.
"""

import asyncio
import secrets
import time
from collections import Counter
from collections.abc import Sequence
from typing import Literal, TypeAlias

import dns.asyncquery
import dns.exception
import dns.flags
import dns.message
import dns.name
import dns.rcode
import dns.rdatatype
import dns.resolver
import msgspec

from service.errors import shorten
from service.ownership.hostname import registrable_domain
from service.ownership.verification import CODE_NOT_FOUND, DOMAIN_NOT_FOUND, Outcome
from service.settings import DnsServer

LABEL = "_domain-verification"
PREFIX = "activeprospect-domain-verification="

QUERY_DEADLINE = 5.0
# A packet may get lost: without a reply after this many seconds, the question is sent again.
_SEND_AGAIN_AFTER = 1.2
LONGEST_CHAIN = 8
_LONGEST_NAME = 253

_VALUES_KEPT = 50
_VALUE_KEPT = 300

Verdict: TypeAlias = Literal["answer", "no_data", "no_domain", "failed"]


class Fallbacks(tuple[DnsServer, ...]):
    """Resolvers in the order to ask them, of which one that answers suffices."""


class Reply(msgspec.Struct, frozen=True):
    """One resolver's reply to one question; `values` as text, `detail` says why it failed.

    `remembered` is for how many seconds the resolver may remember that there was no such record.
    """

    resolver: str
    name: str
    kind: str
    verdict: Verdict
    values: list[str] = []
    cname: str | None = None
    detail: str | None = None
    milliseconds: int = 0
    remembered: int | None = None


class Finding(msgspec.Struct, frozen=True):
    """What a check found: the outcome, and every reply it is based on.

    `nameservers` are those of the registrable domain; None if we could not tell.
    """

    outcome: Outcome
    reason: str
    proves_subdomains: bool | None
    nameservers: list[str] | None
    agreeing: int
    asked: int
    replies: list[Reply]


class Places(msgspec.Struct, frozen=True):
    """Where a claim's code may be: at the registrable domain, or below the claimed name."""

    registrable: str
    label: str

    def relative(self, host: str) -> str:
        """Return what a DNS panel calls one of these if it adds the zone by itself."""
        return host.removesuffix(self.registrable).rstrip(".") or "@"


def new_code() -> str:
    """Return a code nobody can guess: 192 random bits after the vendor's prefix."""
    return PREFIX + secrets.token_urlsafe(24)


def places_of(name: str) -> Places:
    """Return where the code for a claimed name may be.

    If the name is a suffix in the PRIVATE division of the Public Suffix List, every name below it
    belongs to someone else, including the one with our label. If that would be longer than a name can
    be (RFC 1035, section 2.3.4), there is only the registrable domain.
    """
    registrable = registrable_domain(name)
    if registrable is None:
        return Places(name, name)
    label = f"{LABEL}.{name}"
    return Places(registrable, label if len(label) <= _LONGEST_NAME else registrable)


def resolvers_of(configured: Sequence[DnsServer]) -> Sequence[DnsServer]:
    """Return the configured resolvers, or else those this machine uses; none if it has none."""
    if configured:
        return configured
    try:
        system = dns.resolver.Resolver()
    except dns.resolver.NoResolverConfiguration:
        return ()
    return Fallbacks(DnsServer(str(host), system.port) for host in system.nameservers)


async def look_up(resolvers: Sequence[DnsServer], name: str, code: str) -> Finding:
    """Look for the code of a claim to that name; if absent, also where it may be by mistake."""
    places = places_of(name)
    probe = f"{secrets.token_hex(8)}.{name}"
    questions = [
        (places.registrable, "TXT"),
        (places.label, "TXT"),
        (probe, "TXT"),
        (places.registrable, "NS"),
    ]
    if isinstance(resolvers, Fallbacks) and resolvers:
        resolver, replies_of_it = await _first_to_tell(resolvers, questions, code)
        resolvers, per_resolver = [resolver], [replies_of_it]
    else:
        per_resolver = await asyncio.gather(*(_ask_all(each, questions) for each in resolvers))
    judged = [_judge(code, *replies[:3]) for replies in per_resolver]
    verdicts = Counter(verdict for verdict, _ in judged)
    majority = len(resolvers) // 2 + 1
    outcome: Outcome = "failed"
    for candidate in ("found", "absent"):
        if verdicts[candidate] >= majority:
            outcome = candidate
    proving = Counter(proves for verdict, proves in judged if verdict == "found")
    replies = [reply for each in per_resolver for reply in each]
    reason = CODE_NOT_FOUND
    if outcome == "absent":
        if all(each[0].verdict == "no_domain" for each in per_resolver):
            reason = DOMAIN_NOT_FOUND
        replies += await _ask_all(resolvers[0], usual_mistakes(name, places))
    return Finding(
        outcome=outcome,
        reason=reason,
        proves_subdomains=next(
            (proves for proves in (True, False) if proving[proves] >= majority), None
        ),
        nameservers=_nameservers([each[3] for each in per_resolver]),
        agreeing=verdicts[outcome],
        asked=len(resolvers),
        replies=replies,
    )


async def _first_to_tell(
    resolvers: Fallbacks, questions: Sequence[tuple[str, str]], code: str
) -> tuple[DnsServer, list[Reply]]:
    """Ask all at once, and return the first resolver that tells anything, with its replies."""

    async def ask(resolver: DnsServer) -> tuple[DnsServer, list[Reply]]:
        return resolver, await _ask_all(resolver, questions)

    asking = [asyncio.create_task(ask(each)) for each in resolvers]
    try:
        for answered in asyncio.as_completed(asking):
            resolver, replies = await answered
            if _judge(code, *replies[:3])[0] != "failed":
                break
        return resolver, replies
    finally:
        for task in asking:
            task.cancel()


async def _ask_all(resolver: DnsServer, questions: Sequence[tuple[str, str]]) -> list[Reply]:
    return list(await asyncio.gather(*(_ask(resolver, name, kind) for name, kind in questions)))


async def _ask(resolver: DnsServer, name: str, kind: str) -> Reply:
    """Ask one question, following CNAMEs; whatever goes wrong is in the reply."""
    started = time.monotonic()

    def reply(verdict: Verdict, **found: object) -> Reply:
        spent = int((time.monotonic() - started) * 1000)
        return Reply(str(resolver), name, kind, verdict, milliseconds=spent, **found)  # type: ignore[arg-type] # by name

    rdtype = dns.rdatatype.from_text(kind)
    try:
        target = dns.name.from_text(name)
    except dns.exception.DNSException:
        return reply("no_domain")
    first_cname: str | None = None
    try:
        async with asyncio.timeout(QUERY_DEADLINE):
            for _ in range(LONGEST_CHAIN + 1):
                response = await _sent(resolver, target, rdtype)
                rcode = response.rcode()
                if rcode not in (dns.rcode.NOERROR, dns.rcode.NXDOMAIN):
                    return reply("failed", detail=_refusal(response))
                answer, following = _walk(response, target, rdtype)
                if following != target:
                    first_cname = first_cname or str(following).rstrip(".")
                if answer:
                    return reply("answer", values=answer, cname=first_cname)
                if not response.flags & (dns.flags.AA | dns.flags.RA):
                    return reply("failed", detail="the server is not authoritative (lame)")
                remembered = _remembered(response)
                if rcode == dns.rcode.NXDOMAIN:
                    return reply("no_domain", cname=first_cname, remembered=remembered)
                if following == target:
                    return reply("no_data", cname=first_cname, remembered=remembered)
                target = following
            return reply("failed", detail="a CNAME chain is too long, or loops")
    except TimeoutError:
        return reply("failed", detail=f"no answer within {QUERY_DEADLINE:.0f} seconds")
    except EOFError:
        return reply("failed", detail="the DNS server closed the connection")
    except OSError:
        return reply("failed", detail="the DNS server can't be reached")
    except (dns.exception.DNSException, ValueError):
        return reply("failed", detail="the DNS server's reply makes no sense")


async def _sent(
    resolver: DnsServer, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> dns.message.Message:
    """Send a question until there is a reply: again if none came, and without EDNS if refused.

    Servers from before EDNS answer FORMERR or NOTIMP to it (RFC 6891, section 7).
    """
    edns: int | bool = 0
    patience: float | None = _SEND_AGAIN_AFTER
    while True:
        query = dns.message.make_query(
            name, rdtype, use_edns=edns, payload=1232 if edns is not False else None
        )
        try:
            response, _ = await dns.asyncquery.udp_with_fallback(
                query,
                resolver.host,
                timeout=patience,
                port=resolver.port,
                ignore_unexpected=True,
                ignore_errors=True,
            )
        except dns.exception.Timeout:
            patience = None
            continue
        if response.rcode() in (dns.rcode.FORMERR, dns.rcode.NOTIMP) and edns is not False:
            edns = False
            continue
        return response


def _remembered(response: dns.message.Message) -> int | None:
    """Return for how long a negative answer is remembered, in seconds (RFC 2308, section 5)."""
    times = [
        min(rrset.ttl, rrset[0].minimum)
        for rrset in response.authority
        if rrset.rdtype == dns.rdatatype.SOA
    ]
    return min(times, default=None)


def _walk(
    response: dns.message.Message, name: dns.name.Name, rdtype: dns.rdatatype.RdataType
) -> tuple[list[str], dns.name.Name]:
    """Follow an answer's CNAMEs, and return the values at their end and the name there."""
    seen = set()
    while name not in seen:
        seen.add(name)
        for rrset in response.answer:
            if rrset.name != name:
                continue
            if rrset.rdtype == rdtype:
                return [_text(rdata, rdtype) for rdata in rrset], name
            if rrset.rdtype == dns.rdatatype.CNAME:
                name = rrset[0].target
                break
    return [], name


def _text(rdata: object, rdtype: dns.rdatatype.RdataType) -> str:
    """Return a record's value. A TXT record's strings are one text (see RFC 7208, section 3.3)."""
    if rdtype == dns.rdatatype.TXT:
        text: bytes = b"".join(rdata.strings)  # type: ignore[attr-defined] # of TXT
        # PostgreSQL can't store a NUL in text or JSON.
        return text.decode("utf-8", "backslashreplace").replace("\0", "\\000")
    return str(rdata).rstrip(".").lower()


_REFUSALS = {
    dns.rcode.SERVFAIL: "the domain's name servers don't answer properly",
    dns.rcode.REFUSED: "the DNS server refused to answer",
}


def _refusal(response: dns.message.Message) -> str:
    """Return why a server didn't answer, in words, with its code and what it says."""
    words = _REFUSALS.get(response.rcode(), "the DNS server answered with an error")
    details = [option.text for option in response.extended_errors() if option.text]
    return f"{words} ({': '.join([dns.rcode.to_text(response.rcode()), *map(shorten, details)])})"


def _judge(
    code: str, at_domain: Reply, at_label: Reply, at_probe: Reply
) -> tuple[Outcome, bool | None]:
    """Return what one resolver's replies mean, and whether they prove all subdomains, if known."""
    if code in at_domain.values:
        return "found", True
    is_told = at_domain.verdict != "failed"
    if code in at_label.values:
        if at_probe.verdict == "failed":
            return "failed", None
        # A wildcard CNAME leads to a zone that can answer these two names differently.
        is_wildcard = code in at_probe.values or (
            at_label.cname is not None and at_probe.cname is not None
        )
        if not is_wildcard:
            return "found", False if is_told else None
    elif at_label.verdict == "failed":
        return "failed", None
    return ("absent", False) if is_told else ("failed", None)


def _nameservers(replies: Sequence[Reply]) -> list[str] | None:
    """Return the name servers that most resolvers report."""
    told = Counter(tuple(sorted(each.values)) for each in replies if each.verdict == "answer")
    for servers, count in told.items():
        if count > len(replies) // 2:
            return list(servers)
    return None


def usual_mistakes(name: str, places: Places) -> list[tuple[str, str]]:
    """Return where codes are put by mistake, in the order they are worth reporting."""
    registrable = places.registrable
    questions = [
        (f"{registrable}.{registrable}", "TXT"),
        (f"{places.label}.{registrable}", "TXT"),
        (f"{LABEL}.{registrable}", "TXT"),
        (name, "TXT"),
        (f"www.{registrable}", "TXT"),
        (f"{PREFIX.rstrip('=')}.{registrable}", "TXT"),
        (places.label, "CNAME"),
        (registrable, "CNAME"),
    ]
    asked = {(places.registrable, "TXT"), (places.label, "TXT")}
    return [each for each in dict.fromkeys(questions) if each not in asked]


def kept_evidence(finding: Finding) -> Finding:
    """Return what is kept of a finding: a limited number of values per reply, each shortened."""
    return msgspec.structs.replace(
        finding,
        replies=[
            msgspec.structs.replace(
                reply, values=[value[:_VALUE_KEPT] for value in reply.values[:_VALUES_KEPT]]
            )
            for reply in finding.replies
        ],
    )
