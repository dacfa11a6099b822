"""By which host the owner of a certificate is looked for, and what has to be known to tell."""

from collections.abc import Collection, Mapping

from service.certificates.facts import FACTS_OF, Kind, kinds_of
from service.errors import InvalidHostname, InvalidInput, IPAddressHost, SingleLabelHost
from service.ownership.hostname import canonical_host, has_known_suffix, host_in_url

# What tells the host: the first two nearly always, and the others where those do not.
TELLS_HOST = frozenset({"domain", "page_url"})
TELLS_HOST_OTHERWISE = frozenset({"is_framed", "is_masked", "parent_page_url"})


def likeliest_kind(cert_id: str, facts: Mapping[str, object]) -> Kind:
    """The kind of a certificate, guessed from its id and from what is known of it."""
    possible = kinds_of(cert_id)
    return "web" if "web" in possible and not FACTS_OF["mobile"].issuperset(facts) else possible[0]


def lacking_for_host(
    cert_id: str, kind: Kind, facts: Mapping[str, object], known: Collection[str]
) -> frozenset[str]:
    """The properties still to be asked for until the host is known by which an owner is looked for.

    Asked for in this order, few are: a domain that can be read settles it. One that can't may be the
    token of a masked certificate, and where there is none the page decides, or the page that framed it.
    """
    if kind != "web":
        # A guess, where the id could be that of a web certificate: one has a domain, others have not.
        is_guess = "web" in kinds_of(cert_id) and kind == likeliest_kind(cert_id, facts)
        return frozenset({"domain"}.difference(known)) if is_guess else frozenset()
    if "domain" not in known:
        return TELLS_HOST.difference(known)
    domain = str(facts.get("domain") or "").strip()
    if domain and _is_readable(domain):
        return frozenset()
    if domain or facts.get("is_masked") is True:
        return frozenset({"is_masked"}.difference(known))
    needed = {"is_masked", "is_framed", "page_url"}
    if facts.get("is_framed") is not False:
        needed.add("parent_page_url")
    return frozenset(needed.difference(known))


def host_of(kind: str, facts: Mapping[str, object]) -> str | None:
    """The host by which a certificate's owner is looked for, or None if it has no domain.

    The `domain` fact; else the host of the page the consumer saw, which is the framing page if there
    is one. Only web certificates have a domain. A masked one has a token in its place, which ends in
    no known suffix, and its pages are hidden. An IP address or a single label stays as it is: nobody
    can own it.

    Raises `InvalidInput` for a domain that is none.
    """
    if kind != "web":
        return None
    masked = facts.get("is_masked") is True
    told_by = "domain"
    host = str(facts.get("domain") or "").strip()
    if not host and not masked:
        told_by = "parent_page_url" if facts.get("is_framed") else "page_url"
        host = host_in_url(str(facts.get(told_by) or "")) or ""
    if not host:
        return None
    try:
        canonical = canonical_host(host)
    except (IPAddressHost, SingleLabelHost):
        return None if masked else host.lower()
    except InvalidHostname:
        if masked:
            return None
        expected = "a host name" if told_by == "domain" else "a URL with a host name"
        raise InvalidInput(f"insights.properties.{told_by}", host, expected) from None
    return None if masked and not has_known_suffix(canonical) else canonical


def _is_readable(domain: str) -> bool:
    try:
        return has_known_suffix(canonical_host(domain))
    except InvalidHostname:
        return False
