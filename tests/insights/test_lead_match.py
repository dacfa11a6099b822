"""Lead matching: fingerprints of normalized values, and values that are already fingerprints."""

import base64
import hashlib

from hypothesis import given
from hypothesis import strategies as st

from service.certificates.facts import fingerprint_in
from service.insights.lead_match import email_fingerprints, phone_fingerprints


def sha1(value: str) -> str:
    return hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()


def test_email_address_is_lower_cased_and_nothing_else() -> None:
    assert email_fingerprints(["User@Example.com", "a b@example.com"]) == [
        sha1("user@example.com"),
        sha1("a b@example.com"),
    ]


def test_phone_number_loses_white_space_hyphens_brackets_and_parentheses_alone() -> None:
    same = ["5125551234", "(512) 555-1234", "[512]\t555 \u2010 1234", "512\u2011555\u20111234"]
    assert set(phone_fingerprints(same)) == {"31d46def73ea933393b074e35ff94b3f07fce491"}
    other = phone_fingerprints(["512.555.1234", "+15125551234", "15125551234"])
    assert other == [sha1("512.555.1234"), sha1("+15125551234"), sha1("15125551234")]


def test_blank_values_have_no_fingerprint() -> None:
    assert email_fingerprints(["", "  "]) == phone_fingerprints(["\n"]) == []


@given(st.binary(min_size=20, max_size=20))
def test_every_form_of_a_fingerprint_is_that_fingerprint(digest: bytes) -> None:
    forms = [
        digest.hex(),
        digest.hex().upper(),
        base64.b64encode(digest).decode(),
        f" {digest.hex()}\n",
    ]
    assert {fingerprint_in(form) for form in forms} == {digest.hex()}
    assert set(email_fingerprints(forms) + phone_fingerprints(forms)) == {digest.hex()}


@given(st.text(max_size=60))
def test_whatever_is_sent_has_a_fingerprint_of_forty_hexadecimal_digits(text: str) -> None:
    for fingerprint in email_fingerprints([text]) + phone_fingerprints([text]):
        assert len(bytes.fromhex(fingerprint)) == 20
