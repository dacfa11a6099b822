"""Host names: tables of canonical forms, and laws that they obey."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import (
    InvalidHostname,
    IPAddressHost,
    NotAHostname,
    PrivateSuffixHost,
    PublicSuffixHost,
    SingleLabelHost,
)
from service.ownership.hostname import (
    canonical_host,
    claimable_name,
    covering_names,
    host_in_url,
    registrable_domain,
)

labels = st.text("abcxyz019-_éßäñя食☕", min_size=1, max_size=12)
hosts = st.lists(
    labels | st.sampled_from(["www", "WWW", "co", "uk", "github", "io"]), max_size=6
).map(".".join)


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("Example.COM", "example.com"),
        ("example.com.", "example.com"),
        ("  example.com\n", "example.com"),
        ("www.example.com", "example.com"),
        ("WWW.Example.com", "example.com"),
        ("www.shop.example.com", "shop.example.com"),
        ("www2.example.com", "www2.example.com"),
        ("example.com:8443", "example.com"),
        # Dropping “www.” here would leave a public suffix or an invalid host.
        ("www.co.uk", "www.co.uk"),
        ("www.github.io", "www.github.io"),
        ("www.com", "www.com"),
        ("www.www.example.com", "www.www.example.com"),
        ("bücher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("faß.de", "xn--fa-hia.de"),
        ("example。com", "example.com"),
        ("ｅｘａｍｐｌｅ.com", "example.com"),
        # Browsers load these, although nobody can register them.
        ("my_page.example.com", "my_page.example.com"),
        ("r3---sn-x.example.com", "r3---sn-x.example.com"),
        ("-a-.example.com", "-a-.example.com"),
        ("☕.example.com", "xn--53h.example.com"),
    ],
)
def test_canonical_host_of(text: str, host: str) -> None:
    assert canonical_host(text) == host


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", NotAHostname),
        (".", NotAHostname),
        (".example.com", NotAHostname),
        ("a..example.com", NotAHostname),
        ("a b.example.com", NotAHostname),
        ("https://example.com/", NotAHostname),
        ("example.com:https", NotAHostname),
        ("user@example.com", NotAHostname),
        ("*.example.com", NotAHostname),
        ("exa\0mple.com", NotAHostname),
        ("\ud800.example.com", NotAHostname),
        ("a" * 64 + ".com", NotAHostname),
        (".".join(["a" * 60] * 5), NotAHostname),
        ("a" * 2000, NotAHostname),
        ("192.0.2.1", IPAddressHost),
        ("0x7f.1", IPAddressHost),
        ("example.1", NotAHostname),
        ("2001:db8::1", IPAddressHost),
        ("[2001:db8::1]", IPAddressHost),
        ("localhost", SingleLabelHost),
        ("com", SingleLabelHost),
    ],
)
def test_canonical_host_refuses(text: str, error: type[InvalidHostname]) -> None:
    with pytest.raises(error) as raised:
        canonical_host(text)
    assert type(raised.value) is error
    assert len(str(raised.value)) < 250


@given(hosts)
def test_canonical_form_of_a_canonical_host_is_itself(text: str) -> None:
    try:
        host = canonical_host(text)
    except InvalidHostname:
        return
    assert canonical_host(host) == host
    assert host.isascii()
    assert host == host.lower()
    assert canonical_host(text + ".") == host


@pytest.mark.parametrize(
    ("host", "names"),
    [
        ("example.com", ["example.com"]),
        ("a.b.example.com", ["a.b.example.com", "b.example.com", "example.com"]),
        ("a.example.co.uk", ["a.example.co.uk", "example.co.uk"]),
        ("tenant.github.io", ["tenant.github.io"]),
        ("a.tenant.github.io", ["a.tenant.github.io", "tenant.github.io"]),
        ("bucket.s3.amazonaws.com", ["bucket.s3.amazonaws.com"]),
        ("github.io", ["github.io"]),
        ("co.uk", []),
        ("www.ck", ["www.ck"]),
        ("a.b.kawasaki.jp", ["a.b.kawasaki.jp"]),
        ("192.0.2.1", []),
        ("localhost", []),
        ("not a host", []),
    ],
)
def test_names_that_cover(host: str, names: list[str]) -> None:
    assert list(covering_names(host)) == names


@given(hosts)
def test_names_that_cover_a_host_are_its_ancestors_down_to_its_registrable_domain(
    text: str,
) -> None:
    try:
        host = canonical_host(text)
    except InvalidHostname:
        return
    names = covering_names(host)
    registrable = registrable_domain(host)
    assert names == tuple(sorted(names, key=len, reverse=True))
    for name in names:
        assert host == name or host.endswith("." + name)
        assert registrable is None or name == registrable or name.endswith("." + registrable)
    assert not names or names[0] == host
    assert registrable is None or names[-1] == registrable


@pytest.mark.parametrize(
    ("text", "covers_subdomains", "name"),
    [
        ("WWW.Example.com", True, "example.com"),
        ("shop.example.com", True, "shop.example.com"),
        ("github.io", False, "github.io"),
        ("tenant.github.io", True, "tenant.github.io"),
        ("bücher.example", True, "xn--bcher-kva.example"),
    ],
)
def test_claimable(text: str, covers_subdomains: bool, name: str) -> None:
    assert claimable_name(text, covers_subdomains=covers_subdomains) == name


@pytest.mark.parametrize(
    ("text", "covers_subdomains", "error"),
    [
        ("co.uk", False, PublicSuffixHost),
        ("github.io", True, PrivateSuffixHost),
        ("my_page.example.com", False, NotAHostname),
        ("-a.example.com", False, NotAHostname),
        ("☕.example.com", False, NotAHostname),
        ("xn--a.example.com", False, NotAHostname),
        ("192.0.2.1", False, IPAddressHost),
        ("localhost", False, SingleLabelHost),
    ],
)
def test_not_claimable(text: str, covers_subdomains: bool, error: type[InvalidHostname]) -> None:
    with pytest.raises(error):
        claimable_name(text, covers_subdomains=covers_subdomains)


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://WWW.Example.com:8443/a?b#c", "www.example.com"),
        ("http://user:password@example.com/", "example.com"),
        ("https://evil.example\\@example.com/", "evil.example"),
        ("https://exam%70le.com/", "example.com"),
        ("https:/example.com/", "example.com"),
        ("https://[2001:db8::1]/", "[2001:db8::1]"),
        ("https://0x7f.1/", "127.0.0.1"),
        ("about:blank", None),
        ("file://example.com/page", None),
        ("javascript://example.com/", None),
        ("//example.com/", None),
        ("https://example.com /", None),
        ("https://example.com:port/", None),
        ("", None),
        ("example.com/page", None),
        ("https://[", None),
    ],
)
def test_host_in_url(url: str, host: str | None) -> None:
    assert host_in_url(url) == host


LONGEST = ".".join(["a" * 60, "b" * 60, "c" * 60, "d" * 60, "e" * 9])


def test_host_has_at_most_253_characters() -> None:
    """RFC 1035, section 2.3.4: 255 octets, including the label lengths."""
    assert len(LONGEST) == 253
    assert canonical_host(LONGEST) == LONGEST
    with pytest.raises(NotAHostname):
        canonical_host(f"{LONGEST}e")
