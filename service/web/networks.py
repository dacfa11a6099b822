"""Which network a request comes from, as far as its address tells."""

from ipaddress import IPv4Address, IPv6Address, ip_address

from service.web.bodies import HttpRequest


def network_of(request: HttpRequest) -> str:
    """Return the network of a request's client: /24 for IPv4, /48 for IPv6, as providers assign them.

    If the connection comes from a private address, that is our proxy's, and the client is the last
    one in `X-Forwarded-For` that is not: proxies add to its end, and what comes before may be made
    up.
    """
    peer = request.client.host if request.client else ""
    forwarded = ",".join(request.headers.getall("x-forwarded-for", []))
    address = _address(peer)
    for given in reversed(forwarded.split(",")):
        if address is None or not address.is_private:
            break
        address = _address(given.strip()) or address
    if address is None:
        return peer
    if isinstance(address, IPv6Address):
        address = address.ipv4_mapped or address
    kept = 24 if isinstance(address, IPv4Address) else 48
    number = int(address) >> (address.max_prefixlen - kept) << (address.max_prefixlen - kept)
    return f"{type(address)(number)}/{kept}"


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        return ip_address(text)
    except ValueError:
        return None
