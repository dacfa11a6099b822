"""A real DNS server over UDP and TCP, which behaves or misbehaves as a test tells it."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

from dnslib import CNAME, NS, QTYPE, RCODE, RR, SOA, TXT, DNSRecord
from dnslib.dns import DNSError
from dnslib.server import DNSHandler, DNSLogger, DNSServer

from service.settings import DnsServer
from tests.running import free_port

Answer = Callable[[DNSRecord, bool], DNSRecord]


@dataclass
class Authority:
    """The DNS data by lowercase name: TXT values, CNAMEs, and names that misbehave."""

    port: int
    txt: dict[str, Sequence[str | list[bytes]]] = field(default_factory=dict)
    cname: dict[str, str] = field(default_factory=dict)
    ns: dict[str, list[str]] = field(default_factory=dict)
    addresses: set[str] = field(default_factory=set)
    behaves: dict[str, Answer] = field(default_factory=dict)
    """What is done for all names below this one, other than to answer."""
    asked: list[tuple[str, str, str]] = field(default_factory=list)
    """Name, type, and whether by udp or tcp."""

    @property
    def server(self) -> DnsServer:
        return DnsServer("127.0.0.1", self.port)

    def resolve(self, request: DNSRecord, handler: DNSHandler) -> DNSRecord:
        name = str(request.q.qname).rstrip(".").lower()
        kind = QTYPE[request.q.qtype]
        self.asked.append((name, kind, handler.protocol))
        labels = name.split(".")
        for i in range(len(labels)):
            if behaves := self.behaves.get(".".join(labels[i:])):
                return behaves(request, handler.protocol == "udp")
        return self.answer(request)

    def answer(self, request: DNSRecord) -> DNSRecord:
        """A healthy server's response."""
        reply = request.reply()
        reply.header.ra = 1
        name = str(request.q.qname).rstrip(".").lower()
        kind = QTYPE[request.q.qtype]
        for value in self.txt.get(name, self.txt.get(f"*.{name.partition('.')[2]}", [])):
            if kind == "TXT":
                strings = [value.encode()] if isinstance(value, str) else value
                reply.add_answer(RR(request.q.qname, QTYPE.TXT, ttl=60, rdata=TXT(strings)))
        if name in self.cname:
            target = self.cname[name]
            reply.add_answer(RR(request.q.qname, QTYPE.CNAME, ttl=60, rdata=CNAME(target)))
        for server in self.ns.get(name, []):
            if kind == "NS":
                reply.add_answer(RR(request.q.qname, QTYPE.NS, ttl=60, rdata=NS(server)))
        if not reply.rr:
            if not self.exists(name):
                reply.header.rcode = RCODE.NXDOMAIN
            soa = SOA("ns.example", "x.example", (1, 2, 3, 4, 3600))
            reply.add_auth(RR("example", QTYPE.SOA, ttl=7200, rdata=soa))
        return reply

    def exists(self, name: str) -> bool:
        names = {*self.txt, *self.cname, *self.ns, *self.addresses}
        return any(each == name or each.endswith(f".{name}") for each in names)


def servfail(request: DNSRecord, by_udp: bool) -> DNSRecord:
    return _failing(request, RCODE.SERVFAIL)


def refused(request: DNSRecord, by_udp: bool) -> DNSRecord:
    return _failing(request, RCODE.REFUSED)


def not_implemented(request: DNSRecord, by_udp: bool) -> DNSRecord:
    return _failing(request, RCODE.NOTIMP)


def silent(request: DNSRecord, by_udp: bool) -> DNSRecord:
    raise DNSError("no answer")


def lame(request: DNSRecord, by_udp: bool) -> DNSRecord:
    """An upward referral, from a server that is neither authoritative nor recursive."""
    reply = request.reply(ra=0, aa=0)
    reply.add_auth(RR(".", QTYPE.NS, ttl=60, rdata=NS("a.root-servers.net")))
    return reply


def slow(authority: Authority, seconds: float) -> Answer:
    def answer(request: DNSRecord, by_udp: bool) -> DNSRecord:
        time.sleep(seconds)
        return authority.answer(request)

    return answer


def truncating(authority: Authority, *, tcp: bool = True) -> Answer:
    def answer(request: DNSRecord, by_udp: bool) -> DNSRecord:
        if by_udp:
            reply = request.reply()
            reply.header.tc = 1
            return reply
        if not tcp:
            raise DNSError("no answer by TCP")
        return authority.answer(request)

    return answer


def _failing(request: DNSRecord, rcode: int) -> DNSRecord:
    reply = request.reply()
    reply.header.rcode = rcode
    return reply


@contextmanager
def authority() -> Iterator[Authority]:
    """Serve until the end of the block, on a free local port."""
    zone = Authority(free_port())
    options: dict[str, Any] = {
        "port": zone.port,
        "address": "127.0.0.1",
        "logger": DNSLogger(prefix=False, logf=lambda _: None),
    }
    servers = [DNSServer(zone, tcp=tcp, **options) for tcp in (False, True)]
    for server in servers:
        # Like `start_thread`, but without its half-second wait at the end.
        Thread(target=server.server.serve_forever, args=(0.01,), daemon=True).start()
    try:
        yield zone
    finally:
        for server in servers:
            server.server.shutdown()
            server.server.server_close()
