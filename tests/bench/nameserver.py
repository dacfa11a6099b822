"""A DNS server on the given port, where every domain has its code."""

import asyncio
import sys
from typing import cast

from dnslib import NS, QTYPE, RR, TXT, DNSRecord

PREFIX = b"activeprospect-domain-verification="


class Nameserver(asyncio.DatagramProtocol):
    """Answers over UDP."""

    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, address: tuple[str, int]) -> None:
        request = DNSRecord.parse(data)
        reply = request.reply()
        name = str(request.q.qname).rstrip(".")
        if name.count(".") == 1:
            if request.q.qtype == QTYPE.TXT:
                found = TXT([PREFIX + name.encode()])
                reply.add_answer(RR(request.q.qname, QTYPE.TXT, ttl=60, rdata=found))
            else:
                reply.add_answer(RR(request.q.qname, QTYPE.NS, ttl=60, rdata=NS("ns.host.example")))
        self.transport.sendto(reply.pack(), address)


async def serve(port: int) -> None:
    loop = asyncio.get_running_loop()
    # The process that starts this server waits until a TCP port listens; UDP can't show that.
    listener = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", port)
    await loop.create_datagram_endpoint(Nameserver, local_addr=("127.0.0.1", port))
    async with listener:
        await listener.serve_forever()


if __name__ == "__main__":
    asyncio.run(serve(int(sys.argv[1])))
