"""Page scans: compare with a slow oracle, and try patterns designed to be slow."""

import time
import unicodedata
from itertools import pairwise
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.insights import page_scan
from service.insights.page_scan import ScanText, most_terms, scan

# A small alphabet, so that patterns match often and overlap.
TEXT = st.text(alphabet="aAbBß.*{} \n\t\u00a0", max_size=24)
WILDCARDS = st.sampled_from([None, "|", "==", "|||"])


def contains(text: str, term: str, delimiter: str | None) -> bool:
    """Whether the term matches by definition: try every way to place its parts in order."""

    def folded(value: str) -> str:
        words = " ".join(value.casefold().split())
        before, after = value[:1].isspace(), value[-1:].isspace()
        return (" " * before + words + " " * after) if words else " " * before

    recorded = " ".join(text.casefold().split())
    ends = {0}
    own = f"{delimiter}*{delimiter}" if delimiter else "{{*}}"
    for part in map(folded, term.strip().replace(own, "{{*}}").split("{{*}}")):
        ends = {
            start + len(part)
            for start in range(len(recorded) + 1)
            if start >= min(ends) and recorded[start : start + len(part)] == part
        }
        if not ends:
            return False
    return True


@given(TEXT, st.lists(TEXT, min_size=1, max_size=4), WILDCARDS)
def test_scan_finds_what_a_slow_oracle_finds(
    text: str, parts: list[str], delimiter: str | None
) -> None:
    wildcard = "{{*}}" if delimiter is None else f"{delimiter}*{delimiter}"
    term = wildcard.join(parts)
    found = scan(ScanText.of(text), [term], delimiter)
    if not term.strip():
        assert found.found == found.not_found == []
    else:
        assert bool(found.found) == contains(text, term, delimiter)
        assert found.found + found.not_found == [term]


@pytest.mark.parametrize(
    ("recorded", "term"),
    [
        ("la informacio\u0301n", "informaci\u00f3n"),
        ("la informaci\u00f3n", "informacio\u0301n"),
        ("LA INFORMACI\u00d3N", "informacio\u0301n"),
        ("Get a FR\u200bEE iPad", "free"),
        ("auto\u00addialed calls", "autodialed"),
        ("tele\u200bmarketing", "telemarketing"),
        ("a\u2060b\ufeffc\u034fd\u180be", "abcde"),
        ("autodialed", "auto\u00addialed"),
        ("ＦＲＥＥ！", "free!"),
        ("free", "ｆｒｅｅ"),
        ("ﬁnance", "finance"),
        ("x\u3000y", "x y"),
        ("f\u200b", "\u200bf\u200b"),
    ],
)
def test_what_reads_the_same_is_found(recorded: str, term: str) -> None:
    assert scan(ScanText.of(recorded), [term]).found == [term]


@pytest.mark.parametrize(
    ("recorded", "term"),
    [
        ("calls, texts", "calls texts"),
        ("calls…", "calls..."),
        ("don’t", "don't"),
        ("a–b", "a-b"),
        ("informacion", "informaci\u00f3n"),
        ("fr ee", "free"),
    ],
)
def test_punctuation_marks_and_spaces_are_exact(recorded: str, term: str) -> None:
    assert scan(ScanText.of(recorded), [term]).not_found == [term]


@given(
    st.text(max_size=30),
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from("\u00ad\u200b\u2060\ufeff")), max_size=5
    ),
    st.sampled_from(["NFC", "NFD"]),
)
def test_neither_invisible_characters_nor_encoding_hide_a_text(
    term: str, invisible: list[tuple[int, str]], form: Literal["NFC", "NFD"]
) -> None:
    recorded = unicodedata.normalize(form, term)
    for place, character in invisible:
        recorded = recorded[:place] + character + recorded[place:]
    assert scan(ScanText.of(f"x {recorded} x"), [term]).not_found == []


@pytest.mark.parametrize("term", ["\u200b", " \u00ad "])
def test_term_that_nobody_sees_is_blank(term: str) -> None:
    assert scan(ScanText.of("x"), [term]) == scan(ScanText.of("x"), [])


@given(TEXT, TEXT, st.sampled_from([" ", "\n", " \t ", "\u00a0\u2003"]))
def test_every_run_of_white_space_is_equal_to_every_other(
    before: str, after: str, space: str
) -> None:
    text = ScanText.of(f"x{before} {after}x")
    term = f"x{before}{space}{after}x"
    assert scan(text, [term]).found == [term]


@pytest.mark.parametrize(
    ("recorded", "term"),
    [
        ("a" * 1_000_000, "a" * 20_000 + "b"),
        ("a" * 1_000_000, "b" + "a" * 20_000),
        ("a" * 1_000_000, "{{*}}".join(["a" * 30] * 500) + "b"),
        ("ab" * 500_000, "{{*}}".join(["ba"] * 9_000) + "{{*}}bb"),
        (("a" * 999 + "b") * 1000, "a" * 1000),
        (("ab" * 40 + "c") * 12_000, "ab" * 41),
    ],
)
def test_hostile_patterns_take_time_in_proportion_to_the_text(recorded: str, term: str) -> None:
    """Measure growth: a text eight times as long must not take anywhere near 64 times as long."""

    def seconds(text: ScanText) -> float:
        times = []
        for _ in range(3):
            started = time.perf_counter()
            assert scan(text, [term]).not_found == [term]
            times.append(time.perf_counter() - started)
        return min(times)

    lengths = [len(recorded) // 64, len(recorded) // 8, len(recorded)]
    taken = [seconds(ScanText.of(recorded[:length])) for length in lengths]
    for shorter, longer in pairwise(taken):
        assert longer < 32 * max(shorter, 0.001)


@given(st.text(alphabet="aAb \u0301\u00a0\n\uff21", max_size=60), TEXT)
def test_text_in_pieces_is_scanned_like_a_whole_one(recorded: str, term: str) -> None:
    with pytest.MonkeyPatch.context() as patched:
        whole = ScanText.of(recorded)
        found = scan(whole, [term])
        patched.setattr(page_scan, "_PIECE", 3)
        assert ScanText.of(recorded) == whole
        assert scan(whole, [term]) == found


def test_scan_pauses_between_the_pieces_of_a_text_and_not_after_the_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A short text is scanned in the event loop, where each pause would hold up every call."""
    pauses: list[None] = []
    monkeypatch.setattr(page_scan, "_let_others_go_on", lambda: pauses.append(None))
    monkeypatch.setattr(page_scan, "_PIECE", 10)
    scan(ScanText.of("a" * 5), ["b", "ab"])
    assert pauses == []
    scan(ScanText.of("a" * 30), ["b"])
    assert len(pauses) == 2
    pauses.clear()
    scan(ScanText.of("a" * 5), ["b", "ab", "ac", "ad", "ae"])
    assert len(pauses) == 2


def test_a_term_given_often_is_looked_for_once_and_told_as_often() -> None:
    text = ScanText.of("a" * 3_000_000)
    started = time.perf_counter()
    once = scan(text, ["b" + "a" * 300])
    taken = time.perf_counter() - started
    started = time.perf_counter()
    often = scan(text, ["b" + "a" * 300] * 100)
    assert time.perf_counter() - started < 20 * max(taken, 0.001)
    assert often.not_found == once.not_found * 100


def test_terms_and_text_are_bounded_together() -> None:
    assert most_terms(1_000_000) == 50
    assert most_terms(250_000) == 200
    assert most_terms(0) > 200
