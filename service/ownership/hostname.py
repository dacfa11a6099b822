"""Host names: their one canonical form, and which names cover them.

Pure functions over text. The canonical form is that of browsers (the URL Standard, "domain to
ASCII"), because certificates record what browsers loaded: there, underscores and hyphens occur
anywhere in a label. What they refuse is no host. What may be *claimed* is stricter: see
`claimable_name`.
"""

import ipaddress
import re
from functools import lru_cache
from importlib.metadata import version

import ada_url
import disarm
import idna
from publicsuffixlist import PublicSuffixList

from service.errors import (
    InvalidHostname,
    IPAddressHost,
    NotAHostname,
    PrivateSuffixHost,
    PublicSuffixHost,
    SingleLabelHost,
    UnknownSuffixHost,
    UrlNotHostname,
)

# Stored beside a certificate's covering names. A new release of the list can move a boundary, and
# then they are recomputed.
SUFFIX_LIST_VERSION = version("publicsuffixlist")

_SUFFIXES = PublicSuffixList()
_ICANN_SUFFIXES = PublicSuffixList(only_icann=True)

_MAX_HOST = 253
_MAX_TEXT = 1024
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_STRICT_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
# What ends a host in a URL, or is decoded there.
_NOT_IN_A_HOST = re.compile(r"[/?#@\\%\s]")
# Reserved for documentation and tests (RFC 2606, RFC 6761): in no suffix list, but no opaque token.
_RESERVED_SUFFIXES = frozenset({"example", "test"})


@lru_cache(maxsize=65536)
def host_as_answered(text: str) -> str:
    """Return a host as answers have it: canonical, or as it was if it can have no owner."""
    try:
        return canonical_host(text)
    except InvalidHostname:
        return text.strip().lower()


def canonical_host(text: str) -> str:
    """Return the canonical form of a host name.

    That is lowercase A-labels without a port, a final dot, or a leading `www.`. The `www.` stays if
    dropping it would leave a public suffix (`www.co.uk` and `www.github.io` are registrable names
    of their own) or another `www.`, so that the form of a canonical host is that host itself.

    Raises `NotAHostname`, `IPAddressHost`, or `SingleLabelHost`.
    """
    if len(text) > _MAX_TEXT or _NOT_IN_A_HOST.search(text.strip()):
        raise NotAHostname(text)
    if _is_ip_address(text.strip()):
        raise IPAddressHost(text)
    try:
        visited = ada_url.URL(f"http://{text.strip()}/").hostname
    except ValueError:
        raise NotAHostname(text) from None
    if _is_ip_address(visited):
        raise IPAddressHost(text)
    labels = visited.removesuffix(".").split(".")
    if not all(map(_LABEL.fullmatch, labels)):
        raise NotAHostname(text)
    host = ".".join(labels)
    if len(host) > _MAX_HOST:
        raise NotAHostname(text)
    if len(labels) == 1:
        raise SingleLabelHost(text)
    bare = host.removeprefix("www.")
    if "." not in bare or bare.startswith("www.") or _SUFFIXES.is_public(bare):
        return host
    return bare


def host_in_url(url: str) -> str | None:
    """Return the host a browser visits for an http or https URL (URL Standard); None if none."""
    try:
        parsed = ada_url.URL(url)
    except ValueError:
        return None
    return parsed.hostname or None if parsed.protocol in ("http:", "https:") else None


@lru_cache(maxsize=65536)
def has_known_suffix(host: str) -> bool:
    """Whether a canonical host ends in a suffix that exists, and so is not a token with dots."""
    known = _SUFFIXES.publicsuffix(host, accept_unknown=False) is not None
    return known or host.rpartition(".")[2] in _RESERVED_SUFFIXES


def registrable_domain(host: str) -> str | None:
    """Return a canonical host's public suffix plus one label; None if the host is itself a suffix.

    Suffixes of both divisions count, so every `NAME.github.io` is a registrable domain.
    """
    return _SUFFIXES.privatesuffix(host)


@lru_cache(maxsize=65536)
def covering_names(host: str) -> tuple[str, ...]:
    """Return the names whose owner may own a host, most specific first.

    These are the host itself, then each ancestor up to its registrable domain. A PRIVATE suffix has
    only itself. An ICANN suffix, or a host that is not canonical, has none.
    """
    try:
        if canonical_host(host) != host:
            return ()
    except InvalidHostname:
        return ()
    registrable = registrable_domain(host)
    if registrable is None:
        return () if _ICANN_SUFFIXES.is_public(host) else (host,)
    names = [host]
    while names[-1] != registrable:
        names.append(names[-1].partition(".")[2])
    return tuple(names)


def claimable_name(text: str, *, covers_subdomains: bool = False) -> str:
    """Return the canonical form of a domain that an account may claim.

    Labels must be letters, digits, and inner hyphens (RFC 1123), and A-labels must be valid under
    IDNA 2008. An ICANN suffix can't be claimed. A PRIVATE suffix can be claimed only without its
    subdomains, which belong to others.

    Raises a subclass of `InvalidHostname`.
    """
    try:
        host = canonical_host(text)
    except NotAHostname:
        if in_url := host_in_url(text.strip()):
            raise UrlNotHostname(text, in_url) from None
        raise
    for label in host.split("."):
        if not _STRICT_LABEL.fullmatch(label):
            raise NotAHostname(text)
        if label.startswith("xn--"):
            try:
                idna.ulabel(label)
            except idna.IDNAError:
                raise NotAHostname(text) from None
    if not has_known_suffix(host):
        # Names that only some networks know, such as under “internal”, belong to nobody here.
        raise UnknownSuffixHost(text)
    if not covering_names(host):
        raise PublicSuffixHost(text)
    if covers_subdomains and registrable_domain(host) is None:
        raise PrivateSuffixHost(text)
    return host


def is_mixed_script(host: str) -> bool:
    """Whether a label of a canonical host mixes scripts (UTS 39), as disguised names do."""
    return any(
        disarm.is_mixed_script(label[4:].encode().decode("punycode"))
        for label in host.split(".")
        if label.startswith("xn--")
    )


def _is_ip_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
