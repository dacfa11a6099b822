"""Which host identifies a certificate's owner, and what must be known to find it."""

from collections.abc import Collection, Mapping

from service.certificates.facts import FACTS_OF, Kind, kinds_of
from service.errors import InvalidHostname, InvalidInput, IPAddressHost, SingleLabelHost
from service.ownership.hostname import canonical_host, has_known_suffix, host_in_url

# The properties that give the host: nearly always the first two, otherwise the others.
TELLS_HOST = frozenset({"domain", "page_url"})
TELLS_HOST_OTHERWISE = frozenset({"is_framed", "is_masked", "parent_page_url"})

# What JavaScript and spreadsheets leave where a value is missing.
_UNKNOWN = frozenset({"null", "undefined", "none", "nil", "nan", "n/a", "na", "#n/a", "unknown"})


def likeliest_kind(cert_id: str, facts: Mapping[str, object]) -> Kind:
    """Guess the kind of a certificate from its id and what is known about it."""
    possible = kinds_of(cert_id)
    return "web" if "web" in possible and not FACTS_OF["mobile"].issuperset(facts) else possible[0]


def lacking_for_host(
    cert_id: str, kind: Kind, facts: Mapping[str, object], known: Collection[str]
) -> frozenset[str]:
    """Return the properties still missing to find the host that identifies the owner.

    This order keeps them few. A readable domain settles it. An unreadable one may be the token
    of a masked certificate. Without a domain, the page decides, or the page that framed it.
    """
    if kind != "web":
        # If the id could be a web certificate's, the kind is a guess: only those have a domain.
        is_guess = "web" in kinds_of(cert_id) and kind == likeliest_kind(cert_id, facts)
        return frozenset({"domain"}.difference(known)) if is_guess else frozenset()
    if "domain" not in known:
        return TELLS_HOST.difference(known)
    domain = _said(facts, "domain")
    if domain and _is_readable(domain):
        return frozenset()
    if domain or facts.get("is_masked") is True:
        return frozenset({"is_masked"}.difference(known))
    needed = {"is_masked", "is_framed", "page_url"}
    if facts.get("is_framed") is not False:
        needed.add("parent_page_url")
    return frozenset(needed.difference(known))


def host_of(kind: str, facts: Mapping[str, object]) -> str | None:
    """Return the host that identifies a certificate's owner, or None if it has no domain.

    That is the `domain` fact, otherwise the host of the page the consumer saw: the page that framed
    the recorded one, if it was framed. Where nothing says whether it was, a framing page does.
    Only web certificates have a domain. A masked one has a token instead, which ends in no known
    suffix, and its pages are hidden. So a domain without a known suffix is unknown unless the
    certificate says that it isn't masked. An IP address or a single label is only lowercased: nobody
    can own it.

    Raises `InvalidInput` if the domain or the page's host is invalid.
    """
    if kind != "web":
        return None
    may_be_masked = facts.get("is_masked") is not False
    told_by = "domain"
    host = _said(facts, "domain")
    if not host and facts.get("is_masked") is not True:
        is_framed = facts.get("is_framed")
        if is_framed is None:
            is_framed = bool(_said(facts, "parent_page_url"))
        told_by = "parent_page_url" if is_framed else "page_url"
        url = _said(facts, told_by)
        host = host_in_url(url) or ""
        if not host and url.lower().startswith(("http:", "https:")):
            raise InvalidInput(
                f"insights.properties.{told_by}", url, "a URL that browsers can open"
            )
        may_be_masked = False
    if not host:
        return None
    try:
        canonical = canonical_host(host)
    except IPAddressHost:
        return None if facts.get("is_masked") is True else host.lower()
    except SingleLabelHost:
        return None if may_be_masked else host.lower()
    except InvalidHostname:
        if facts.get("is_masked") is True:
            return None
        expected = "a host name" if told_by == "domain" else "a URL with a host name"
        raise InvalidInput(f"insights.properties.{told_by}", host, expected) from None
    return None if may_be_masked and not has_known_suffix(canonical) else canonical


def _said(facts: Mapping[str, object], name: str) -> str:
    """Return a fact's text; empty if it is unknown, or a word that programs write for unknown."""
    text = str(facts.get(name) or "").strip()
    return "" if text.casefold() in _UNKNOWN else text


def _is_readable(domain: str) -> bool:
    try:
        return has_known_suffix(canonical_host(domain))
    except InvalidHostname:
        return False
