"""Checkpoints are trusted for what a known key has signed, and for nothing that looks like it."""

from base64 import b64decode, b64encode

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from service.answers.checkpoints import (
    Checkpoint,
    Signer,
    UntrustedCheckpoint,
    VerifierKey,
    opened,
    parsed_key,
)
from service.answers.jobs import origin_of
from service.errors import InvalidInput

ORIGIN, SEED, ROOT = "leads.example/answers", bytes(range(32)), bytes(range(100, 132))
SIGNER = Signer(ORIGIN, SEED)
NOTE = SIGNER.note(5, ROOT)
TEXT, _, SIGNATURE = NOTE.rpartition("\n\n")
ROOT_LINE = b64encode(ROOT).decode()


def signed(text: str, signer: Signer = SIGNER) -> str:
    """A note with any text, signed by the right key."""
    private = Ed25519PrivateKey.from_private_bytes(SEED)
    signature = b64encode(signer.key.id + private.sign(text.encode())).decode()
    return f"{text}\n— {signer.key.name} {signature}\n"


def test_checkpoint_has_the_form_of_the_specification() -> None:
    assert NOTE.split("\n")[:4] == [ORIGIN, "5", ROOT_LINE, ""]
    assert signed(f"{ORIGIN}\n5\n{ROOT_LINE}\n") == NOTE
    assert opened(NOTE, [SIGNER.key]) == Checkpoint(ORIGIN, 5, ROOT)


def test_key_reads_as_it_was_written() -> None:
    assert parsed_key(f" {SIGNER.key}\n") == SIGNER.key
    # That of another log, which is known to all.
    text = "sum.golang.org+033de0ae+Ac4zctda0e5eza+HJyk9SxEdh+s3Ux18htTTAD8OuAn8"
    assert str(parsed_key(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", "a", "a+b", "a+b+c", "+" * 10, "é+é+é", "a++", str(SIGNER.key)[:-1],
        str(SIGNER.key).replace(ORIGIN, "other.example"), str(SIGNER.key).replace("+AQ", "+Ag"),
        str(SIGNER.key).replace(ORIGIN, ""), f"{SIGNER.key}é", f"{SIGNER.key}+",
        str(VerifierKey("two words", SIGNER.key.public)),
        str(VerifierKey("two\nlines", SIGNER.key.public)),
    ],
)  # fmt: skip
def test_what_is_no_key_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parsed_key(text)


def test_no_character_of_a_checkpoint_can_be_changed() -> None:
    # Of the last characters of base64, not all bits count.
    for at in (*range(len(NOTE) - 4), len(NOTE) - 1):
        for other in ("\n", "0", "é"):
            changed = NOTE[:at] + other + NOTE[at + 1 :]
            if changed != NOTE:
                with pytest.raises(UntrustedCheckpoint):
                    opened(changed, [SIGNER.key])


@pytest.mark.parametrize(
    "note",
    [
        "", "\n", "\n\n", "\n\n\n\n", TEXT, f"{TEXT}\n\n", f"{TEXT}\n\n— \n", f"{TEXT}\n\n—\n",
        f"{TEXT}\n\n— {ORIGIN} é\n", f"{TEXT}\n\n— {ORIGIN}\n", f"{TEXT}\n\n— {ORIGIN} AAAA\n",
        f"{TEXT}\n\n{SIGNATURE.removeprefix('— ')}", f"{TEXT}\n\n-- {SIGNATURE[2:]}",
        f"{ORIGIN}\n6\n{ROOT_LINE}\n\n{TEXT}\n\n{SIGNATURE}",
        f"{TEXT}\nextension\n\n{SIGNATURE}", f"\n{NOTE}", NOTE.replace("\n", "\r\n"),
        f"{TEXT}\n\n{SIGNATURE}\n\n", f"{NOTE}x", NOTE[:-1], f"{TEXT}\n\nx\x85{SIGNATURE}", NOTE * 100,
    ],
)  # fmt: skip
def test_what_is_no_checkpoint_is_refused(note: str) -> None:
    with pytest.raises(UntrustedCheckpoint):
        opened(note, [SIGNER.key])


@pytest.mark.parametrize(
    "text",
    [
        f"{ORIGIN}\n-5\n{ROOT_LINE}\n", f"{ORIGIN}\n05\n{ROOT_LINE}\n", f"{ORIGIN}\n５\n{ROOT_LINE}\n",
        f"{ORIGIN}\n5\n{ROOT_LINE[4:]}\n", f"{ORIGIN}\n5\né\n", f"{ORIGIN}\n{'9' * 5000}\n{ROOT_LINE}\n",
        f"{ORIGIN}\n5\n", f"other\n5\n{ROOT_LINE}\n",
    ],
)  # fmt: skip
def test_signed_text_that_is_no_checkpoint_is_refused(text: str) -> None:
    with pytest.raises(UntrustedCheckpoint):
        opened(signed(text), [SIGNER.key])


def test_signatures_of_others_and_extensions_are_allowed() -> None:
    other = Signer("witness.example/w", bytes(32))
    (witness,) = [line for line in other.note(5, ROOT).split("\n") if line.startswith("—")]
    for note in (f"{TEXT}\n\n{witness}\n{SIGNATURE}", f"{TEXT}\n\n{SIGNATURE}{witness}\n"):
        assert opened(note, [SIGNER.key]).size == 5
        with pytest.raises(UntrustedCheckpoint):
            # It has signed something, but under its own name.
            opened(note, [VerifierKey(ORIGIN, other.key.public)])
    assert opened(signed(f"{TEXT}\nextension\n"), [SIGNER.key]).root == ROOT


def test_known_signature_after_a_broken_one_of_the_same_key_counts() -> None:
    data = b64encode(SIGNER.key.id + bytes(64)).decode()
    assert opened(f"{TEXT}\n\n— {ORIGIN} {data}\n{SIGNATURE}", [SIGNER.key]).size == 5


def test_checkpoint_of_one_log_is_none_of_another_with_the_same_key() -> None:
    staging = Signer("staging.example/answers", SEED)
    theirs = staging.note(5, ROOT)
    data = b64decode(theirs.rstrip().rpartition(" ")[2])[4:]
    passed_off = b64encode(SIGNER.key.id + data).decode()
    with pytest.raises(UntrustedCheckpoint):
        opened(theirs.rpartition("\n\n")[0] + f"\n\n— {ORIGIN} {passed_off}\n", [SIGNER.key])


@pytest.mark.parametrize(
    "origin", ["", "a b", "a+b", f"{ORIGIN}\n1000\n{ROOT_LINE}", "a\u2028b", "a\x85b", "a\tb"]
)
def test_nothing_is_signed_under_a_name_that_could_pass_for_other_lines(origin: str) -> None:
    with pytest.raises(InvalidInput):
        Signer(origin, SEED)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://leads.example", "leads.example/answers"),
        ("http://127.0.0.1:8000", "127.0.0.1:8000/answers"),
        ("http://[::1]:8000", "[::1]:8000/answers"),
        ("https://user:secret@leads.example:8443", "leads.example:8443/answers"),
        ("https://a b+c.example", "a%20b%2Bc.example/answers"),
        ("https://exämple.com", "ex%C3%A4mple.com/answers"),
    ],
)
def test_log_is_called_by_the_host_of_the_service(url: str, origin: str) -> None:
    assert origin_of(url) == origin
    key = Signer(origin_of(url), SEED).key
    assert parsed_key(str(key)) == key
