"""Lead matching: fingerprints of normalized values, and values that are already fingerprints."""

import base64
import hashlib
import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.certificates.fingerprints import (
    email_fingerprints,
    fingerprint_in,
    phone_fingerprints,
)


def sha1(value: str) -> str:
    return hashlib.sha1(value.encode(), usedforsecurity=False).hexdigest()


def test_email_address_is_lower_cased_and_nothing_else() -> None:
    assert email_fingerprints(["User@Example.com", "a b@example.com"]) == [
        sha1("user@example.com"),
        sha1("a b@example.com"),
    ]


@pytest.mark.parametrize("around", ["{} ", " {}", "{}\n", "\t{}\r\n", "\u00a0{}", "{}\u2003"])
def test_white_space_around_an_email_address_is_tried_with_and_without(around: str) -> None:
    sent = around.format("User@Example.com")
    assert email_fingerprints([sent]) == [sha1(sent.lower()), sha1("user@example.com")]


TEN = sha1("5125551234")


@pytest.mark.parametrize(
    "phone",
    ["5125551234", "(512) 555-1234", "[512]\t555 \u2010 1234", "512\u2011555\u20111234"],
)
def test_published_normalization_of_a_phone_number_is_tried_first(phone: str) -> None:
    assert phone_fingerprints([phone])[0] == TEN == "31d46def73ea933393b074e35ff94b3f07fce491"


@pytest.mark.parametrize(
    "phone",
    [
        "+15125551234",
        "+1 (512) 555-1234",
        "1-512-555-1234",
        "15125551234",
        "512.555.1234",
        "512–555–1234",
        "512—555—1234",
        "512/555/1234",
        "tel:+1-512-555-1234",
        "5125551234x123",
        "512-555-1234 ext. 9",
        "512-555-1234 Extension 12345",
        "+1-512-555-1234;ext=7",
        "512-555-1234 #22",
        "\u202a5125551234\u202c",
        "512\u200b5551234",
        "\uff15\uff11\uff12 555 1234",
    ],
)
def test_phone_number_of_north_america_is_found_however_it_is_written(phone: str) -> None:
    published, *others = phone_fingerprints([phone])
    assert {TEN, sha1("15125551234")} <= {published, *others}


@pytest.mark.parametrize(
    "phone",
    [
        "+5125551234",
        "+44 512 555 1234",
        "0015125551234",
        "512555123",
        "51255512345",
        "1125551234",
        "5120551234",
        "25125551234",
        "512-555-1234 or 512-555-9999",
        "1-800-FLOWERS",
    ],
)
def test_other_phone_number_has_the_published_normalization_alone(phone: str) -> None:
    assert phone_fingerprints([phone]) == [sha1(re.sub(r"[\s\-]", "", phone))]


@given(
    ten=st.from_regex(r"[2-9][0-9]{2}[2-9][0-9]{6}", fullmatch=True),
    others=st.from_regex(r"[2-9][0-9]{2}[2-9][0-9]{6}", fullmatch=True),
    form=st.sampled_from(["{}", "+1{}", "1 {}", "({0:.3}) {0:s}", "{} x{}", "{}, {}"]),
)
def test_phone_number_never_has_anothers_fingerprint(ten: str, others: str, form: str) -> None:
    if ten != others:
        own = {sha1(each) for each in (ten, f"1{ten}", f"+1{ten}")}
        assert not own.intersection(phone_fingerprints([form.format(others, others)]))


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


@pytest.mark.parametrize("filler", [" ", ";", ",", "ext", "x"])
def test_overlong_phone_number_takes_no_time(filler: str) -> None:
    started = time.perf_counter()
    assert len(phone_fingerprints(["1" + filler * 60_000 + "y"])) == 1
    assert time.perf_counter() - started < 1
