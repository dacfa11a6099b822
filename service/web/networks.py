"""Which network a request comes from, as far as its address tells."""

from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from service.web.bodies import HttpRequest


def network_of(request: HttpRequest) -> str | None:
    """Return the network of a request's client: /24 for IPv4, /48 for IPv6, as providers assign them.

    If the connection comes from a private address, that is our proxy's, and the client is the last
    one in `X-Forwarded-For` that is not: proxies add to its end, and what comes before may be made
    up. None if the address is a private one all the same, for it may be everybody's.
    """
    address = _address(request.client.host if request.client else "")
    forwarded = ",".join(request.headers.getall("x-forwarded-for", []))
    for given in reversed(forwarded.split(",")):
        if address is None or not address.is_private:
            break
        address = _address(given.strip()) or address
    if address is None or address.is_private:
        return None
    kept = 24 if isinstance(address, IPv4Address) else 48
    return str(ip_network((address, kept), strict=False))


def _address(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    return (address.ipv4_mapped or address) if isinstance(address, IPv6Address) else address
