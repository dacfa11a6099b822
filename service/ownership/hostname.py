"""Host names: their one canonical form, and which names cover them.

Pure functions over text. The canonical form follows UTS 46 as browsers apply it (the URL
Standard, "domain to ASCII", not strict), because certificates record what browsers loaded:
underscores and hyphens anywhere in a label occur there. What may be *claimed* is stricter: see
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

# Covering names are stored with certificates, so what computed them is stored beside them: a new
# release of the list can move a boundary, and they are then worked out anew.
SUFFIX_LIST_VERSION = version("publicsuffixlist")

_SUFFIXES = PublicSuffixList()
_ICANN_SUFFIXES = PublicSuffixList(only_icann=True)

_MAX_HOST = 253
_MAX_TEXT = 1024
_LABEL = re.compile(r"[a-z0-9_-]{1,63}")
_STRICT_LABEL = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r":[0-9]{1,5}$")
# Reserved for documentation and tests (RFC 2606, RFC 6761), so in no suffix list, yet no opaque token.
_RESERVED_SUFFIXES = frozenset({"example", "test"})


@lru_cache(maxsize=65536)
def canonical_host(text: str) -> str:
    """The canonical form of a host name: lower-case A-labels, no port, no final dot, no first `www.`.

    A leading `www.` stays where dropping it would leave a public suffix (`www.co.uk` and
    `www.github.io` are registrable names of their own) or another `www.`: so the form of a canonical
    host is that host itself.

    Raises `NotAHostname`, `IPAddressHost` or `SingleLabelHost`.
    """
    if len(text) > _MAX_TEXT:
        raise NotAHostname(text)
    try:
        mapped = idna.uts46_remap(text.strip(), std3_rules=False, transitional=False)
    except idna.IDNAError:
        raise NotAHostname(text) from None
    if _is_ip_address(mapped):
        raise IPAddressHost(text)
    name = _PORT.sub("", mapped).removesuffix(".")
    labels = [_ascii_label(label, text) for label in name.split(".")]
    host = ".".join(labels)
    if len(host) > _MAX_HOST:
        raise NotAHostname(text)
    if len(labels) == 1:
        raise SingleLabelHost(text)
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        # Browsers read a name that ends in a number as an IPv4 address (URL Standard, host parsing).
        raise IPAddressHost(text)
    bare = host.removeprefix("www.")
    if "." not in bare or bare.startswith("www.") or _SUFFIXES.is_public(bare):
        return host
    return bare


def host_in_url(url: str) -> str | None:
    """The host a browser goes to for an http or https URL (URL Standard); None if there is none."""
    try:
        parsed = ada_url.URL(url)
    except ValueError:
        return None
    return parsed.hostname or None if parsed.protocol in ("http:", "https:") else None


@lru_cache(maxsize=65536)
def has_known_suffix(host: str) -> bool:
    """Whether a canonical host ends in a suffix that exists, and so is no token that has dots."""
    known = _SUFFIXES.publicsuffix(host, accept_unknown=False) is not None
    return known or host.rpartition(".")[2] in _RESERVED_SUFFIXES


def registrable_domain(host: str) -> str | None:
    """The public suffix of a canonical host plus one label, or None if the host is itself a suffix.

    Suffixes of both divisions count, so every `NAME.github.io` is a registrable domain.
    """
    return _SUFFIXES.privatesuffix(host)


@lru_cache(maxsize=65536)
def covering_names(host: str) -> tuple[str, ...]:
    """The names whose owner may own a host, most specific first.

    The host itself, then each ancestor down to its registrable domain. A PRIVATE suffix has only
    itself; an ICANN suffix, and what is no canonical host, nothing.
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
    """The canonical form of a domain that an account may claim.

    Labels must be letters, digits and inner hyphens (RFC 1123), A-labels valid under IDNA 2008. An
    ICANN suffix can't be claimed; a PRIVATE one only without its subdomains, which belong to others.

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
        # Names that only some networks know, such as those below “internal”, are nobody's here.
        raise UnknownSuffixHost(text)
    if not covering_names(host):
        raise PublicSuffixHost(text)
    if covers_subdomains and registrable_domain(host) is None:
        raise PrivateSuffixHost(text)
    return host


def is_mixed_script(host: str) -> bool:
    """Whether a label of a canonical host has letters of several scripts (UTS 39), as disguises have."""
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


def _ascii_label(label: str, text: str) -> str:
    if not label.isascii():
        label = "xn--" + label.encode("punycode").decode("ascii")
    if not _LABEL.fullmatch(label):
        raise NotAHostname(text)
    return label
